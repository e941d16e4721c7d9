#!/usr/bin/env bash
# Runs the real programs of tests/programs (python3, redis, PostgreSQL ...) on our heap, every
# mode, with checked output, among surroundings that must not matter (surroundings.sh).
# Usage: ci/programs.sh [PYTEST ARGS...], e.g. ci/programs.sh -k git
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/ci/setup.sh" build test programs
"$root/ci/build.sh" release
exec "$root/ci/surroundings.sh" among "$root/tests/world.sh" /usr/bin/python3 -m pytest "$root/tests/programs" "$@"
