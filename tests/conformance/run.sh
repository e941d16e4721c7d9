#!/bin/sh
# Runs one conformance program under the preload library, in a scratch folder of its own that is removed afterwards.
#
#   run.sh private|pool|joined|completed LIBRARY [VARIABLE=VALUE...] PROGRAM [ARGUMENT...]
#
# LIBRARY may be any malloc library, or "none". In pool mode AEP_POOL names a fresh file that must be used; joined mode
# starts AEP_TEST_HOST (tests/client/host.cpp) with AEP_TEST_IMAGE for a context that must be joined. Mode completed
# is the same with the real daemon of the folder AEP_TEST_DAEMON_DIR: for programs whose threads die in operations. The program
# finds its scratch folder in AEP_TEST_DIR. CTest calls this; it is safe to run in parallel. A program that runs longer
# than AEP_TEST_LIMIT seconds (180) gets SIGTERM, on which it says where it hung.
set -u
[ -n "${AEP_TEST_WORLD:-}" ] || exec "${0%/*}/../world.sh" "$0" "$@"
mode=$1
library=$2
shift 2
limit=${AEP_TEST_LIMIT:-180}
unset AEP_CONTEXT  # the mode says which
dir=$(mktemp -d "${AEP_TEST_ROOT:-/dev/shm}/aep-conformance.XXXXXX") || exit 1
host=
end() {
  case $mode in
    completed) "$AEP_TEST_DAEMON_DIR/aep" down --force --context conformance --socket "$dir/socket" >/dev/null ;;
  esac
  [ -z "$host" ] || kill "$host" 2>/dev/null
  rm -rf "$dir"
}
trap end EXIT
trap 'exit 143' HUP INT TERM
case $mode in
  private) export AEP_CONTEXT=none ;;
  pool) export AEP_POOL="$dir/pool" AEP_REQUIRE=1 ;;
  joined)
    size=1G
    for word; do
      case $word in AEP_POOL_SIZE=*) size=${word#*=} ;; esac
    done
    mkfifo "$dir/started"
    "$AEP_TEST_HOST" "$dir" "$AEP_TEST_IMAGE" "pool-size=$size" >"$dir/started" &
    host=$!
    read -r _ <"$dir/started" || exit 2
    export AEP_SOCKET="$dir/socket" AEP_TEST_POOL="$dir/pool" AEP_REQUIRE=1
    ;;
  completed)
    "$AEP_TEST_DAEMON_DIR/aepd" --context conformance --directory "$dir/context" --socket "$dir/socket" --pool "$dir/pool" \
      --pool-size 1G --log-file "$dir/log" &
    host=$!
    until [ -S "$dir/socket" ]; do
      kill -0 "$host" 2>/dev/null || { cat "$dir/log" >&2; exit 2; }
      sleep 0.02
    done
    export AEP_SOCKET="$dir/socket" AEP_TEST_POOL="$dir/pool" AEP_REQUIRE=1
    ;;
  *) echo "run.sh: unknown mode $mode" >&2; exit 2 ;;
esac
if [ "$library" != none ]; then
  [ -r "$library" ] || { echo "run.sh: no library $library" >&2; exit 2; }
  preload="LD_PRELOAD=$library"
else
  preload="AEP_TEST_PLAIN=1"
fi
mkdir "$dir/scratch"
# env is started by timeout without the library, so that only the program itself runs on it.
timeout -k 5 "$limit" env "AEP_TEST_DIR=$dir/scratch" "$preload" "$@"
