#!/usr/bin/env python3
"""The library's binary interface beside that of the last release: programs that were linked with that one must go on.

Usage: abi.py LIBRARY [RELEASE]     compares (abidiff): functions may have come, nothing else may have changed,
                                  not what abidiff calls harmless either. Exits 1 with what has.
       abi.py LIBRARY --release     writes the library's to packaging/abi/SONAME.abi: when a release is made, and then only
Called by tests/package/abi.py, and by whoever releases. The library needs its debug information.
"""

import os
import re
import subprocess
import sys

PLACE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "abi")
HEADERS = os.path.join(os.path.dirname(os.path.dirname(PLACE)), "include/aep")


def run(*words, may_fail=False):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0 and not may_fail:
        sys.exit(f"abi.py: {words[0]} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def interface_of(library):
    """As text that says nothing of where and how it was built."""
    return run("abidw", "--headers-dir", HEADERS, "--exported-interfaces-only", "--drop-private-types", "--no-show-locs",
               "--no-comp-dir-path", "--no-corpus-path", "--type-id-style", "hash", library).stdout


def release_of(library):
    soname = re.search(r"SONAME.*\[(.*)\]", run("readelf", "-d", library).stdout)
    return os.path.join(PLACE, f"{soname[1]}.abi")


def main():
    library = sys.argv[1]
    release = sys.argv[2] if len(sys.argv) > 2 else release_of(library)
    if release == "--release":
        with open(release_of(library), "w", encoding="utf-8") as file:
            file.write(interface_of(library))
        return 0
    if not os.path.exists(release):
        sys.exit(f"abi.py: no release to compare with: {release}")
    done = run("abidiff", "--no-added-syms", "--harmless", release, library, may_fail=True)
    print(done.stdout + done.stderr, end="")
    return 0 if done.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
