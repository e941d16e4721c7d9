#!/usr/bin/env bash
# Builds the release and the check preset and runs their ctests, all but those labelled `programs`,
# which are ci/programs.sh's. With arguments it runs what they choose instead, in both.
# Usage: ci/test.sh [CTEST ARGS...], e.g. ci/test.sh -R heap
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/ci/setup.sh" build test
failed=0
tests() { # PRESET ARGS of ctest...
    "$root/ci/build.sh" "$1"
    # More at a time than processors: half of them wait for processes.
    (cd "$root" && ctest --preset "$1" -j $(($(nproc) * 2)) --no-tests=error "${@:2}") || failed=1
}
if [ $# -gt 0 ]; then
    tests release "$@"
    tests check "$@"
else
    tests release -LE programs
    # The checked build walks the heap. The protocol between nodes, the provider and the daemon are
    # the same code in both, with the same checks in their tests.
    tests check -LE "programs|era|provider|node"
fi
exit $failed
