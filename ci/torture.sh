#!/usr/bin/env bash
# Kills clients of a context in every way and at every named point, checks after each kill that nothing
# is broken, waits or is lost; then shows that the same run fails when nothing keeps operations whole.
# First the clients of one context, then those of two nodes on one pool, nodes themselves included; all of it
# again as an ordinary user, whose operations are undone, on three nodes, too.
# Usage: ci/torture.sh [KILLS]     (default: 120, a fifth as many on nodes; about a third of a second each)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ -n "${AEP_TEST_WORLD:-}" ] || exec "$root/tests/world.sh" "$0" "$@"
"$root/ci/setup.sh" build
"$root/ci/build.sh" release
exec 2>&1 # what is left out is for the summary
# Patient: that nothing hangs is also to be seen on a machine with much else to do.
kills=${1:-120}
torture=("$root/build/release/tools/aep-torture" --patience 5)
"${torture[@]}" --kills "$kills"
echo "torture: two nodes"
"${torture[@]}" --nodes 2 --kills "$((kills / 5))"
echo "torture: negative control, no provider"
"${torture[@]}" --provider none --expect-poison --kills 300

# The same guarantee for everybody: as an ordinary user, who may not even read this checkout.
place=$(mktemp -d /tmp/aep-torture.XXXXXX)
trap 'rm -rf "$place"' EXIT
chmod 755 "$place"
cd "$root/build/release"
cp --parents tools/{aepd,aep-torture,aep-torture-victim} preload/libaepmalloc.so \
    aep-lib/{image/aep-image,completer/aep-completer} "$place"
user=()
if [ "$(id -u)" = 0 ]; then user=(setpriv --reuid 65534 --regid 65534 --clear-groups --); fi
torture=("${user[@]}" "$place/tools/aep-torture" --patience 5 --provider rollback)
cd /
echo "torture: rollback, an ordinary user"
"${torture[@]}" --kills "$kills"
for nodes in 2 3; do
    echo "torture: rollback, an ordinary user, $nodes nodes"
    "${torture[@]}" --nodes $nodes --kills "$((kills / 5))"
done
