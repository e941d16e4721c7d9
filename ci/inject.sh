#!/usr/bin/env bash
# Lets system calls of the library, the daemon and the tools fail, each once, and judges what comes of it.
# Usage: ci/inject.sh [--all] [CTEST ARGS...]
#     without --all: what ctest runs, too: a sample of the call sites, each by one way with one error, some seconds a case
#     --all: each call of each way with each error that it can say: some thousand runs, an hour or more
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ "${1:-}" = --all ]; then
    shift
    export AEP_TEST_INJECT_ALL=1
fi
"$root/ci/setup.sh" build test
"$root/ci/build.sh" release inject inject_scenario aepd aep aepmalloc aep_image
if [ -n "${AEP_TEST_INJECT_ALL:-}" ]; then set -- --timeout 20000 "$@"; fi
exec "$root/ci/ctest.sh" release -L inject -j "$(nproc)" "$@"
