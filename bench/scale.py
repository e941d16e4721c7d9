#!/usr/bin/python3
"""What grows with nodes, clients, objects and the pool's size, in time: a program's joining, a daemon that has nothing to do, the
recovery of a node.

    bench/scale.py                                some minutes
    bench/scale.py --json FILE --docs docs/design/scale.md

*Joining*: processor time that a program which ends at once takes more in a context than outside. *Nothing to do*: processor time of one
daemon, with the usual lease. *A node's recovery*: what passes from `aep node dead` until it has answered; the node has been sent so many objects by another one, and had sent as
many. The median of the rounds is told. See bench/README.md.
Crash rule: daemons and programs end with this process; files lie in temporary directories.
"""

import contextlib
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import dsm  # noqa: E402
from driver import context, markdown, progress, tables  # noqa: E402

POOLS = ("1G", "16G", "64G")
RUNS = 50  # of a program, a round
IDLE_S = 4
IDLE = ((1, 0, "1G"), (8, 0, "1G"), (64, 0, "1G"), (1, 100, "1G"), (1, 0, "64G"))  # nodes, clients, pool
RECOVERIES = ((8, 0), (8, 1000), (8, 10_000), (64, 0), (64, 1000))  # nodes that the pool has room for, objects
USUAL_LEASE_MS, SHORT_LEASE_MS = 3000, 500


def joined(build, daemon):
    return dict(dsm.plain_environment(), AEP_SOCKET=daemon.socket, AEP_REQUIRE="1", LD_PRELOAD=f"{build}/preload/libaepmalloc.so")


def outside(build):
    return dict(dsm.plain_environment(), AEP_CONTEXT="none", LD_PRELOAD=f"{build}/preload/libaepmalloc.so")


def processor_ms(env):
    """Of a program that does nothing, the mean."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(RUNS):
        subprocess.run(["/bin/true"], env=env, check=True, timeout=context.TIMEOUT_S)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3 / RUNS


def joining(build, size):
    with context.Daemon(build, "rollback", pool_size=size) as daemon:
        return processor_ms(joined(build, daemon)) - processor_ms(outside(build))


def started(program, words, env):
    return subprocess.Popen([program, *words], env=env, stdout=subprocess.PIPE, text=True, preexec_fn=context.die_with_parent)


@contextlib.contextmanager
def daemons(build, count, size, room, lease_ms):
    """Nodes of one pool with room for so many."""
    with contextlib.ExitStack() as stack:
        path = f"{stack.enter_context(tempfile.TemporaryDirectory(prefix='aep-bench-scale-', dir='/dev/shm'))}/pool"
        subprocess.run([f"{build}/tools/aep", "pool", "create", path, "--size", size, "--nodes", str(room), "--lease-ms", str(lease_ms)],
                       check=True, stdout=subprocess.DEVNULL)
        yield [stack.enter_context(context.Daemon(build, "rollback", pool_size=size, more=(
            "--pool", path, "--node", str(n), "--membership", "manual"))) for n in range(1, count + 1)]


def on_processor_ns(pid):
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as stat:
            total += int(stat.read().split()[0])
    return total


def idle_share(build, nodes, clients, size):
    """Of a processor, one daemon."""
    with daemons(build, nodes, size, 64, USUAL_LEASE_MS) as [one, *_], contextlib.ExitStack() as stack:
        for _ in range(clients):
            sleeper = subprocess.Popen(["/bin/sleep", "1000"], env=joined(build, one), preexec_fn=context.die_with_parent)
            stack.callback(sleeper.wait)
            stack.callback(sleeper.kill)
        while len(one.command("clients")) < clients:
            time.sleep(0.1)
        before, begin = on_processor_ns(one.process.pid), time.perf_counter()
        time.sleep(IDLE_S)
        return (on_processor_ns(one.process.pid) - before) / (time.perf_counter() - begin) / 1e9


def exchange(program, taker, giver, objects, stack):
    """So many objects, from one node to the other; both keep them."""
    name = context.new_name()
    receiver = started(program, ["take", name, str(objects)], taker)
    stack.callback(receiver.kill)
    receiver.stdout.readline()
    sender = started(program, ["give", name, str(objects)], giver)
    stack.callback(sender.kill)
    for end in (sender, receiver):
        if end.stdout.readline() != "done\n":
            raise SystemExit("bench: an exchange failed")
    return sender, receiver


def recovery(build, program, room, objects):
    with daemons(build, 2, "1G", room, SHORT_LEASE_MS) as [one, two], contextlib.ExitStack() as stack:
        near, far = joined(build, one), joined(build, two)
        _, first = exchange(program, near, far, objects, stack)
        second, _ = exchange(program, far, near, objects, stack)
        for process in (one.process, first, second):
            process.send_signal(signal.SIGKILL)
            process.wait()
        while not (suspect := [n for n in two.command("status")["nodes"] if n["node"] == 1 and n["state"] == "suspect"]):
            time.sleep(0.05)
        begin = time.perf_counter()
        subprocess.run([f"{build}/tools/aep", "node", "dead", "1", "--generation", str(suspect[0]["generation"]), *two.where],
                       check=True, stdout=subprocess.DEVNULL)
        return (time.perf_counter() - begin) * 1e3


def measure(arguments):
    build = os.path.abspath(arguments.build)
    program = dsm.program(build, "aep_bench_growth")
    line = progress.Progress((len(POOLS) + len(IDLE) + len(RECOVERIES)) * arguments.rounds)

    def median(what, function, *words):
        taken = []
        for number in range(arguments.rounds):
            line.step(f"{what} {words} {number + 1}")
            taken.append(function(build, *words))
        return statistics.median(taken)

    found = {"joining": [{"pool": size, "ms": median("joining", joining, size)} for size in POOLS],
             "idle": [{"nodes": n, "clients": c, "pool": size, "share": median("idle", idle_share, n, c, size)} for n, c, size in IDLE],
             "recovery": [{"nodes": n, "objects": o,
                           "ms": median("recovery", lambda b, *words: recovery(b, program, *words), n, o)} for n, o in RECOVERIES]}
    line.end()
    return found


def text_of(pool):
    return pool.replace("G", " GiB")


def table(document):
    yield from markdown.head(["what", "among", "takes"])
    for row in document["joining"]:
        yield markdown.row(["a program joins", f"a pool of {text_of(row['pool'])}", f"{row['ms']:.2f} ms of a processor"])
    for row in document["idle"]:
        yield markdown.row(["a daemon has nothing to do", f"{row['nodes']} nodes that live, {row['clients']} clients in this one, {text_of(row['pool'])}",
                            f"{100 * row['share']:.2f} % of a processor"])
    for row in document["recovery"]:
        yield markdown.row(["a dead node is recovered", f"room for {row['nodes']} nodes, {row['objects']:,} objects each way", f"{row['ms']:.1f} ms"])


def main():
    tables.tell(tables.parser(__doc__, 3).parse_args(), measure, {"scale": table})


if __name__ == "__main__":
    main()
