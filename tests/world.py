"""How a test in Python begins and ends: in the tests' world (world.sh), and saying what could not be tested here.

Imported first by every test program in Python; importing it enters the world. Crash rule: enters it by exec,
before anything is done.
"""

import faulthandler
import os
import sys
import unittest

SILENT_SECONDS = 240  # after them a test says where it waits; ctest ends it at 300
CANNOT_RUN = 77  # exit code that ctest and ci/test.sh know: nothing was tested
_WORLD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "world.sh")

if "AEP_TEST_WORLD" not in os.environ:
    os.execv(_WORLD, [_WORLD, *sys.orig_argv])
# What these tests start (tools, clients) names its context, or says that it wants none.
os.environ.pop("AEP_CONTEXT", None)


def cannot_run(name, reason):
    """Says that a test could not run; for the summary of ci/test.sh."""
    print(f"CANNOT RUN: {name}: {' '.join(str(reason).split())}", flush=True)


def _tests_in(suite):
    return [test for part in suite for test in (_tests_in(part) if isinstance(part, unittest.TestSuite) else [part])]


def _names(skipped, tests):
    """The tests behind an entry of `skipped`, which may be a whole class."""
    _, _, of_class = skipped.id().partition("setUpClass (")
    if not of_class:
        return [skipped.id().removeprefix("__main__.")]
    return [t.id().removeprefix("__main__.") for t in tests
            if f"{type(t).__module__}.{type(t).__qualname__}" == of_class.rstrip(")")]


class _Runner(unittest.TextTestRunner):
    def run(self, test):
        tests = _tests_in(test)
        result = super().run(test)
        skipped = 0
        for entry, reason in result.skipped:
            for name in _names(entry, tests):
                cannot_run(name, reason)
                skipped += 1
        if result.wasSuccessful() and skipped and skipped == len(tests):
            sys.exit(CANNOT_RUN)
        return result


def main(first_argument):
    """Runs the tests of the file that calls it; the words from `first_argument` on are unittest's."""
    faulthandler.dump_traceback_later(SILENT_SECONDS)
    unittest.main(argv=sys.argv[:1] + sys.argv[first_argument:], testRunner=_Runner)
