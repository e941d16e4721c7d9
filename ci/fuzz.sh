#!/usr/bin/env bash
# Builds the libFuzzer targets with clang and runs each for a bounded time from its seed corpus.
# Usage: ci/fuzz.sh [SECONDS]     (default: 10 for each target, a minute in all)
# A target is build/fuzz/tests/fuzz/fuzz_NAME, its seeds tests/fuzz/corpus/NAME. An input that
# breaks one is kept in build/fuzz/found/ and printed with the command that replays it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ -n "${AEP_TEST_WORLD:-}" ] || exec "$root/tests/world.sh" "$0" "$@"
seconds=${1:-10}
"$root/ci/setup.sh" build test
"$root/ci/build.sh" fuzz
found=$root/build/fuzz/found
mkdir -p "$found"
AEP_FUZZ_DIR=$(mktemp -d /dev/shm/aep-fuzz.XXXXXX)
export AEP_FUZZ_DIR
trap 'rm -rf "$AEP_FUZZ_DIR"' EXIT
passed=0
failed=0
for target in "$root"/build/fuzz/tests/fuzz/fuzz_*; do
    if [ ! -f "$target" ] || [ ! -x "$target" ]; then continue; fi
    name=${target##*/fuzz_}
    new=$root/build/fuzz/corpus/$name
    mkdir -p "$new"
    seeds=("$root/tests/fuzz/corpus/$name")
    [ -d "${seeds[0]}" ] || seeds=()
    echo "fuzz: $name, $seconds s"
    log=$found/$name.log
    if "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$found/$name-" "$new" "${seeds[@]}" >"$log" 2>&1; then
        passed=$((passed + 1))
        grep -E 'number_of_executed_units|^Done' "$log"
    else
        failed=$((failed + 1))
        tail -n 60 "$log"
        echo "fuzz: $name FAILED; replay: $target $found/$name-<input>"
    fi
done
echo "fuzz: $passed passed, $failed failed"
[ "$passed" -gt 0 ] && [ "$failed" = 0 ]
