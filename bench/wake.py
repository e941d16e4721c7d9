#!/usr/bin/python3
"""How long a sleeper takes to have a message, and what its sleep costs: of another node, where nobody can wake it, and of
its own, where the sender does.

    bench/wake.py                                 a minute
    bench/wake.py --json FILE --docs docs/design/nodes.md

Rows: what lies between two messages; with processors that are free, and with a process of ordinary priority on each that does
nothing but work. Two contexts on one pool stand for nodes, as in dsm.py. The median of the rounds is told. See bench/README.md.
Crash rule: daemons and programs end with this process; files lie in temporary directories.
"""

import contextlib
import os
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import dsm  # noqa: E402
from driver import context, markdown, progress, tables  # noqa: E402

MARK = "wake"
GAPS_US = (100, 1000, 10_000, 100_000)  # between two messages
ROUND_MS = 2000  # about
FIGURES = ("p50_us", "p99_us", "share")


@contextlib.contextmanager
def load(program, wanted):
    """A process that works on each processor."""
    if not wanted:
        yield
        return
    with subprocess.Popen([program, "load", str(os.cpu_count())], preexec_fn=context.die_with_parent) as worker:
        try:
            yield
        finally:
            worker.kill()


def figures(program, sender, receiver, gap_us):
    """Of one round; gap 0: nothing is sent, and only what the sleep costs is told."""
    messages, name = ROUND_MS * 1000 // gap_us if gap_us else 0, context.new_name()
    with subprocess.Popen([program, "sleep", name, str(messages), str(ROUND_MS)], env=receiver.environment(), text=True,
                          stdout=subprocess.PIPE, preexec_fn=context.die_with_parent) as sleeper:
        try:
            sleeper.stdout.readline()
            if messages:
                subprocess.run([program, "send", name, str(messages), str(gap_us)], env=sender.environment(), check=True,
                               timeout=context.TIMEOUT_S, preexec_fn=context.die_with_parent)
            found = dsm.parse(sleeper.communicate(timeout=context.TIMEOUT_S)[0])
        finally:
            sleeper.kill()
    return {key: found[key] for key in (FIGURES if messages else ("share",))}


def measure(arguments):
    build = os.path.abspath(arguments.build)
    program = dsm.program(build, "aep_bench_wake")
    rows = []
    with dsm.Contexts(build) as contexts:
        if contexts.missing:
            raise SystemExit(f"bench: {contexts.missing}")
        cases = [(where, gap, busy) for busy in (False, True) for gap in (*GAPS_US, 0) for where in ("another", "the same")]
        line = progress.Progress(len(cases) * arguments.rounds)
        for where, gap, busy in cases:
            sender = contexts.near if where == "another" else contexts.far
            rounds = []
            with load(program, busy):
                for number in range(arguments.rounds):
                    line.step(f"{where} {gap} {busy} {number + 1}")
                    rounds.append(figures(program, sender, contexts.far, gap))
            rows.append({"sender": where, "gap_us": gap, "busy": busy,
                         **{key: statistics.median(one[key] for one in rounds) for key in rounds[0]}})
        line.end()
    return {"rows": rows}


def gap_text(gap_us):
    if gap_us == 0:
        return "nothing comes"
    return f"{gap_us} us" if gap_us < 1000 else f"{gap_us // 1000} ms"


def table(document):
    found = {(row["gap_us"], row["busy"], row["sender"]): row for row in document["rows"]}
    yield from markdown.head(["between two messages", "processors", "another node: p50, p99", "of a processor",
                              "the same node: p50, p99", "of a processor"])
    for busy in (False, True):
        for gap in (*GAPS_US, 0):
            cells = [gap_text(gap), "busy" if busy else "free"]
            for sender in ("another", "the same"):
                row = found[gap, busy, sender]
                cells += ["" if gap == 0 else f"{row['p50_us']:.0f}, {row['p99_us']:.0f} us", f"{100 * row['share']:.2f} %"]
            yield markdown.row(cells)


def main():
    tables.tell(tables.parser(__doc__, 3).parse_args(), measure, {MARK: table})


if __name__ == "__main__":
    main()
