#!/usr/bin/env bash
# The tests among surroundings that must not matter to them, after ci/build.sh release: with the user's default
# context up, every variable of the library set to something that hurts, an odd TMPDIR, another umask, closed stdin,
# other limits and ignored signals; as another user; beside themselves; under load.
# Usage: ci/surroundings.sh             as an ordinary user who may not write here, two runs at the same time
#        ci/surroundings.sh --long      the same with all tests, then root's beside that user's under a load of 20
#        ci/surroundings.sh among COMMAND...    a command among such surroundings; test.sh and programs.sh do
# Fails also when a test joined the default context or left a file. Called by ./aep test (through ci/test.sh and as
# a job). Everything is in folders of its own; as root the default context is in a mount namespace of its own.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
self=$root/ci/surroundings.sh
aep=$root/build/release/tools/aep

# --- among COMMAND... ------------------------------------------------------------------------------------------------

documented() { grep -oE '^\| `AEP_[A-Z_]+' "$root/docs/reference/environment.md" | tr -d '|` '; }

clean() { # COMMAND...: without any variable of ours
    local words=() name
    for name in "${!AEP_@}"; do words+=(-u "$name"); done
    env "${words[@]}" "$@"
}

among() { # COMMAND...
    work=$(mktemp -d /dev/shm/aep-surroundings.XXXXXX)
    local odd="$work/a place: 'odd', \"long\" \$HOME"
    mkdir -p "$odd" "$work/run"
    export XDG_RUNTIME_DIR=$work/run
    if [ "$(id -u)" = 0 ]; then # the namespace is ours; see the end of this file
        mkdir -p /run/aep
        mount -t tmpfs -o mode=0700 aep-surroundings /run/aep
    fi
    trap 'clean "$aep" down --force --directory "$work/context" >/dev/null || true; rm -rf "$work"' EXIT
    clean "$aep" up --directory "$work/context" --provider none --pool-size 64M >/dev/null
    local status=0 joined
    (
        for name in $(documented); do export "$name=1"; done
        export AEP_CONTEXT=nobody AEP_SOCKET=/nonexistent/socket AEP_POOL=/nonexistent/pool
        export AEP_ON_ERROR=never AEP_DECAY_MS=soon AEP_POOL_SIZE=none MALLOC_PERTURB_=85 NOTIFY_SOCKET=/nonexistent
        export TMPDIR=$odd LC_ALL=C LANG=tr_TR.UTF-8 POSIXLY_CORRECT=1 PYTHONOPTIMIZE=2
        umask 077
        ulimit -S -c unlimited -n 256 -s 4096
        exec env --ignore-signal=PIPE,USR1,HUP "$@" <&-
    ) || status=$?
    joined=$(clean "$aep" status --directory "$work/context" --json |
        /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)["clients"]["attached"])')
    if [ "$joined" != 0 ]; then
        echo "surroundings: FAILED: $joined processes joined the default context"
        status=1
    fi
    if [ -n "$(find "$odd" -mindepth 1)" ]; then
        echo "surroundings: FAILED: left in TMPDIR: $(find "$odd" -mindepth 1 | head)"
        status=1
    fi
    return $status
}

if [ "${1:-}" = among ]; then
    shift
    if [ "$(id -u)" = 0 ] && [ -z "${AEP_TEST_OWN_MOUNTS:-}" ]; then
        exec env AEP_TEST_OWN_MOUNTS=1 unshare --mount "$self" among "$@"
    fi
    unset AEP_TEST_OWN_MOUNTS
    among "$@"
    exit
fi

# --- as an ordinary user, twice, under load --------------------------------------------------------------------------

place=$(mktemp -d /tmp/aep-surroundings.XXXXXX)
busy=()
trap '[ ${#busy[@]} = 0 ] || kill "${busy[@]}" || true; rm -rf "$place"' EXIT

# One that no account has, and no other run.
number=$((61200 + $$ % 4000))
as_user=()
if [ "$(id -u)" = 0 ]; then as_user=(setpriv --reuid "$number" --regid "$number" --clear-groups --); fi
if ! "${as_user[@]}" test -r "$root/tests/world.sh" -a -x "$aep"; then
    echo "CANNOT RUN: surroundings.user: other users may not read $root"
    exit 0
fi

user() { # NAME CTEST ARGS...: one run; what it says goes to a file of that name
    mkdir -p "$place/$1"
    chmod 711 "$place"
    [ "$(id -u)" != 0 ] || chown $number "$place/$1"
    "${as_user[@]}" env HOME="$place/$1" AEP_TEST_DIR="$place/$1" \
        "$self" among "$root/ci/ctest.sh" release -j "$jobs" "${@:2}" >"$place/$1.log" 2>&1
}

jobs=2 # of each run
failed=0
verdict() { # STATUS WHAT LOG: the end of the log; all of what failed
    local said=passed
    if [ "$1" != 0 ]; then
        said=FAILED
        failed=1
        grep -vE '^ *[0-9]+/[0-9]+ Test .* (Passed|\*\*\*Skipped)|^ +Start' "$3" | tail -n 400
    else # beside root, who runs them all, what that user cannot run is no loss
        grep -E '^(passed: |[0-9]+% tests)' "$3"
        [ "$(id -u)" = 0 ] || grep '^CANNOT RUN: ' "$3" || true
    fi
    echo "surroundings: $2: $said"
}

twice() { # CTEST ARGS...
    local second=0 first=0
    user second "$@" &
    local other=$!
    user first "$@" || first=1
    wait $other || second=1
    verdict $first "an ordinary user" "$place/first.log"
    verdict $second "the same beside it" "$place/second.log"
    local left
    left=$(find /dev/shm /tmp /var/tmp -mindepth 1 -maxdepth 1 -uid $number ! -path "$place*" 2>/dev/null || true)
    if [ "$(id -u)" = 0 ] && [ -n "$left" ]; then
        echo "surroundings: FAILED: left by tests: $left"
        failed=1
    fi
}

under_load() { # CTEST ARGS...: root's and that user's at the same time
    for _ in {1..20}; do
        (while :; do :; done) &
        busy+=($!)
    done
    local first=0 own=0
    user loaded "$@" &
    local other=$!
    "$self" among "$root/ci/ctest.sh" release -j "$jobs" "$@" >"$place/own.log" 2>&1 || own=1
    wait $other || first=1
    verdict $first "an ordinary user under load" "$place/loaded.log"
    verdict $own "under load" "$place/own.log"
}

if [ "${1:-}" = --long ]; then
    twice -LE programs
    jobs=4
    under_load -LE programs
else
    twice -L 'unit|client|node|sharing' -LE root
fi
exit $failed
