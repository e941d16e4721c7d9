#!/usr/bin/env python3
"""Names the tests of a ctest run that failed, and those that the machine or the user's rights made impossible, and why.

Usage: ci/outcomes.py JUNIT_FILE     (from ctest --output-junit)
Called by ci/test.sh and ci/sanitize.sh. What a test says of itself is a line `CANNOT RUN: NAME: REASON`
(tests/README.md), on a passed test, too, that has parts; ./aep takes these lines and those of failed tests into its summary. Exits 1 when
a test was not run for another reason: such a test is no success.
"""

import re
import sys
import xml.etree.ElementTree

SAID = re.compile(r"^CANNOT RUN: (\S+): (.*)$", re.M)
SKIPPED = ("SKIP_RETURN_CODE", "SKIP_REGULAR_EXPRESSION")


def main():
    cannot, lost, failed, passed = {}, [], [], 0
    for case in xml.etree.ElementTree.parse(sys.argv[1]).getroot().iter("testcase"):
        name, skipped = case.get("name").partition("  # GetParam()")[0], case.find("skipped")
        said = dict(SAID.findall(case.findtext("system-out") or ""))
        if skipped is not None and not (said or skipped.get("message", "").startswith(SKIPPED)):
            lost.append(f"{name}: {skipped.get('message')}")
        elif skipped is not None and len(said) < 2:  # the test has the name that ctest knows it by
            cannot[name] = next(iter(said.values()), "no reason is given")
        else:
            cannot.update({f"{name}/{part}": why for part, why in said.items()})
            passed += skipped is None and case.get("status") == "run"
            if case.get("status") == "fail":
                failed.append(name)
    print(f"passed: {passed}; cannot run here: {len(cannot)}" + "".join(
        f"\nCANNOT RUN: {name}: {why}" for name, why in sorted(cannot.items())))
    for name in failed:
        print(f"FAILED: {name}")
    for line in lost:
        print(f"NOT RUN: {line}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
