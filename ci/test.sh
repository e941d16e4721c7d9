#!/usr/bin/env bash
# Builds the release and the check preset and runs their ctests, all but those labelled `programs`,
# which are ci/programs.sh's. With arguments it builds and runs what they choose instead, and nothing else, in both.
# The release run is among surroundings that must not matter: ci/surroundings.sh.
# Usage: ci/test.sh [CTEST ARGS...], e.g. ci/test.sh -R heap
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/ci/setup.sh" build test
failed=0
chosen=${1:-}
tests() { # PRESET [WORDS before ctest...] -- ARGS of ctest...
    local before=() preset=$1
    shift
    while [ "$1" != -- ]; do
        before+=("$1")
        shift
    done
    shift
    local targets=()
    if [ -n "$chosen" ]; then
        "$root/ci/build.sh" "$preset" build.ninja # so that the tests are known
        local of_tests
        of_tests=$("$root/ci/test_targets.py" "$root/build/$preset" "$@")
        # shellcheck disable=SC2206 # one a line
        targets=($of_tests)
        [ ${#before[@]} = 0 ] || targets+=(aep)
        [ ${#targets[@]} -gt 0 ] || targets=(build.ninja)
    fi
    "$root/ci/build.sh" "$preset" "${targets[@]}"
    # More at a time than processors: half of them wait for processes.
    "${before[@]}" "$root/ci/ctest.sh" "$preset" -j $(($(nproc) * 2)) "$@" || failed=1
}
among=("$root/ci/surroundings.sh" among)
if [ $# -gt 0 ]; then
    tests release "${among[@]}" -- "$@"
    tests check -- "$@"
else
    tests release "${among[@]}" -- -LE programs
    # The checked build walks the heap. The protocol between nodes, the provider, the daemon and its membership are
    # the same code in both, with the same checks in their tests; system calls fail in both the same way.
    tests check -- -LE "programs|era|provider|node|inject|cluster"
fi
exit $failed
