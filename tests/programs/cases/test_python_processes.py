"""python3's own tests of subprocess, os and posix"""

import pytest
import regrtest

NEEDS = regrtest.NEEDS
pytestmark = pytest.mark.timeout(120)


def test_python_processes(t):
    # As root, some tests start processes of other users: those cannot open this user's pool and have to go on without,
    # which AEP_REQUIRE would forbid.
    t.expect_message(rb"context \S+: no answer at \S+: EACCES \(permission denied\)\n", "processes of other users")
    t.expect_message(rb"pool \S+: cannot open it: EACCES \(permission denied\)\n", "processes of other users")
    t.expect_message(rb"continuing in private mode: .*\n", "processes of other users")
    env = {"AEP_REQUIRE": "0"}
    # The NoPoll and Win32 classes repeat ProcessTestCase with another waiting loop, or do nothing here.
    regrtest.check(t, "test_subprocess", ("POSIXProcessTestCase", "ProcessTestCase", "MiscTests",
                                          "-test_check_output_timeout"), at_least=150, env=env)
    regrtest.check(t, "test_os", at_least=200, env=env)
    regrtest.check(t, "test_posix", at_least=100, env=env)
