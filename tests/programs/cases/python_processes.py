"""python3's own tests of subprocess, os and posix"""

import regrtest

NEEDS = regrtest.NEEDS
TIMEOUT = 120


def run(t):
    # The NoPoll and Win32 classes repeat ProcessTestCase with another waiting loop, or do nothing here.
    regrtest.check(t, "test_subprocess", ("POSIXProcessTestCase", "ProcessTestCase", "MiscTests",
                                          "-test_check_output_timeout"), at_least=150)
    regrtest.check(t, "test_os", at_least=200)
    regrtest.check(t, "test_posix", at_least=100)
