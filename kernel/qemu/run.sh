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
#        --pool FILE       memory that several machines share: /dev/dax0.0 there. Machines of the same
#                          FILE share it. A multiple of 128 MiB
#        --cxl FILE        the same as a CXL memory device: mem0. A multiple of 256 MiB
#        --labels FILE     that device's label area, made if it is not there; default: none that stays
#        124: out of time. 125: it did not come to the program's end. 126: the kernel complained.
# Who calls it: ci/kernel.sh.
# Crash rule: see machine.sh.
set -euo pipefail
# shellcheck source=kernel/qemu/machine.sh
. "$(dirname "${BASH_SOURCE[0]}")/machine.sh"
parse_options "$@"
image=${arguments[0]}
program=${arguments[1]}

make_root
cp "$program" "$root/program"
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
    print_environment
    printf '/program'
    if [ ${#arguments[@]} -gt 2 ]; then printf ' %q' "${arguments[@]:2}"; fi
    printf '\necho "aep-exit: $?"\nreboot -f\n'
} >"$root/init"
boot "$image"
