#!/usr/bin/env bash
# The Debian packages: built, looked at by lintian, and in a clean Debian system installed, used, upgraded under a program
# that runs, removed and purged (tests/package/in_clean_root.sh); the tarball, unpacked there before; and the unit under a
# systemd of its own (tests/package/under_systemd.sh).
# Usage: ci/package.sh. The clean system is made once, from the mirrors of this one, and kept: build/package/root-*.tar.
# As root only: making another system and entering it takes that.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/ci/setup.sh" build package
cd "$root"
made=$(./aep package && ./aep package --tarball)
mapfile -t debs < <(grep '\.deb$' <<<"$made")
tarball=$(grep '\.tar\.gz$' <<<"$made")
lintian --allow-root --fail-on error,warning "${debs[@]}"
echo "package: ${#debs[@]} packages, nothing for lintian to say"

if [ "$(id -u)" != 0 ]; then
    echo "CANNOT RUN: package.clean_root: needs root, who may make and enter another system"
    exit
fi

# The mirrors of Debian itself, of which this system is; its other sources are of no interest.
# shellcheck disable=SC2016 # apt-get fills them in
mirrors=$(apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Identifier: Packages' 'Origin: Debian' | sort -u)
packages=$(grep -v '^#' ci/packages/root.txt)
base=build/package/root-$(sha256sum <<<"$mirrors $packages" | cut -c 1-16).tar
if [ ! -e "$base" ]; then
    echo "package: makes a clean system"
    rm -f build/package/root-*.tar*
    # shellcheck disable=SC1091 # of the machine
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mmdebstrap --quiet --variant=apt --include="$(paste -sd, <<<"$packages")" "$suite" "$base.made" - --format=tar <<<"$mirrors"
    mv "$base.made" "$base"
fi

work=$(mktemp -d "$root/build/package/root.XXXXXX")
trap 'rm -rf "$work"' EXIT
given=$work/given
mkdir -p "$given/next"
cp "$tarball" tests/package/expectations.sh tests/package/in_clean_root.sh tests/package/under_systemd.sh \
    tests/package/given.service "$given/"

# The next version: the same files under a higher number, for what matters is how one follows the other.
for deb in "${debs[@]}"; do
    case $deb in *-dbgsym_*) continue ;; esac
    cp "$deb" "$given/"
    dpkg-deb -R "$deb" "$work/repacked"
    version=$(dpkg-deb -f "$deb" Version)
    sed -i "s/^Version: .*/&+next/; s/(= $version)/(= $version+next)/" "$work/repacked/DEBIAN/control"
    dpkg-deb --root-owner-group -Znone -b "$work/repacked" "$given/next/$(basename "$deb")" >/dev/null
    rm -rf "$work/repacked"
done

# Its own processes, mounts, network and shared memory; what is left of them ends with the command.
# shellcheck disable=SC2016 # its own words
enter='
    mount --bind "$1" "$1" && cd "$1" && shift
    mount -t proc proc proc && mount -t tmpfs tmpfs sys && mkdir -p sys/fs/bpf sys/fs/cgroup && mount -t tmpfs tmpfs run && mount -t tmpfs -o mode=1777 tmpfs tmp
    mount -t tmpfs -o mode=755 tmpfs dev && mkdir -m 1777 dev/shm && mkdir dev/pts && ln -s /proc/self/fd dev/fd
    mount -t tmpfs -o mode=1777 tmpfs dev/shm
    for device in null zero full random urandom tty; do touch dev/$device && mount --bind /dev/$device dev/$device; done
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    pivot_root . mnt # a service manager makes mount namespaces, which no process in a chroot can
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 container=aep chroot . /bin/sh -c "umount --lazy /mnt; exec \"\$@\"" - "$@"'
in_system() { # COMMAND...: in the clean system, as it was made
    mkdir "$work/system"
    tar -C "$work/system" -xf "$base"
    mkdir -p "$work/system/dev" "$work/system/given"
    cp -r "$given/." "$work/system/given"
    local status=0
    timeout 300 unshare --mount --pid --net --ipc --uts --cgroup --fork --kill-child --propagation private \
        bash -ec "$enter" - "$work/system" "$@" || status=$?
    if [ -e "$work/system/given/log" ]; then cat "$work/system/given/log"; fi
    rm -rf "$work/system"
    return "$status"
}
in_system /bin/bash /given/in_clean_root.sh
# And once more, booted: what a service manager makes of the unit. It ends with the exit status of what it is given.
in_system /bin/bash -c 'dpkg -i /given/*.deb >/dev/null && cp /given/given.service /etc/systemd/system/ && exec /lib/systemd/systemd --unit=given.service'
