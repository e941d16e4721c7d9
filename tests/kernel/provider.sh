#!/usr/bin/env bash
# Purpose: the provider `kernel` with real programs, on a kernel that has it: what is run in a context
#          says the same as without; clients, daemons and completers are killed; nodes share a pool;
#          an operation beyond the grace period is undone. Without deferral many have to be.
# Usage: tests/kernel/provider.sh [--kills N] [PART...]     as root, after ci/build.sh release
#        parts: programs processes torture nodes control (default: all of them)
# Who calls it: ci/kernel.sh, in the machine that kernel/qemu/system.sh boots.
# Crash rule: contexts are in folders of their own in /dev/shm; the machine ends with the script.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tools=$root/build/release/tools
settings=/sys/kernel/mm/aep
switches=/sys/kernel/debug/aep_disabled
kills=100
if [ "${1:-}" = --kills ]; then
    kills=$2
    shift 2
fi
[ -e $settings/deferrals ] || {
    echo "provider.sh: this kernel has no atomic execution protection: see docs/kernel.md" >&2
    exit 1
}

# For victims of the OOM killer: groups with a limit of their own.
echo +memory >/sys/fs/cgroup/cgroup.subtree_control

complain() {
    echo "provider.sh: $*" >&2
    exit 1
}

# The same program by itself and in the context.
same() {
    local alone joined
    alone=$("$@" 2>&1)
    joined=$("$tools/aep" run --context programs --require -- "$@" 2>&1)
    [ "$alone" = "$joined" ] || complain "$1 says '$joined' in the context, '$alone' without it"
}

programs() {
    "$tools/aep" up --context programs --provider kernel
    "$tools/aep" doctor --context programs | grep '^good  kernel provider .*grace period' ||
        complain "doctor does not say that the kernel provider works"
    "$tools/aep" status --context programs | grep '^provider *kernel:' ||
        complain "status does not say kernel"
    same python3 -c '
import json, subprocess
words = {str(i): [i * j for j in range(50)] for i in range(3000)}
print(hash(json.dumps(words)[:0]), len(json.dumps(words)), sum(map(len, sorted(words))))
print(subprocess.run(["echo", "a child"], capture_output=True, text=True).stdout)'
    same python3 -c '
import os
blocks = [bytes(i) for i in range(2000)]
for i in range(4):
    if os.fork() == 0:
        blocks += [bytes(i * 100) for i in range(1000)]
        os._exit(sum(map(len, blocks)) % 101)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)'
    # shellcheck disable=SC2016 # the inner shell expands it
    same bash -c 'for i in {1..300}; do text+="$i "; done; echo "${#text}" "$(seq 9 | sort -r | tr "\n" " ")"'
    "$tools/aep" clients --context programs
    "$tools/aep" down --context programs
}

processes() {
    python3 "$root/tests/node/kernel.py" "$tools" "$root/build/release/tests/node/node_client" -v
}

torture() { # WHAT ARGS...
    local said
    said=$("$tools/aep-torture" --provider kernel --patience 10 --kills "$kills" "$@" 2>&1 | tee /dev/stderr)
    local deferred
    deferred=$(sed -n "s/^ended by the kernel's leave: //p" <<<"$said")
    [ "$deferred" -gt 0 ] || complain "nothing was deferred: no victim was killed inside"
    grep -q ' 0 undone' <<<"$said" || complain "operations were left open although the kernel defers"
}

nodes() { torture --nodes 2; }

# Nothing is deferred: operations are left open, which are undone.
control() {
    local said
    echo 1 >$switches
    said=$("$tools/aep-torture" --provider kernel --patience 10 --kills "$kills" 2>&1 | tee /dev/stderr)
    echo 0 >$switches
    ! grep -q ' 0 undone' <<<"$said" || complain "nothing was left open without deferral"
}

[ $# -gt 0 ] || set -- programs processes torture nodes control
for part in "$@"; do
    echo "provider kernel: $part"
    $part
done
echo "provider kernel: $settings/deferrals $(cat $settings/deferrals), expirations $(cat $settings/expirations)"
