#!/usr/bin/env bash
# Purpose: builds the patched kernel that run.sh boots, and prints the path of its image.
#          The image is kept outside the checkout, under a name made of what it was built from:
#          Debian's source, the series, the configuration. The tree is not kept; ccache is what makes
#          the next build short.
# Usage: kernel/qemu/build.sh [--patches N] [CONFIG_X=y ...]
#        --patches N: only the first N of the series. Further settings: e.g. CONFIG_PROVE_LOCKING=y
# Who calls it: ci/kernel.sh.
# Crash rule: the image is renamed into its place when it is complete.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../..
tarball=/usr/src/linux-source-6.12.tar.xz
cache=${AEP_KERNEL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/aep-kernel}

patches=1000
if [ "${1:-}" = --patches ]; then
    patches=$2
    shift 2
fi
"$root/ci/setup.sh" kernel
[ -e $tarball ] || { echo "aep: no $tarball: Debian's package linux-source-6.12" >&2; exit 1; }

mapfile -t series < <(grep -v '^#' "$here/../patches/series" | head -n "$patches")
settings=$(printf '%s\n' "$@")
key=$({
    dpkg-query -W -f '${Version}\n' linux-source-6.12 2>/dev/null || stat -c %s $tarball
    (cd "$here/../patches" && cat "${series[@]}")
    cat "$here/config"
    echo "$settings"
} | sha256sum | cut -c1-16)
image=$cache/bzImage-$key

mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9
if [ ! -e "$image" ]; then
    work=$(mktemp -d "$cache/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    echo "aep: building a kernel in $work" >&2
    log=$work/log
    # A job of its own: in a condition the shell would go on after an error.
    (
        # Sources that no machine without devices needs are left out; unpacking takes long enough.
        tar -C "$work" -xf $tarball --strip-components=1 --wildcards \
            --exclude='*/drivers/gpu/drm/*.[ch]' --exclude='*/drivers/net/ethernet/*.[ch]' \
            --exclude='*/drivers/net/wireless/*.[ch]' --exclude='*/drivers/media/*.[ch]' \
            --exclude='*/sound/*.[ch]' --exclude='*.dts' --exclude='*.dtsi' --exclude='*.yaml'
        cd "$work"
        for patch in "${series[@]}"; do
            patch -sp1 --fuzz=0 <"$here/../patches/$patch"
        done
        [ "$patches" != 1000 ] || cmp include/uapi/linux/aep.h "$here/../uapi/linux/aep.h"
        make -s tinyconfig
        printf '%s\n' "$settings" | cat "$here/config" - >settings
        scripts/kconfig/merge_config.sh -m .config settings
        make -s olddefconfig
        # A setting that Kconfig drops would make tests meaningless.
        while read -r setting; do
            if [[ $setting == CONFIG_*=y ]] && ! grep -qxF "$setting" .config; then
                echo "not in the configuration: $setting"
                [ "$patches" != 1000 ] || exit 1
            fi
        done <settings
        make -s -j"$(nproc)" CC="ccache gcc" KBUILD_BUILD_TIMESTAMP=@0 KBUILD_BUILD_USER=aep \
            KBUILD_BUILD_HOST=aep bzImage
    ) >"$log" 2>&1 &
    wait $! || { tail -n 40 "$log" >&2; exit 1; }
    if grep -E '(mm|kernel)/[a-z_/]*aep[a-z_]*\.[ch]:.*warning' "$log" >&2; then exit 1; fi
    cp "$work/.config" "$cache/config-$key"
    cp "$work/arch/x86/boot/bzImage" "$image.new"
    mv "$image.new" "$image"
    # Three kernels are enough: the short form's, and two of the long form's.
    find "$cache" -maxdepth 1 -name 'bzImage-*' -printf '%A@ %p\n' | sort -rn | tail -n +9 |
        cut -d' ' -f2- | xargs -r rm -f
fi
echo "$image"
