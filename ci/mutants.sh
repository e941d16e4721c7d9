#!/usr/bin/env bash
# Changes that an engineer would fear, made one at a time in a build of its own: do the tests notice? Long: an hour or
# two; not part of ./aep test. The list and how it grows: tests/mutants/README.md. Needs root.
# Usage: ci/mutants.sh [--only REGEX]... [--left] [--no-traps] [--tests REGEX] [--within SECONDS] [-j WORKERS] [--least PERCENT]
# The report is build/mutants/report.json.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/ci/setup.sh" build test
place=$root/build/mutants
mkdir -p "$place"
exec 9>"$place/.lock"
flock 9
"$root/tests/mutants/write_sources.py" "$place/source"
export CCACHE_BASEDIR=$place/source
build() { # what those tests need that are to notice the mutants
    local names one needed targets=()
    cmake -G Ninja -S "$place/source" -B "$place/built" -DCMAKE_BUILD_TYPE=Release -DAEP_BENCH=OFF || return
    names=$("$root/tests/mutants/run.py" "$place/built" --name-tests "$@") || return
    while read -r one; do # each by itself: ctest knows few groups in an expression
        needed=$("$root/ci/test_targets.py" "$place/built" -R "$one") || return
        mapfile -t -O "${#targets[@]}" targets <<<"$needed"
    done <<<"$names"
    mapfile -t targets < <(printf '%s\n' "${targets[@]}" | sort -u | grep .)
    cmake --build "$place/built" -j "$(nproc)" --target "${targets[@]}"
}
build "$@" >"$place/build.log" 2>&1 || {
    echo "mutants: the build failed; $place/build.log says:" >&2
    grep -nE -m 1 -A 40 '^FAILED|CMake Error' "$place/build.log" >&2 || tail -n 40 "$place/build.log" >&2
    exit 1
}
exec "$root/tests/mutants/run.py" "$place/built" "$@" 9>&-
