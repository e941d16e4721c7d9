#!/usr/bin/env bash
# Kills clients of a context in every way and at every named point, checks after each kill that nothing
# is broken, waits or is lost; then shows that the same run fails when nothing completes operations.
# First the clients of one context, then those of two nodes on one pool, nodes themselves included.
# Usage: ci/torture.sh [KILLS]     (default: 200, a fifth as many on nodes; about a third of a second each)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ -n "${AEP_TEST_WORLD:-}" ] || exec "$root/tests/world.sh" "$0" "$@"
"$root/ci/setup.sh" build
"$root/ci/build.sh" release
exec 2>&1 # what is left out is for the summary
# Patient: that nothing hangs is also to be seen on a machine with much else to do.
torture=("$root/build/release/tools/aep-torture" --patience 5)
"${torture[@]}" --kills "${1:-200}"
echo "torture: two nodes"
"${torture[@]}" --nodes 2 --kills "$((${1:-200} / 5))"
echo "torture: negative control, no provider"
"${torture[@]}" --provider none --expect-poison --kills 300
