#!/usr/bin/env bash
# Purpose: what every boot has in common: options, the first file system in memory, QEMU itself, and
#          what is made of the console's lines.
# Usage: . kernel/qemu/machine.sh; then other defaults than these, parse_options "$@", make_root, $root
#        filled, boot "$image" [QEMU OPTIONS...]
# Who calls it: run.sh and system.sh, which source it.
# Crash rule: QEMU ends with the script, and all files are in one temporary folder.

script=$(basename "$0")
cpu=qemu64,+smep,+smap # four levels of page tables
cpus=2
memory=256M
append=
limit=600
pool=""
cxl=""
labels=""
board=pc
environment=()
# Further options of the script: name and variable.
declare -A more_options=()

# Sets the variables from the options; what is left is in arguments.
parse_options() {
    while [[ ${1:-} == --* ]]; do
        [ $# -ge 2 ] || {
            echo "$script: $1 needs a value" >&2
            exit 2
        }
        case $1 in
        --cpu) cpu=$2 ;;
        --cpus) cpus=$2 ;;
        --memory) memory=$2 ;;
        --append) append=$2 ;;
        --timeout) limit=$2 ;;
        --pool) pool=$2 ;;
        --cxl) cxl=$2 ;;
        --labels) labels=$2 ;;
        --env) environment+=("$2") ;;
        *)
            if [ -z "${more_options[$1]:-}" ]; then
                echo "$script: unknown option $1" >&2
                exit 2
            fi
            printf -v "${more_options[$1]}" %s "$2"
            ;;
        esac
        shift 2
    done
    # shellcheck disable=SC2034 # the callers use it
    arguments=("$@")
    if [ $# -lt 2 ]; then
        echo "$script: needs a kernel's IMAGE and what to run; see the head of the script" >&2
        exit 2
    fi
}

# The environment, as commands of a shell.
print_environment() {
    local setting
    for setting in "${environment[@]}"; do printf 'export %q\n' "$setting"; done
}

# The folder that becomes the first file system: $root, with busybox in it.
make_root() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    root=$work/root
    mkdir -p "$root"/{bin,dev,proc,sys,tmp}
    cp "$(command -v busybox)" "$root/bin/busybox"
}

# Adds the memory that machines share to the machine's devices.
add_pool() {
    local bytes base=0x100000000
    bytes=$(stat -L -c %s "$pool")
    if [ "$bytes" = 0 ] || [ $((bytes % (128 << 20))) != 0 ]; then
        echo "$script: $pool: has $bytes bytes, expected a multiple of 128 MiB: truncate -s" >&2
        exit 2
    fi
    # At 4 GiB, above all other memory. The firmware does not tell of it; the command line does, as
    # firmware tells of CXL memory that is not for everybody: "soft reserved".
    devices+=(
        -object "memory-backend-file,id=pool,mem-path=$pool,size=$bytes,share=on"
        -device "pc-dimm,memdev=pool,addr=$base"
    )
    memory+=,slots=1,maxmem=$((bytes + (8 << 30)))
    # Room for one more processor, which never comes: where there can be but one, QEMU emulates atomic
    # instructions by several plain ones, and machines that share memory lose each other's changes.
    most_cpus=$((cpus + 1))
    append+=" memmap=$bytes%$base+0xefffffff"
}

# Adds a CXL device of type 3, persistent, whose memory is a file that other machines may have, too; and its label area.
add_cxl() {
    local bytes
    bytes=$(stat -L -c %s "$cxl")
    if [ "$bytes" = 0 ] || [ $((bytes % (256 << 20))) != 0 ]; then
        echo "$script: $cxl: has $bytes bytes, expected a multiple of 256 MiB: truncate -s" >&2
        exit 2
    fi
    labels=${labels:-$work/labels}
    [ -e "$labels" ] || truncate -s 1M "$labels"
    # Kernels from 6.3 on want interrupts for what the device reports, which QEMU's does not have before 8.1, unless the reports
    # are the firmware's.
    append+=" pcie_ports=compat"
    board=q35,cxl=on,cxl-fmw.0.targets.0=cxl.1,cxl-fmw.0.size=4G
    devices+=(
        -object "memory-backend-file,id=memory,share=on,mem-path=$cxl,size=$bytes"
        -object "memory-backend-file,id=labels,share=on,mem-path=$labels,size=$(stat -L -c %s "$labels")"
        -device "pxb-cxl,bus_nr=12,bus=pcie.0,id=cxl.1"
        -device "cxl-rp,port=0,bus=cxl.1,id=port0,chassis=0,slot=2"
        # Without a number the kernel does not believe the labels of a namespace that it has written itself.
        -device "cxl-type3,bus=port0,memdev=memory,lsa=labels,id=device0,sn=1"
    )
}

# Boots $root, whose /init prints "aep-exit: STATUS" at its end; exits with that status.
boot() { # IMAGE [QEMU OPTIONS...]
    local image=$1 status=0 devices=("${@:2}") most_cpus=$cpus
    if [ -n "$pool" ]; then add_pool; fi
    if [ -n "$cxl" ]; then add_cxl; fi
    chmod +x "$root/init"
    (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initramfs"
    # Warnings are shown. Times mark the kernel's lines: a program may print what it likes.
    setpriv --pdeathsig TERM timeout --foreground -k 5 "$limit" \
        setpriv --pdeathsig KILL qemu-system-x86_64 -machine "$board" -accel tcg,thread=multi -cpu "$cpu" \
        -smp "cpus=$cpus,maxcpus=$most_cpus,sockets=$most_cpus,cores=1,threads=1" -m "$memory" -nodefaults -display none -no-reboot \
        -serial stdio "${devices[@]}" -kernel "$image" -initrd "$work/initramfs" \
        -append "console=ttyS0 loglevel=5 printk.time=1 panic=-1 reboot=t no_timer_check $append" \
        </dev/null 2>"$work/errors" |
        sed -u 's|\r$||' | tee "$work/console" | sed -u '/^aep-exit: /d' || status=$?
    cat "$work/errors" >&2
    if [ $status = 124 ]; then
        echo "$script: no end after $limit s" >&2
        exit 124
    fi
    if grep -E '\[ *[0-9]+\.[0-9]+\]' "$work/console" |
        grep -qE '(BUG|WARNING|INFO): |KASAN|Oops|Bad (page|rss)|Kernel panic|possible .* detected'; then
        echo "$script: the kernel complained" >&2
        exit 126
    fi
    result=$(sed -n 's/^aep-exit: //p' "$work/console")
    exit "${result:-125}"
}
