#!/usr/bin/env bash
# Purpose: boots a kernel in QEMU, without KVM, with one static program as all that runs there; prints
#          what it prints, and ends with its exit status.
# Usage: kernel/qemu/run.sh [OPTIONS] IMAGE PROGRAM [ARGS...]
#        --cpu MODEL       QEMU's; default: qemu64,+smep,+smap (four levels of page tables)
#        --cpus N          default 2, each a socket: the table of processors lists no cores
#        --memory SIZE     default 256M
#        --append WORDS    added to the kernel's command line
#        --timeout SECONDS default 600
#        --env NAME=VALUE  in the program's environment
#        124: out of time. 125: it did not come to the program's end. 126: the kernel complained.
# Who calls it: ci/kernel.sh.
# Crash rule: QEMU ends with this script, and all files are in one temporary folder.
set -euo pipefail
cpu=qemu64,+smep,+smap
cpus=2
memory=256M
append=
limit=600
environment=()
while [[ ${1:-} == --* ]]; do
    case $1 in
    --cpu) cpu=$2 ;;
    --cpus) cpus=$2 ;;
    --memory) memory=$2 ;;
    --append) append=$2 ;;
    --timeout) limit=$2 ;;
    --env) environment+=("$2") ;;
    *)
        echo "run.sh: unknown option $1" >&2
        exit 2
        ;;
    esac
    shift 2
done
image=$1
program=$2
shift 2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/root/{bin,dev,proc,sys,tmp}
cp "$(command -v busybox)" "$work/root/bin/busybox"
cp "$program" "$work/root/program"
{
    cat <<'END'
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /tmp
mount -t debugfs none /sys/kernel/debug
mount -t cgroup2 none /sys/fs/cgroup
END
    for setting in "${environment[@]}"; do printf 'export %q\n' "$setting"; done
    printf '/program'
    printf ' %q' "$@"
    printf '\necho "aep-exit: $?"\nreboot -f\n'
} >"$work/root/init"
chmod +x "$work/root/init"
(cd "$work/root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initramfs"

status=0
setpriv --pdeathsig TERM timeout --foreground -k 5 "$limit" \
    setpriv --pdeathsig KILL qemu-system-x86_64 -accel tcg,thread=multi -cpu "$cpu" \
    -smp "sockets=$cpus,cores=1,threads=1" -m "$memory" -nodefaults -display none -no-reboot -serial stdio \
    -kernel "$image" -initrd "$work/initramfs" \
    -append "console=ttyS0 quiet panic=-1 reboot=t no_timer_check $append" </dev/null 2>"$work/errors" |
    sed -u 's|\r$||' | tee "$work/console" | sed -u '/^aep-exit: /d' || status=$?
cat "$work/errors" >&2
if [ $status = 124 ] || [ $status = 137 ]; then
    echo "run.sh: no end after $limit s" >&2
    exit 124
fi
if grep -qE '(BUG|WARNING|INFO): |KASAN|Oops|Bad (page|rss)|Kernel panic|possible .* detected' \
    "$work/console"; then
    echo "run.sh: the kernel complained" >&2
    exit 126
fi
result=$(sed -n 's/^aep-exit: //p' "$work/console")
exit "${result:-125}"
