#!/usr/bin/env bash
# Builds the hosted core and its tests with AddressSanitizer and with ThreadSanitizer; runs them.
# Usage: ci/sanitize.sh [CTEST ARGS...]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# GCC 12's ThreadSanitizer cannot live with the wide address randomisation of newer kernels.
fixed=()
if setarch -R true 2>/dev/null; then fixed=(setarch -R); fi

failed=0
for preset in asan tsan; do
    "${fixed[@]}" "$root/ci/build.sh" $preset
    "${fixed[@]}" "$root/ci/ctest.sh" $preset -j2 "$@" || failed=1
done
exit $failed
