"""python3's own tests of threads, queues, fork and the garbage collector"""

import pytest
import regrtest

NEEDS = regrtest.NEEDS
pytestmark = pytest.mark.timeout(120)


def test_python_threads(t):
    for module, count in (("test_thread", 15), ("test_threading", 120), ("test_threading_local", 15),
                          ("test_gc", 30), ("test_fork1", 1)):
        regrtest.check(t, module, at_least=count)
