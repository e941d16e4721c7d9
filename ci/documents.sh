#!/usr/bin/env bash
# Types what the README, the quick start and the guides tell people to type, in a fresh copy of the sources: documents.py.
# Usage: ci/documents.sh [PAGE...]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/ci/setup.sh" build demo package
exec /usr/bin/python3 "$root/ci/documents.py" "$@"
