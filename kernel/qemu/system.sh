#!/usr/bin/env bash
# Purpose: boots a kernel in QEMU, without KVM, with this machine's own programs: its root file system,
#          read only, with a file system in memory on top. What is written there is gone at the end.
#          Runs one command as root, in the folder that is the caller's; prints what it prints, and
#          ends with its exit status.
# Usage: kernel/qemu/system.sh [OPTIONS] IMAGE COMMAND [ARGS...]
#        --cpu, --cpus, --append, --timeout, --env, --pool, --cxl, --labels   as for run.sh
#        --memory SIZE     default 1G
#        --port SOCKET     a Unix socket of this machine: /dev/ttyS1 there
#        --pidfile FILE    where QEMU writes its process id
#        Exit statuses of its own as for run.sh.
# Who calls it: ci/kernel.sh, tests/vm.
# Crash rule: see machine.sh. A machine that is killed leaves the pool's FILE as a machine without
#             power leaves its memory.
set -euo pipefail
# shellcheck source=kernel/qemu/machine.sh
. "$(dirname "${BASH_SOURCE[0]}")/machine.sh"
cpu=qemu64,+smep,+smap,+rdrand,+clflushopt,+clwb # as memory that outlives a machine needs
memory=1G
port=""
pidfile=""
more_options=([--port]=port [--pidfile]=pidfile)
parse_options "$@"
image=${arguments[0]}
case $PWD/ in
/tmp/* | /var/tmp/* | /dev/shm/* | /run/*)
    echo "$script: $PWD: the machine in QEMU has folders of its own there; use a checkout elsewhere" >&2
    exit 2
    ;;
esac

devices=(
    -virtfs "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"
    -device virtio-rng-pci
)
if [ -n "$port" ]; then
    devices+=(-chardev "socket,id=port,path=$port,server=on,wait=off" -serial chardev:port)
fi
if [ -n "$pidfile" ]; then devices+=(-pidfile "$pidfile"); fi

make_root
mkdir -p "$root"/{host,memory,new}
cat >"$root/init" <<'END'
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
failed() {
    echo "system.sh: $*"
    reboot -f
}
mount -t devtmpfs none /dev || failed "no /dev"
ln -s /proc/self/fd /dev/fd
for stream in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${stream%:*}" "/dev/${stream#*:}"; done
mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=512000 host /host ||
    failed "cannot mount this machine's root file system"
mount -t tmpfs -o mode=755,size=75% none /memory
mkdir /memory/changes /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/changes,workdir=/memory/work none /new ||
    failed "cannot mount the file system in memory"
mount --move /dev /new/dev
mount -t proc none /new/proc
mount -t sysfs none /new/sys
mount -t debugfs none /new/sys/kernel/debug
mount -t cgroup2 none /new/sys/fs/cgroup
for folder in tmp var/tmp dev/shm; do
    mkdir -p /new/$folder
    mount -t tmpfs -o mode=1777 none /new/$folder
done
mkdir -p /new/dev/pts
mount -t devpts none /new/dev/pts
mount -t tmpfs -o mode=755 none /new/run
cp /bin/busybox /command /new/run/
exec switch_root /new /bin/bash /run/command
END
{
    printf 'export PATH=%q HOME=/root LANG=C.UTF-8 TERM=dumb\n' \
        /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    print_environment
    printf 'cd %q\n' "$PWD"
    printf '%q ' "${arguments[@]:1}"
    printf '\necho "aep-exit: $?"\n/run/busybox reboot -f\n'
} >"$root/command"
boot "$image" "${devices[@]}"
