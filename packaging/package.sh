#!/usr/bin/env bash
# Builds the Debian packages with debhelper (debian/), or a tree that may be unpacked anywhere, out of the
# release build.
# Usage: packaging/package.sh [--tarball]
# Called by ./aep package and ci/package.sh. Prints the paths of what it has made; the log is build/package/package.log.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case ${1:-} in
"" | --tarball) ;;
*)
    echo "aep: package: unknown option '$1' (--tarball, or nothing)" >&2
    exit 2
    ;;
esac
"$root/ci/setup.sh" build package
"$root/ci/build.sh" release aep # and what it needs: all that is installed
cd "$root"
place=build/package
mkdir -p "$place"
log=$place/package.log

logged() { # COMMAND...: quiet, unless it fails
    "$@" >"$log" 2>&1 || {
        tail -n 40 "$log" >&2
        echo "aep: packaging failed; $root/$log has it all" >&2
        exit 1
    }
}

# Other systems have other versions of what daemon and commands use: into lib/aep with it, licences too. glibc is the system's.
carry_libraries() { # TREE
    local program library package
    local programs=("$1/bin/aep" "$1/sbin/aepd" "$1/lib/aep/aep-completer")
    mkdir "$1/lib/aep/licences"
    for library in $(ldd "${programs[@]}" | sed -n 's/.* => \(.*\) (.*/\1/p' | sort -u); do
        package=$({ dpkg-query -S "$library" "/usr$library" "$(readlink -f "$library")" 2>/dev/null || true; } | sed -n "1s/:.*//p")
        [ -n "$package" ] || { echo "aep: whose is $library?" >&2 && return 1; }
        if [ "$package" = libc6 ]; then continue; fi
        install -m 644 "$library" "$1/lib/aep/"
        install -m 644 "/usr/share/doc/$package/copyright" "$1/lib/aep/licences/$package"
    done
    # RPATH, which libraries inherit from their program, and RUNPATH not.
    for program in "${programs[@]}"; do
        patchelf --force-rpath --set-rpath "\$ORIGIN/$(realpath --relative-to="$(dirname "$program")" "$1/lib/aep")" "$program"
    done
}

if [ "${1:-}" = --tarball ]; then
    version=$(sed -n 's/^CMAKE_PROJECT_VERSION:[^=]*=//p' build/release/CMakeCache.txt)
    name=aep-$version-$(uname -m)
    rm -rf "$place/tree"
    logged cmake --install build/release --strip --prefix "$place/tree/$name"
    # As it was built: the daemon and the library know its bytes.
    install -m 755 "build/release/aep-lib/image/aep-image" "$place/tree/$name/lib/aep/aep-image"
    carry_libraries "$place/tree/$name"
    cp LICENSE README.md "$place/tree/$name"
    tar -C "$place/tree" --sort=name --owner=0 --group=0 --numeric-owner -czf "$place/$name.tar.gz" "$name"
    rm -rf "$place/tree"
    echo "$root/$place/$name.tar.gz"
    exit
fi

# Two at once would write the same debian/*.
exec 8>"$place/.package.lock"
flock 8
export DEB_RULES_REQUIRES_ROOT=no
rm -rf "$place/debs"
trap 'dh_clean >/dev/null 2>&1' EXIT # what it left in debian/
logged debian/rules binary
for deb in "$root/$place/debs"/*.deb; do echo "$deb"; done
