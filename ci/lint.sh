#!/usr/bin/env bash
# Layout (clang-format), shell scripts (shellcheck), source rules (include graph, opening comments, file sizes), and what
# clang sees in the product (thread safety, .clang-tidy). Usage: ci/lint.sh
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/ci/setup.sh" test
cd "$root"
failed=0
tracked() { git ls-files -z --cached --others --exclude-standard -- "$@"; }

tracked '*.c' '*.h' '*.cpp' '*.hpp' | xargs -0r clang-format --dry-run -Werror || failed=1
tracked '*.sh' aep .ci/run packaging/ocf/aep | xargs -0r shellcheck || failed=1
python3 ci/source_rules.py || failed=1
# With the headers that a build makes.
ci/build.sh release aep_image aep_provider
python3 ci/clang.py || failed=1
exit $failed
