#!/usr/bin/python3
"""Our heap and references beside a flat baseline, in which, as in CXL-SHM, every client is a node of its own and
each allocation, free and change of a reference is a transaction in the pool: with the flushes and fences of the
published code, and with those that losing what was not flushed really needs.

    bench/dsm.py --quick                          a few minutes
    bench/dsm.py --json FILE                      everything, about half an hour
    bench/dsm.py --cxl-latency 300                the pool 300 ns farther away, emulated
    bench/dsm.py --from FILE --docs docs/dsm_figures.md --plot docs/dsm

Each round runs both sides of everything, in shuffled order, each in a process of its own; ratios are taken inside a
round. Times are medians of short batches, or processor time, so that neighbours count little. A target is printed
beside its figure and changes no exit status, which is 1 when a run failed. See docs/dsm_figures.md.
"""

import argparse
import contextlib
import itertools
import os
import random
import re
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import context as figures  # noqa: E402
from driver import command, context, dsm_report, dsm_rows, markdown, progress, report, stats  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SERIES = ("bin", "cpu", "kill_ms", "end_ms")
AFTER_KILL_MS = 50  # our recovery is through long before


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"), metavar="DIR",
                        help="build folder (default: build/release)")
    parser.add_argument("--quick", action="store_true", help="less work a run, 5 rounds; a few minutes")
    parser.add_argument("--rounds", type=int, help="default: 9, quick: 5")
    parser.add_argument("--json", metavar="FILE", help="write all results there")
    parser.add_argument("--plot", metavar="STEM", help="draw the results as STEM.svg and STEM.png")
    parser.add_argument("--docs", metavar="FILE", help="write the results into this page, between its markers")
    parser.add_argument("--from", dest="source", metavar="FILE", help="no run: table, page and plot of this JSON file")
    parser.add_argument("--only", default="", metavar="REGEX", help="rows whose name matches, and nothing else")
    parser.add_argument("--cxl-latency", type=int, default=0, metavar="NS",
                        help="emulate a pool that is so much farther away (default 0: off): flat, and our references "
                             "between nodes, wait that long for each fence with flushes and for each line of metadata that "
                             "a client has to fetch; objects' contents are not delayed")
    parser.add_argument("--seed", type=int, default=1, help="of the shuffled order")
    return parser.parse_args()


class Contexts(contextlib.ExitStack):
    """The context that our runs join, `own`; and `near` and `far`, on two nodes of one pool, if there are nodes.
    `missing`: why there are none."""

    def __init__(self, build):
        super().__init__()
        self._build = build
        self.near = self.far = None
        asked = subprocess.run([f"{build}/tools/aep", "up", "--help"], capture_output=True, text=True, check=False)
        self.missing = "" if "--node" in asked.stdout else "`aep up` of this build has no --node"

    def __enter__(self):
        self.own = self.enter_context(figures.Daemon(self._build, "auto"))
        if not self.missing:
            pool = ("--pool", os.path.join(self.own.folder, "nodes.pool"))
            try:
                self.near, self.far = (self.enter_context(figures.Daemon(self._build, "auto", pool_size="1G", more=("--node", str(n), "--pool-caches", "cxl", *pool)))
                                       for n in (1, 2))
            except context.DaemonFailed as why:
                self.missing = f"two contexts on one pool: {why}"
        return self


def program(build, name):
    path = os.path.join(build, "bench", "dsm", name)
    if not os.access(path, os.X_OK):
        raise SystemExit(f"bench: {name} is not built (looked in {build})")
    return path


def plain_environment():
    return {k: v for k, v in os.environ.items() if not k.startswith(("AEP_", "LD_PRELOAD"))}


def parse(output):
    """Lines of a name and a value; those of a series become a list."""
    found = {}
    for line in output.splitlines():
        name, value = line.split()
        found.setdefault(name, []).append(float(value))
    return {name: values if name in SERIES else values[0] for name, values in found.items()}


def execute(build, run, contexts, latency):
    """The figures of one run, or {"failed": why}."""
    words, env = [program(build, run.program), *run.arguments()], plain_environment()
    server = context.new_name()
    if run.program == dsm_rows.OURS:
        env = (contexts.near if run.remote else contexts.own).environment()
        words.append(server if run.peer else "-")
    try:
        with contextlib.ExitStack() as stack:
            if run.peer and run.program == dsm_rows.OURS:
                there = contexts.far if run.remote else contexts.own
                stack.enter_context(context.other_end([words[0], "serve", "1", server], there.environment()))
            done = subprocess.run([*words, *([str(latency)] if latency else [])], env=env, capture_output=True, text=True,
                                  timeout=context.TIMEOUT_S, check=True, preexec_fn=context.die_with_parent)
        return dsm_rows.derive(run.name, parse(done.stdout))
    except subprocess.CalledProcessError as why:
        return {"failed": f"status {why.returncode}: {why.stderr.strip()[-200:]}"}
    except subprocess.TimeoutExpired:
        return {"failed": f"still running after {context.TIMEOUT_S} s"}


def client_recovery(build, daemon, objects):
    found = figures.recovery(build, daemon, objects)
    return {"ms": found["ms"], "rate": found["objects_per_second"] / 1e6, "objects": objects}


def measure_rounds(arguments, build, runs, wanted, contexts):
    """{run: [figures of each round]}"""
    order = random.Random(arguments.seed)
    rounds = arguments.rounds or (5 if arguments.quick else 9)
    objects = 4_000_000 if arguments.quick else 16_000_000
    jobs = {run.name: (lambda run=run: execute(build, run, contexts, arguments.cxl_latency)) for run in runs}
    if "client_recovery" in wanted:
        jobs["client_recovery"] = lambda: client_recovery(build, contexts.own, objects)
    line = progress.Progress(rounds * len(jobs))
    samples = {name: [] for name in jobs}
    for number in range(rounds):
        for name in order.sample(list(jobs), len(jobs)):
            line.step(f"round {number + 1} {name}")
            samples[name].append(jobs[name]())
    line.end()
    return samples


def summary(row, samples):
    """A row's medians, the ratios of its rounds, and what they say of its targets."""
    def values(side):
        return [s.get("failed") or s[side[1]] for s in samples[side[0]]]

    ours, flat = values(row.ours), values(row.flat)
    durable = values(row.durable()) if row.durable() else []
    entry = {"name": row.name, "unit": row.unit, "second": row.plain}
    failed = [v for v in ours + flat + durable if isinstance(v, str)]
    if failed:
        return entry | {"failed": failed[0]}

    def times_better(than):
        return [o / f if row.more else f / o for o, f in zip(ours, than) if o > 0 and f > 0]

    ratios = times_better(flat)
    low, middle, high = stats.quartiles(ratios)
    if durable:
        entry |= {"durable": statistics.median(durable), "durable_ratio": statistics.median(times_better(durable))}
    value = statistics.median(ours)
    targets = [{"target": text, "met": met} for text, met in dsm_rows.judge(row, value, middle)]
    return entry | {"ours": value, "ours_quartiles": stats.quartiles(ours)[::2], "flat": statistics.median(flat),
                    "flat_quartiles": stats.quartiles(flat)[::2], "ratio": middle, "ratio_quartiles": [low, high],
                    "rounds": len(ratios), "targets": targets}


def our_survivor(build, daemon, milliseconds):
    """A client works while others, which hold 200,000 objects, are killed every half second."""
    words = [program(build, dsm_rows.OURS), "survivor", str(milliseconds), "-"]
    start = {"env": daemon.environment(), "stdout": subprocess.PIPE, "text": True, "preexec_fn": context.die_with_parent}
    kills = []
    with subprocess.Popen(words, **start) as survivor:
        begun = float(survivor.stdout.readline().split()[1])
        while (time.monotonic_ns() - begun) / 1e6 < milliseconds - 900:
            with subprocess.Popen([f"{build}/bench/context/aep_bench_probe", "victim", "200000"], **start) as victim:
                victim.stdout.readline()
                time.sleep(0.5)
                kills.append((time.monotonic_ns() - begun) / 1e6)
                victim.kill()
            time.sleep(0.1)  # the next one's start is not what is measured
        found = parse(survivor.stdout.read())
    return found | {"kill_ms": kills, "end_ms": [kill + AFTER_KILL_MS for kill in kills]}


def survivors(arguments, build, contexts):
    """A client's throughput over time while others die, ours and flat's in turns."""
    repetitions, milliseconds = (3, 3000) if arguments.quick else (5, 6000)
    flat = dsm_rows.Run("survivor", dsm_rows.FLAT, "survivor", milliseconds, rule="published")
    line = progress.Progress(2 * repetitions)
    found = {"ours": [], "flat": []}
    for _ in range(repetitions):
        line.step("survivor")
        found["ours"].append(our_survivor(build, contexts.own, milliseconds))
        line.step("flat_survivor")
        found["flat"].append(execute(build, flat, contexts, arguments.cxl_latency))
        if "failed" in found["flat"][-1]:
            return found["flat"][-1]
    line.end()
    return {side: {"elapsed": sorted(itertools.chain(*(changes(one, elapsed) for one in ran))),
                   "processor": sorted(itertools.chain(*(changes(one, processor) for one in ran))), "last": ran[-1]}
            for side, ran in found.items()}


def elapsed(one, first, last):
    """Objects a bin."""
    return statistics.fmean(one["bin"][first:last])


def processor(one, first, last):
    """Objects an ns of the survivor's own processor time: what other work takes from it does not count. None: it had
    no processor in these bins."""
    done, used = sum(one["bin"][first:last]), sum(one["cpu"][first:last])
    return done / used if done else None


def changes(one, rate):
    """Of each death: the rate from it to the end of the recovery, relative to the 150 ms before."""
    ratios = []
    for kill, end in zip(one["kill_ms"], one["end_ms"]):
        at, last = int(kill // 10), int(end // 10)
        if at >= 15 and last > at:
            before, during = rate(one, at - 15, at), rate(one, at, last)
            if before and during is not None:
                ratios.append(during / before - 1)
    return ratios


def measure(arguments):
    build = os.path.abspath(arguments.build)
    with Contexts(build) as contexts:
        with_nodes = not contexts.missing
        rows = [row for row in dsm_rows.rows(with_nodes) if re.search(arguments.only, row.name)]
        if not rows:
            raise SystemExit(f"bench: no row matches {arguments.only}")
        wanted = {run for row in rows for run, _ in (row.ours, row.flat, row.durable() or row.flat)}
        runs = dsm_rows.runs(arguments.quick, with_nodes)
        costs = {rule: execute(build, dsm_rows.Run("costs", dsm_rows.FLAT, "costs", 1, rule=rule), contexts, 0)
                 for rule in ("published", "durable")}
        samples = measure_rounds(arguments, build, [run for run in runs if run.name in wanted], wanted, contexts)
        alive = None if arguments.only else survivors(arguments, build, contexts)
        provider = contexts.own.command("status")["provider"]
    settings = {"quick": arguments.quick, "seed": arguments.seed, "revision": report.revision(ROOT), "provider": provider,
                "cxl_latency_ns": arguments.cxl_latency, "nodes": with_nodes,
                "work": {run.name: run.count for run in runs}}
    missing = [] if with_nodes else [f"Not measured: two contexts on two nodes, end to end: {contexts.missing}."]
    return {"format": 1, "machine": report.machine(), "settings": settings, "rows": [summary(row, samples) for row in rows],
            "costs": costs, "survivors": alive, "not_measured": missing, "samples": samples}


def main():
    arguments = parse_arguments()
    command.end_with_what_runs()
    document = command.document(arguments, measure)
    if arguments.json:
        report.write(document, arguments.json)
    dsm_report.table(document, sys.stdout)
    if arguments.docs:
        markdown.fill_parts(dsm_report.parts(document), arguments.docs)
    if arguments.plot:
        print("plot:", *dsm_report.draw(document, arguments.plot), file=sys.stderr)
    failed = [row for row in document["rows"] if "failed" in row] or "failed" in (document["survivors"] or {})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
