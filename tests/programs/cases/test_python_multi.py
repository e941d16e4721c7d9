"""python3's own tests of multiprocessing with fork: pools, managers, queues, shared memory"""

import pytest
import regrtest

NEEDS = regrtest.NEEDS
pytestmark = pytest.mark.timeout(150)


def test_python_multi(t):
    # Left out: what only waits for timeouts (several seconds each), and the classes that use threads alone.
    regrtest.check(t, "test_multiprocessing_fork",
                   ("WithProcesses*", "WithManagerTestPool", "WithManagerTestContainers", "TestResourceTracker",
                    "TestForkAwareThreadLock", "TestNoForkBomb", "TestSimpleQueue", "TestStartMethod", "TestCloseFds",
                    "TestInitializers", "OtherTest", "-test_thread_safety", "-test_poll_eintr", "-test_boundaries",
                    "-test_issue14725", "-*timeout*", "-WithProcessesTestBarrier", "-WithProcessesTestCondition"),
                   at_least=120)
