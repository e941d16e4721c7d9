#!/usr/bin/env bash
# Configures and builds one preset: quiet, progress on one line, the log on failure. A warning of gcc is one.
# Usage: ci/build.sh [PRESET] [TARGET...]     (default: release, every target)
# Called by ./aep and by the other jobs. Two at once wait for each other.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
preset=${1:-release}
shift || true
"$root/ci/setup.sh" build
cd "$root"
mkdir -p "build/$preset"
exec 9>"build/$preset/.lock"
flock 9
log=build/$preset/build.log
export CCACHE_BASEDIR=$root

# Ninja's "[done/total] what" lines become one line on a terminal, nothing elsewhere.
progress() {
    local line
    while IFS= read -r line; do
        if [ -t 2 ] && [[ $line == \[*/*\]* ]]; then
            printf '\raep: building %s %.60s\e[K' "$preset" "${line%% *}" >&2
        fi
    done
    if [ -t 2 ]; then printf '\r\e[K' >&2; fi
}

fail() {
    echo "aep: building $preset failed; $root/$log says:" >&2
    grep -nE -m 1 -A 40 '^FAILED|CMake Error' "$log" >&2 || tail -n 40 "$log" >&2
    exit 1
}

# What ninja finds changed it configures anew itself.
: >"$log"
if ! [ "build/$preset/build.ninja" -nt CMakePresets.json ] ||
    ! grep -qs '^AEP_WERROR:[A-Z]*=ON$' "build/$preset/CMakeCache.txt"; then
    cmake --preset "$preset" -DAEP_WERROR=ON >"$log" 2>&1 || fail
fi
cmake --build --preset "$preset" -j "$(nproc)" ${@:+--target "$@"} 2>&1 |
    tee -a "$log" | progress || fail
