#!/usr/bin/env bash
# What the scripts expect of a clean system, and how they say so: with 1 and a line of what is not as it should be.
# Sourced by in_clean_root.sh and under_systemd.sh, which lie beside it.
set -euo pipefail
trap 'echo "package: line $LINENO of ${0##*/}: $BASH_COMMAND" >&2' ERR
socket=/tmp/redis.socket

fail() {
    echo "package: $*" >&2
    exit 1
}
expect() { # WHAT GOT EXPECTED
    [ "$2" = "$3" ] || fail "$1: '$2', expected '$3'"
}
wait_for() { # WHAT COMMAND...: until it is so; half a minute at most
    local what=$1 i
    shift
    for ((i = 0; i < 300; ++i)); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    fail "waited in vain for $what"
}
redis() { redis-cli -s "$socket" "$@"; }
