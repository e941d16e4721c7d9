#!/usr/bin/env python3
"""Names what has to be built for the tests that ctest's arguments choose, one ninja target a line.

Usage: ci/test_targets.py BUILD_DIR [CTEST ARGS...]; the folder must be configured.
Called by ci/test.sh. A test needs the files and folders of the build that its command and its environment
name. A GoogleTest binary that was never built has no tests yet: it is needed if -R fits the name of one
in its sources, and always if there is no -R.
"""

import json
import os
import re
import subprocess
import sys

TEST = re.compile(r"^\s*(?:TYPED_)?TEST(?:_F|_P)?\(\s*(\w+)\s*,\s*(\w+)\s*\)", re.M)
NOT_BUILT = "_NOT_BUILT"


def shown(build, arguments):
    """The tests that ctest would run, as it describes them."""
    done = subprocess.run(["ctest", "--test-dir", build, "-N", "--show-only=json-v1", *arguments],
                          check=True, capture_output=True, text=True)
    return json.loads(done.stdout[done.stdout.index("{"):])["tests"]


def words_of(test):
    """The paths that the test's command and environment may hold."""
    yield from test.get("command", [])
    for entry in test.get("properties", []):
        if entry["name"] == "ENVIRONMENT":
            yield from (word.partition("=")[2] for word in entry["value"])


def sources_of(build):
    """target -> its source files."""
    with open(f"{build}/compile_commands.json", encoding="utf-8") as commands:
        found = {}
        for unit in json.load(commands):
            target = re.search(r"CMakeFiles/([^/]+)\.dir/", unit["command"].partition(" -o ")[2])
            if target:
                found.setdefault(target[1], []).append(unit["file"])
        return found


def may_hold(sources, pattern):
    """Whether a test in them has a name that the pattern fits; those of ctest have their folder before."""
    for source in sources:
        folder = os.path.basename(os.path.dirname(source))
        with open(source, encoding="utf-8") as text:
            for suite, name in TEST.findall(text.read()):
                if pattern.search(f"{folder}.{suite}.{name}") or pattern.search(f"{suite}.{name}"):
                    return True
    return False


def main():
    build, arguments = os.path.abspath(sys.argv[1]), sys.argv[2:]
    targets = set()
    for test in shown(build, arguments):
        for word in words_of(test):
            path = os.path.normpath(word)
            if path == build:
                targets.add("all")  # it installs all of it
            elif path.startswith(build + os.sep):
                target = os.path.relpath(path, build)
                targets.add(f"{target}/all" if os.path.isdir(path) else target)
    chosen = [after for before, after in zip(arguments, arguments[1:]) if before in ("-R", "--tests-regex")]
    pattern = re.compile(chosen[-1] if chosen else "")
    unbuilt = [t["name"].removesuffix(NOT_BUILT) for t in shown(build, []) if t["name"].endswith(NOT_BUILT)]
    sources = sources_of(build) if unbuilt else {}
    targets.update(target for target in unbuilt if may_hold(sources.get(target, []), pattern))
    print("\n".join(sorted(targets)))


if __name__ == "__main__":
    main()
