#!/usr/bin/env bash
# Shows the allocator at work and checks every claim it prints: unmodified programs that give the
# same output on our heap as on their own, and a pool file that outlives a killed process.
# Usage: tools/demo.sh LIBRARY     (called by ./aep demo, which builds the library first)
set -euo pipefail
lib=$1
python=/usr/bin/python3
dir=$(mktemp -d /dev/shm/aep-demo.XXXXXX)
holder=
cleanup() {
    if [ -n "$holder" ]; then kill -9 "$holder" 2>/dev/null || true; fi
    rm -rf "$dir"
}
trap cleanup EXIT

fail() {
    echo "  FAILED: $*"
    exit 1
}

# --- 1. Programs -------------------------------------------------------------------------------

cat >"$dir/objects.py" <<'END'
import hashlib, json, threading

def work(n):
    people = [{"id": i, "name": f"person {i * n}", "tags": [str(i)] * (i % 7)} for i in range(20000)]
    results[n] = hashlib.sha256(json.dumps(people).encode()).hexdigest()

results = {}
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(results.items()))
END
cat >"$dir/rows.sql" <<'END'
CREATE TABLE sale(id INTEGER PRIMARY KEY, shop TEXT, cents INT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
  INSERT INTO sale SELECT i, 'shop ' || (i * 7919 % 1000), i * 104729 % 10007 FROM n;
CREATE INDEX by_shop ON sale(shop, cents);
SELECT shop, count(*), sum(cents) FROM sale GROUP BY shop ORDER BY 3 DESC LIMIT 3;
END
cat >"$dir/words.sh" <<'END'
declare -A count
for i in {1..30000}; do word=w$((i * i % 997)); count[$word]=$((${count[$word]:-0} + 1)); done
(for word in "${!count[@]}"; do echo "${count[$word]} $word"; done) | sort -k1nr -k2 | head -n 3
for i in {1..50}; do echo "$(echo "subshell $i" | tr a-z A-Z)"; done | tail -n 1
END

same_output() { # WHAT COMMAND...
    "${@:2}" >"$dir/own" </dev/null
    LD_PRELOAD=$lib "${@:2}" >"$dir/ours" </dev/null || fail "$1 ended with status $?"
    cmp -s "$dir/own" "$dir/ours" || fail "$1: other output than on its own heap"
    [ -s "$dir/ours" ] || fail "$1: no output"
    printf '  %-62s same output\n' "$1"
}

echo "1. Unmodified programs, on their own heap and on ours"
LD_PRELOAD=$lib grep -q libaepmalloc.so /proc/self/maps || fail "the library was not loaded"
export PYTHONMALLOC=malloc # every python object by malloc
same_output "python3  560,000 objects in 4 threads, to JSON, hashed" "$python" "$dir/objects.py"
same_output "sqlite3  200,000 rows, an index, a sum by group" sqlite3 :memory: ".read $dir/rows.sql"
same_output "bash     30,000 array updates, pipelines, 50 subshells" bash "$dir/words.sh"

echo
echo "2. What our heap did for that python3 (AEP_STATS=1)"
AEP_STATS=1 LD_PRELOAD=$lib "$python" "$dir/objects.py" 2>"$dir/stats" >/dev/null
[ -s "$dir/stats" ] || fail "no statistics"
sed 's/^/  /' "$dir/stats"

# --- 2. A shared pool and a killed process -----------------------------------------------------

cat >"$dir/hold.py" <<'END'
import sys

try:
    blocks = [bytearray(b"x" * 60000) for _ in range(600)]
except MemoryError:
    sys.exit("no memory")
print("holds", flush=True)
sys.stdin.read()
END
hold() { AEP_POOL=$dir/pool AEP_POOL_SIZE=64M LD_PRELOAD=$lib exec "$python" "$dir/hold.py"; }

echo
echo "3. Processes that share one pool file of 64 MiB; one of them is killed"
coproc HOLDER { hold; }
# shellcheck disable=SC2153 # coproc sets HOLDER_PID
holder=$HOLDER_PID
read -r line <&"${HOLDER[0]}" || fail "A did not get its memory"
[ "$line" = holds ] || fail "A said '$line'"
echo "  A (pid $holder) holds 36 MB of it"
if message=$(hold </dev/null 2>&1); then fail "B got the memory that A holds"; fi
[[ $message == *"no memory"* ]] || fail "B: $message"
echo "  B asks for 36 MB as well: malloc returns NULL (ENOMEM), for A is alive"
kill -9 "$holder"
wait "$holder" 2>/dev/null || true
holder=
echo "  kill -9 A"
message=$(hold </dev/null 2>&1) || fail "C: $message"
echo "  C asks for 36 MB: gets them, A's chunks came back"

echo
echo "All of it worked. Now yours:  ./aep run -- PROGRAM ARGS..."
