#!/usr/bin/env bash
# Builds the release and the check preset and runs every ctest in both.
# Usage: ci/test.sh [CTEST ARGS...], e.g. ci/test.sh -R heap
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
failed=0
for preset in release check; do
    "$root/ci/build.sh" $preset
    (cd "$root" && ctest --preset $preset -j2 --no-tests=error "$@") || failed=1
done
exit $failed
