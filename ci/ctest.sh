#!/usr/bin/env bash
# Runs ctest of a preset that is built, and names the tests that cannot run here after its summary.
# Usage: ci/ctest.sh PRESET [CTEST ARGS...]
# Called by test.sh, sanitize.sh and surroundings.sh. AEP_TEST_DIR is another place for ctest's own files than the
# build folder, for a user who may not write there; the tests are the same.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build/$1
place=${AEP_TEST_DIR:-$build}
if [ "$place" != "$build" ]; then # they name programs of the build by their paths
    (cd "$build" && find . -path ./Testing -prune -o -name CTestTestfile.cmake -exec cp --parents -t "$place" {} +)
fi
failed=0
ctest --test-dir "$place" --output-on-failure --no-tests=error --test-output-size-passed 1000000 \
    --output-junit "$place/ctest.xml" "${@:2}" || failed=1
/usr/bin/python3 "$root/ci/outcomes.py" "$place/ctest.xml" || failed=1
exit $failed
