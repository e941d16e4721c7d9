#!/usr/bin/env bash
# Builds the release and the check preset and runs their ctests, all but those labelled `programs`,
# which are ci/programs.sh's. With arguments it runs what they choose instead.
# Usage: ci/test.sh [CTEST ARGS...], e.g. ci/test.sh -R heap
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/ci/setup.sh" build test
[ $# -gt 0 ] || set -- -LE programs
failed=0
for preset in release check; do
    "$root/ci/build.sh" $preset
    # More at a time than processors: half of them wait for processes.
    (cd "$root" && ctest --preset $preset -j $(($(nproc) * 2)) --no-tests=error "$@") || failed=1
done
exit $failed
