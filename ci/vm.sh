#!/usr/bin/env bash
# Machines on one pool: three in QEMU without KVM, each with the patched kernel, this system's programs,
# its own context and daemon, share a DAX device. Objects go from one to another; machines lose power in
# the middle of that; the others recover them.
# Usage: ci/vm.sh            short: one death in the middle of traffic; some minutes, and ten more when the
#                            kernel has to be built. Each test goes on with what the former one left, so
#                            the first that fails ends the run
#        ci/vm.sh --long     nine deaths
#        ci/vm.sh --cxl      two machines with a CXL memory device each, of one memory, by the commands of
#                            docs/guide/cxl.md: shows what they print
#        ci/vm.sh --only TEST...   e.g. Machines.test_1_only_an_empty_device_becomes_a_pool
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/ci/setup.sh" kernel build
rounds=1
program=vm_test
tests=()
case ${1:-} in
--long) rounds=9 ;;
--cxl)
    program=cxl_test
    tests=("${@:2}")
    ;;
--only) tests=("${@:2}") ;;
esac
"$root/ci/build.sh" release aepmalloc aep aepd aep_completer sharing_peer example_hello example_list example_rpc
image=$("$root/kernel/qemu/build.sh")
AEP_TEST_ROUNDS=$rounds python3 "$root/tests/vm/$program.py" "$root/build/release/tools" \
    "$root/build/release/tests/sharing/sharing_peer" "$image" -v --failfast "${tests[@]}"
