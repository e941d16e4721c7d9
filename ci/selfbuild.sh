#!/usr/bin/env bash
# The project builds itself on its own allocator: cmake, ninja, the compiler and the linker run
# under libaepmalloc.so: first the library with its image, in private mode, then the daemon, too,
# with all of them sharing one pool file.
# The machine code that comes out must be that of the ordinary build, byte for byte.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ -n "${AEP_TEST_WORLD:-}" ] || exec "$root/tests/world.sh" "$0" "$@"
"$root/ci/build.sh" release
lib=$root/build/release/preload/libaepmalloc.so
pools=$(mktemp -d /dev/shm/aep-selfbuild.XXXXXX)
trap 'rm -rf "$pools"' EXIT

# The loader only warns when it cannot preload, so ask a process what it has mapped.
LD_PRELOAD=$lib grep -q libaepmalloc.so /proc/self/maps

machine_code() { objcopy -O binary --only-section=.text "$1" /dev/stdout | sha256sum; }

selfbuild() { # NAME TARGETS VARIABLE=VALUE...
    local dir=$root/build/self/$1 targets
    local log=$dir.log
    read -ra targets <<<"$2"
    rm -rf "$dir"
    mkdir -p "$dir"
    echo "selfbuild: $1"
    # ccache off: everything is to be compiled, here and now.
    (cd "$root" && export "CCACHE_DISABLE=1" "LD_PRELOAD=$lib" "${@:3}" &&
        cmake --preset release -B "$dir" && cmake --build "$dir" -j2 -t "${targets[@]}") >"$log" 2>&1 || {
        tail -n 40 "$log"
        echo "selfbuild: $1 FAILED ($log)"
        return 1
    }
    if grep -n 'aep: ' "$log"; then
        echo "selfbuild: $1 FAILED: the allocator complained (above; $log)"
        return 1
    fi
    if [ "$(machine_code "$dir/preload/libaepmalloc.so")" != "$(machine_code "$lib")" ]; then
        echo "selfbuild: $1 FAILED: the compiler wrote other code than without our allocator"
        return 1
    fi
    echo "selfbuild: $1 passed: $(grep -c '^\[' "$log") steps, same machine code"
}

failed=0
selfbuild private "aepmalloc" || failed=$((failed + 1))
selfbuild pool "aepmalloc aepd" AEP_POOL="$pools/pool" AEP_POOL_SIZE=6G || failed=$((failed + 1))
echo "selfbuild: $((2 - failed)) passed, $failed failed"
[ $failed = 0 ]
