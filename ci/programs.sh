#!/usr/bin/env bash
# Runs the real programs of tests/programs (python3, redis, PostgreSQL ...) on our heap, every
# mode, with checked output, among surroundings that must not matter (surroundings.sh).
# Usage: ci/programs.sh [ARGS for tests/programs/run.py]     (default: --all)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/ci/setup.sh" build programs
"$root/ci/build.sh" release
[ $# -gt 0 ] || set -- --all
exec "$root/ci/surroundings.sh" among /usr/bin/python3 "$root/tests/programs/run.py" "$@"
