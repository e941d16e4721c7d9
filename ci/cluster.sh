#!/usr/bin/env bash
# Nodes that corosync tells of each other, for long: faults at random on five machines, each a network namespace here; and three machines
# whose contexts real pacemakers start, watch, stop and fence (some minutes).
# Usage: ci/cluster.sh [ROUNDS [SEED]]     (default: 20, of about a quarter of a minute each)
# Called by people; ci/test.sh runs the short form (ctest -L cluster). Needs root.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/ci/setup.sh" build test cluster
"$root/ci/build.sh" release aep aepd aep_corosync sharing_peer
/usr/bin/python3 "$root/tests/cluster/pacemaker.py" "$root/build/release/tools" \
    "$root/build/release/tests/sharing/sharing_peer" -v
AEP_TEST_ROUNDS=${1:-20} AEP_TEST_SEED=${2:-11} /usr/bin/python3 "$root/tests/cluster/long.py" "$root/build/release/tools" \
    "$root/build/release/tests/sharing/sharing_peer" -v
