#!/usr/bin/env bash
# Builds the patched kernel (kept outside the checkout; again only when the series or the configuration
# changes), boots it in QEMU without KVM, and runs its selftests there, each also as a negative control.
# Usage: ci/kernel.sh            short: 40 kills of each kind; ten minutes when the kernel has to be built, as
#                                many for the provider
#        ci/kernel.sh --long [PART...]   1000 kills of each kind; 4 and 5 levels of page tables, with and
#                                without page table isolation; kernels with lockdep and with KASAN; checkpatch.
#                                Hours; its parts: checkpatch levels4 provider isolated levels5
#                                levels5_isolated lockdep kasan
#        ci/kernel.sh --only PREFIX...   the tests whose names begin so
#        ci/kernel.sh --provider [ARGS...]   the allocator on it: tests/kernel/provider.sh ARGS
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/ci/setup.sh" kernel
qemu=$root/kernel/qemu
out=$root/build/kernel
mkdir -p "$out"
make -s -C "$root/kernel/selftests" OUT="$out"

work=$(mktemp -d /dev/shm/aep-kernel.XXXXXX)
trap 'rm -rf "$work"' EXIT
truncate -s 128M "$work/pool"

# Two nodes of memory, and a device of it.
boot() { #  NAME IMAGE KILLS [run.sh OPTIONS] -- [ARGS...]
    local name=$1 image=$2 kills=$3 options=() append="numa=fake=2"
    shift 3
    while [ "$1" != -- ]; do
        if [ "$1" = --append ]; then append+=" $2"; else options+=("$1" "$2"); fi
        shift 2
    done
    shift
    echo "kernel: $name"
    "$qemu/run.sh" --env "KILLS=$kills" --append "$append" --pool "$work/pool" "${options[@]}" \
        "$image" "$out/selftest" "$@"
}

if [ "${1:-}" = --only ]; then
    shift
    boot "chosen tests" "$("$qemu/build.sh")" 60 -- "$@"
    exit
fi
image=$("$qemu/build.sh")

# The allocator on this kernel, with this machine's programs.
provider() { # ARGS of provider.sh...
    "$root/ci/build.sh" release
    echo "kernel: the provider"
    (cd "$root" && "$qemu/system.sh" --memory 4G --timeout 14400 "$image" tests/kernel/provider.sh "$@")
}

if [ "${1:-}" = --provider ]; then
    shift
    provider "$@"
    exit
fi
if [ "${1:-}" != --long ]; then
    boot "4 levels" "$image" 40 --
    provider --kills 40 programs processes torture control
    exit
fi

checkpatch() {
    tar -C "$work" -xf /usr/src/linux-source-6.12.tar.xz --strip-components=1 --wildcards \
        '*/scripts/checkpatch.pl' '*/scripts/const_structs.checkpatch' '*/scripts/spelling.txt'
    local patch
    for patch in "$root"/kernel/patches/*.patch; do
        (cd "$work" && perl scripts/checkpatch.pl --no-tree --strict --quiet --ignore SPDX_LICENSE_TAG "$patch")
    done
}

debugging() { # NAME KILLS [run.sh OPTIONS] -- CONFIG_... : a kernel that looks at itself
    local name=$1 kills=$2 options=()
    shift 2
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    boot "$name" "$("$qemu/build.sh" "$@")" "$kills" --timeout 3600 "${options[@]}" -- --no-control
}

part() { # NAME
    case $1 in
    checkpatch) checkpatch ;;
    levels4) boot "4 levels" "$image" 1000 --timeout 3600 -- ;;
    provider) provider --kills 2000 ;;
    isolated) boot "4 levels, isolated page tables" "$image" 100 --append pti=on --timeout 1800 -- --no-control ;;
    levels5) boot "5 levels" "$image" 100 --cpu max --timeout 1800 -- --no-control ;;
    levels5_isolated)
        boot "5 levels, isolated page tables" "$image" 100 --cpu max --append pti=on --timeout 1800 -- --no-control
        ;;
    lockdep)
        debugging "lockdep" 200 -- CONFIG_DEBUG_KERNEL=y CONFIG_PROVE_LOCKING=y CONFIG_DEBUG_VM=y \
            CONFIG_DEBUG_ATOMIC_SLEEP=y CONFIG_DEBUG_LIST=y
        ;;
    kasan)
        debugging "KASAN" 100 --memory 1G -- CONFIG_SLUB_TINY=n CONFIG_KASAN=y CONFIG_KASAN_GENERIC=y \
            CONFIG_STACKTRACE=y
        ;;
    *)
        echo "kernel: --long has no part '$1'" >&2
        exit 2
        ;;
    esac
}

shift
if [ $# = 0 ]; then
    set -- checkpatch levels4 provider isolated levels5 levels5_isolated lockdep kasan
fi
echo "kernel: LAM (linear address masking): not tested, no CPU model of this QEMU has it"
for name in "$@"; do
    part "$name"
done
