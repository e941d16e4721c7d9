#!/usr/bin/env bash
# Installs the Debian packages of the named purposes, those that are missing: ci/packages/NAME.txt,
# and for `programs` those that tests/programs runs: tests/programs/packages.txt.
# Usage: ci/setup.sh [build|demo|test|kernel|programs|bench|package ...]     (default: all)
# Called first by ./aep and by the other jobs; runs nothing when everything is installed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

list_of() {
    case $1 in
    programs) echo "$root/tests/programs/packages.txt" ;;
    *) echo "$root/ci/packages/$1.txt" ;;
    esac
}

purposes=("$@")
[ $# -gt 0 ] || purposes=(build demo test kernel programs bench package)
wanted=$(for purpose in "${purposes[@]}"; do grep -v '^#' "$(list_of "$purpose")"; done | sort -u)

if ! command -v dpkg-query >/dev/null; then
    echo "aep: not a Debian system; if a step fails, install your system's equivalents of:" >&2
    echo "$wanted" >&2
    exit 0
fi
# dpkg-query fails when it has never heard of one of them; what it prints is right all the same.
# shellcheck disable=SC2086 # a list of words
installed=$({ dpkg-query -W -f '${db:Status-Status} ${Package}\n' $wanted 2>/dev/null || true; } |
    sed -n 's/^installed //p' | sort -u)
mapfile -t missing < <(comm -23 <(echo "$wanted") <(echo "$installed"))
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null || ! { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        echo "aep: these packages are missing, and installing them needs root. Run:" >&2
        echo "    apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "aep: installing ${missing[*]}" >&2

# Debian starts a service when it is installed. Ours are only programs to test: a policy that
# says "no" while we install. An administrator's own policy stays in force.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap '"${as_root[@]}" rm -f $policy' EXIT
    "${as_root[@]}" install -m 755 /dev/stdin $policy <<<$'#!/bin/sh\nexit 101'
fi
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
log=$(mktemp)
if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } \
    </dev/null >"$log" 2>&1; then
    cat "$log" >&2
    echo "aep: the packages could not be installed (see above)" >&2
    rm -f "$log"
    exit 1
fi
rm -f "$log"
