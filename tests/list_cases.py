#!/usr/bin/env python3
"""Names the cases of a test program in Python, one a line as CLASS.TEST, without running one.

Usage: tests/list_cases.py FILE
Called by aep_add_cases (CMakeLists.txt) when the tests are configured.
"""

import importlib.util
import os
import sys
import unittest


def cases_in(suite):
    for part in suite:
        if isinstance(part, unittest.TestSuite):
            yield from cases_in(part)
        else:
            yield part.id().partition(".")[2]


def main():
    path = os.path.abspath(sys.argv[1])
    sys.argv = [path] + ["-"] * 8  # what such a program reads of its words when it is imported
    sys.path.insert(0, os.path.dirname(path))
    os.environ["AEP_TEST_WORLD"] = "1"  # nothing is run
    sys.dont_write_bytecode = True
    spec = importlib.util.spec_from_file_location("cases", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    print("\n".join(sorted(cases_in(unittest.defaultTestLoader.loadTestsFromModule(module)))))


if __name__ == "__main__":
    main()
