#!/usr/bin/python3
"""What sharing costs by numbers: a message by how many clients receive the object, a client's death by how much it holds and
how much others hold.

    bench/growth.py                              some three minutes
    bench/growth.py --json FILE --plot docs/growth.svg --docs docs/design/sharing.md

Times of messages are processor time; those of deaths what passes from the kill until `aep recover` has answered and the client is no
more, of which the command takes some milliseconds itself. The median of the rounds is told. See bench/README.md.
Crash rule: the daemon and the programs end with this process; files lie in a temporary directory.
"""

import os
import signal
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import dsm  # noqa: E402
from driver import context, markdown, progress, tables  # noqa: E402

RECEIVERS = (1, 2, 8, 32, 128, 512)
MESSAGES = 400  # to each receiver; a mailbox holds 512
HELD = 10_000
DEATHS = ((0, 0), (HELD, 0), (100_000, 0), (1_000_000, 0), (HELD, 100_000), (HELD, 1_000_000))  # held by the dead one, by another


def environment(build, daemon):
    return dict(dsm.plain_environment(), AEP_SOCKET=daemon.socket, AEP_REQUIRE="1", LD_PRELOAD=f"{build}/preload/libaepmalloc.so")


def broadcast(program, env, receivers):
    done = subprocess.run([program, "broadcast", str(receivers), str(MESSAGES)], env=env, capture_output=True, text=True, check=True,
                          timeout=context.TIMEOUT_S, preexec_fn=context.die_with_parent)
    return dsm.parse(done.stdout)


def settled(daemon, clients):
    """Until there are no more clients than that."""
    while len(daemon.command("clients")) > clients:
        daemon.command("recover")


def death(program, env, daemon, held, by_another):
    settled(daemon, 0)
    with subprocess.Popen([program, "hold", str(held), str(by_another)], env=env, stdout=subprocess.PIPE, text=True,
                          preexec_fn=context.die_with_parent) as holders:
        try:
            victim = int(holders.stdout.readline())
            begin = time.perf_counter()
            os.kill(victim, signal.SIGKILL)
            settled(daemon, 2)
            return (time.perf_counter() - begin) * 1e3
        finally:
            holders.kill()


def measure(arguments):
    build = os.path.abspath(arguments.build)
    program = dsm.program(build, "aep_bench_growth")
    with context.Daemon(build, "rollback", pool_size="16G") as daemon:
        env = environment(build, daemon)
        line = progress.Progress((len(RECEIVERS) + len(DEATHS)) * arguments.rounds)
        messages = {n: [] for n in RECEIVERS}
        deaths = {pair: [] for pair in DEATHS}
        for number in range(arguments.rounds):
            for receivers, taken in messages.items():
                line.step(f"broadcast {receivers} {number + 1}")
                settled(daemon, 0)
                taken.append(broadcast(program, env, receivers))
            for (held, by_another), taken in deaths.items():
                line.step(f"death {held} {by_another} {number + 1}")
                taken.append(death(program, env, daemon, held, by_another))
        line.end()
    return {"broadcast": [{"receivers": n, **{key: statistics.median(one[key] for one in taken) for key in taken[0]}}
                          for n, taken in messages.items()],
            "deaths": [{"held": held, "by_another": other, "ms": statistics.median(taken)}
                       for (held, other), taken in deaths.items()]}


def broadcast_table(document):
    yield from markdown.head(["receivers of one object", "a send", "a receive and its drop"])
    for row in document["broadcast"]:
        yield markdown.row([str(row["receivers"]), f"{row['send_ns']:.0f} ns", f"{row['receive_ns']:.0f} ns"])


def death_table(document):
    yield from markdown.head(["held by the dead client", "by another", "taken back in"])
    for row in document["deaths"]:
        yield markdown.row([f"{row['held']:,}", f"{row['by_another']:,}", f"{row['ms']:.2f} ms"])


def draw(document, path):
    import matplotlib
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "aep-bench", "font.size": 9})
    from matplotlib import pyplot
    figure, (messages, deaths) = pyplot.subplots(1, 2, figsize=(9, 3))
    rows = document["broadcast"]
    for key, label in (("send_ns", "send"), ("receive_ns", "receive and drop")):
        messages.plot([r["receivers"] for r in rows], [r[key] for r in rows], marker="o", label=label)
    messages.set(xscale="log", xlabel="receivers", ylabel="ns a message", ylim=(0, None))
    messages.legend()
    own = [r for r in document["deaths"] if r["by_another"] == 0 and r["held"]]
    others = [r for r in document["deaths"] if r["held"] == HELD]
    deaths.plot([r["held"] for r in own], [r["ms"] for r in own], marker="o", label="held by the dead client")
    deaths.plot([max(r["by_another"], HELD) for r in others], [r["ms"] for r in others], marker="s", label=f"{HELD:,}, and these by another")
    deaths.set(xscale="log", xlabel="objects", ylabel="ms until taken back", ylim=(0, None))
    deaths.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = tables.parser(__doc__, 5)
    parser.add_argument("--plot", metavar="FILE", help="draw it there")
    arguments = parser.parse_args()
    document = tables.tell(arguments, measure, {"broadcast": broadcast_table, "deaths": death_table})
    if arguments.plot:
        draw(document, arguments.plot)


if __name__ == "__main__":
    main()
