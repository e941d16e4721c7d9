"""PostgreSQL: initdb, a server with pgbench on it for seconds, consistency, parallel queries, dump and reload"""

import os
import pwd
import re
import subprocess

import pytest

import processes

BIN = "/usr/lib/postgresql/15/bin"
NEEDS = {f"{BIN}/initdb": "postgresql", f"{BIN}/pgbench": "postgresql"}
pytestmark = pytest.mark.timeout(120)
POOL_MIB = 1024
CONFIG = """
listen_addresses = ''
unix_socket_directories = '{sockets}'
shared_buffers = 16MB
max_connections = 30
fsync = off
dynamic_shared_memory_type = mmap
max_parallel_workers_per_gather = 2
min_parallel_table_scan_size = 0
parallel_setup_cost = 0
"""


def remove_segment(data):
    """A server that was killed leaves the small System V segment which keeps a second one from starting."""
    try:
        with open(os.path.join(data, "postmaster.pid"), encoding="utf-8") as file:
            segment = file.read().splitlines()[6].split()[1]
    except (OSError, IndexError):
        return
    subprocess.run(["ipcrm", "-m", segment], check=False, stderr=subprocess.DEVNULL)


def test_postgres(t):
    # PostgreSQL refuses to run as root: its own user, with its own pool.
    user = "postgres" if os.geteuid() == 0 else None
    name = user or pwd.getpwuid(os.geteuid()).pw_name
    base = t.folder("postgres", user)
    data = os.path.join(base, "data")
    log = os.path.join(base, "log")
    sockets = t.folder("sockets", user)
    env = {"PGHOST": sockets, "PGUSER": name, "PGDATABASE": "postgres", "HOME": base, "TMPDIR": base}

    def program(command, *words, **options):
        return t.run([f"{BIN}/{command}", *words], user=user, cwd=base, env=env, **options)

    def sql(text):
        # psql reads its input: seen with the preload each time.
        return program("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", stdin=text, active="psql").text.splitlines()

    t.at_end(lambda: remove_segment(data))
    program("initdb", "-D", data, "-A", "trust", "--no-sync", active="initdb")
    with open(os.path.join(data, "postgresql.conf"), "a", encoding="utf-8") as file:
        file.write(CONFIG.format(sockets=sockets))
    program("pg_ctl", "-D", data, "-l", log, "-w", "-t", "60", "start")
    with open(os.path.join(data, "postmaster.pid"), encoding="utf-8") as file:
        postmaster = int(file.readline())
    t.active(postmaster, "the postmaster", user)
    program("pgbench", "-i", "-q", "-s", "2")
    # The server's own view of itself: a backend with the library mapped.
    backend = sql("SELECT pg_backend_pid() > 0; SELECT count(*) FROM pgbench_accounts;")
    t.equal(backend, ["t", "200000"], "accounts")

    report = program("pgbench", "-c", "6", "-j", "2", "-T", "4", active="pgbench").text
    done = int(re.search(r"transactions actually processed: (\d+)", report)[1])
    assert done > 50 and "failed transactions: 0 " in report, f"pgbench printed {report}"
    # With -C every transaction is a connection of its own: a fork of the postmaster each.
    report = program("pgbench", "-n", "-C", "-S", "-c", "4", "-j", "2", "-t", "100").text
    assert "transactions actually processed: 400/400" in report, f"pgbench -C printed {report}"

    balances = sql("SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history),"
                   "(SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history),"
                   "(SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history),"
                   "(SELECT count(*) FROM pgbench_history);")
    t.equal(balances, [f"t|t|t|{done}"], "balances and history")
    t.equal(sql("SET force_parallel_mode = on; SELECT count(*), sum(aid::bigint) FROM pgbench_accounts;"
                "SELECT sum(n) FROM (SELECT aid % 1000 AS k, count(*) AS n FROM pgbench_accounts GROUP BY 1) g;"
                "SELECT length(string_agg(md5(aid::text), ',' ORDER BY aid)) FROM pgbench_accounts;"
                "SELECT count(*) FROM pgbench_accounts a JOIN pgbench_accounts b ON a.aid = b.aid + 7;"),
            [f"200000|{200000 * 200001 // 2}", "200000", str(200000 * 33 - 1), "199993"], "parallel queries")

    # An error in the middle of a function deep in a query, and a server that stays consistent.
    failed = program("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", status=3,
                     stdin="BEGIN; DELETE FROM pgbench_accounts; SELECT 1 / (aid - aid) FROM pgbench_branches, "
                           "generate_series(1, 3) aid; COMMIT;")
    assert b"division by zero" in failed.stderr, f"psql says {failed.stderr!r}"
    t.equal(sql("SELECT count(*) FROM pgbench_accounts;"), ["200000"], "accounts after the failed transaction")

    def dump_tellers():
        # Newer versions put a random word into two lines.
        dumped = program("pg_dump", "-t", "pgbench_tellers").stdout
        return re.sub(rb"^\\(un)?restrict .*$", b"", dumped, flags=re.MULTILINE)

    dump = dump_tellers()
    sql("CREATE DATABASE copy;")
    env["PGDATABASE"] = "copy"
    program("psql", "-Xq", "-v", "ON_ERROR_STOP=1", stdin=dump, active="psql")
    assert dump_tellers() == dump, "the dump of the reloaded table differs"
    program("pg_ctl", "-D", data, "-w", "-t", "60", "-m", "fast", "stop")
    # pg_ctl waits for the server's file to go; its last words come after that.
    t.until(lambda: processes.gone(postmaster), "the postmaster to end")
    with open(log, "rb") as file:
        text = file.read()
    t.scan("the server's log", text)
    assert b"PANIC" not in text and b"terminated by signal" not in text, f"the server's log: {text[-1500:]!r}"
    assert b"database system is shut down" in text, "the server's log does not end with its shutdown"
