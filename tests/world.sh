#!/usr/bin/env bash
# Purpose: the world of a test: runs a program with nothing of the caller's surroundings but what is written here.
#          No context is joined by default, no AEP_ variable is set but AEP_TEST_*, which are the tests' own.
# Usage: tests/world.sh PROGRAM [ARGUMENT...]
# Who calls it: ctest (aep_add_test in CMakeLists.txt), gtest_main.cpp and world.py for what is started by hand, and
#               jobs of ci/ that run the library. Who is in it already (AEP_TEST_WORLD=1) stays.
# Crash rule: replaces itself by the program; makes nothing.
set -eu
if [ -z "${AEP_TEST_WORLD:-}" ]; then
    for name in "${!AEP_@}"; do
        case $name in
        AEP_TEST_*) ;;
        *) unset "$name" ;;
        esac
    done
    unset LD_PRELOAD GLIBC_TUNABLES "${!MALLOC_@}"                    # other allocators, and their settings
    unset NOTIFY_SOCKET TMPDIR POSIXLY_CORRECT "${!PYTHON@}" "${!PYTEST_@}" # what programs of the tests look at
    export AEP_TEST_WORLD=1 AEP_CONTEXT=none XDG_RUNTIME_DIR=/nonexistent LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
    umask 022
    limit() { # LETTER VALUE WHAT
        ulimit -S "-$1" "$2" 2>/dev/null && return
        echo "CANNOT RUN: ${command##*/}: needs $3 of $2, the limit is $(ulimit -H "-$1")"
        exit 77
    }
    command=${1:-nothing}
    limit v unlimited "an address space (ulimit -v)"
    limit f unlimited "a file size (ulimit -f)"
    limit n 1024 "descriptors (ulimit -n)"
    limit s 8192 "a stack (ulimit -s, KiB)"
    limit c 0 "core files (ulimit -c)"
    exec </dev/null 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
fi
exec env --default-signal "$@"
