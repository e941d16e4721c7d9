#!/usr/bin/python3
"""Our sharing beside other means of passing messages between processes: iceoryx, Boost.Interprocess, ZeroMQ, pipes, Unix sockets.

    bench/ipc.py --quick                         four minutes
    bench/ipc.py --json FILE                     everything, in less than a quarter of an hour
    bench/ipc.py --only '^reply/64/' --systems aep,pipe
    bench/ipc.py --docs docs/ipc.md --plot docs/ipc

Rows are PATTERN/SIZE/MODE: stream, window, reply, to-4, from-4; bytes; poll or sleep. Each round runs every system in every row, in
shuffled order, each run with processes of its own; medians of the rounds are told. A peer that is not installed is named. The exit
status is 1 when a run failed, never because of a number. See docs/ipc.md.
"""

import math
import os
import random
import re
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from driver import ipc_report, ipc_systems, progress, tables  # noqa: E402
from driver.ipc_systems import SYSTEMS  # noqa: E402

ROUNDS, QUICK_ROUNDS = 7, 3
BUDGET_S, QUICK_BUDGET_S = 14 * 60, 4 * 60  # no round is begun that would end later, by those before
MS, QUICK_MS = 150, 80  # of each run, after half as much that is not counted
LARGE = 2  # times as long for messages of a MiB and more


def parse_arguments():
    parser = tables.parser(__doc__, ROUNDS)
    parser.set_defaults(rounds=None)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds of shorter runs")
    parser.add_argument("--only", default="", metavar="REGEX", help="rows whose name matches")
    parser.add_argument("--systems", default=",".join(s.name for s in SYSTEMS), metavar="LIST", help="(default: %(default)s)")
    parser.add_argument("--plot", metavar="STEM", help="draw the results as STEM.svg and STEM.png")
    parser.add_argument("--seed", type=int, default=1, help="of the shuffled order")
    arguments = parser.parse_args()
    if arguments.rounds:
        arguments.budget_s = math.inf
    else:
        arguments.budget_s = QUICK_BUDGET_S if arguments.quick else BUDGET_S
    arguments.rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    return arguments


def version(system):
    """Of the Debian package; "" where there is none."""
    if not system.package:
        return ""
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", system.package], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def summary(samples, figure):
    """Of one system in one row: the median of each figure, and the quartiles of the one that it is about. A run in which no message
    was there in time says nothing."""
    failed = next((s["failed"] for s in samples if "failed" in s), None)
    values = [s[figure][0] for s in samples if figure in s]
    if failed is not None or not values:
        return {"failed": failed or "no message was there in time"}
    found = {name: statistics.median(s[name][0] for s in samples if name in s)
             for name in dict.fromkeys(name for s in samples for name in s if name != "messages")}
    found["quartiles"] = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return found


def run_rounds(arguments, runs, jobs):
    """{job: [its figures in each round]}; `arguments.rounds` becomes how many there were."""
    order = random.Random(arguments.seed)
    line = progress.Progress(arguments.rounds * len(jobs))
    samples = {job: [] for job in jobs}
    begin = time.monotonic()
    for number in range(arguments.rounds):
        foreseen = (time.monotonic() - begin) / max(number, 1) * (number + 1)
        if foreseen > arguments.budget_s:
            line.end()
            print(f"bench: stopped after {number} rounds to stay within the time", file=sys.stderr)
            arguments.rounds = number
            break
        for row, system in order.sample(jobs, len(jobs)):
            line.step(f"round {number + 1} {row.name} {system.name}")
            milliseconds = (QUICK_MS if arguments.quick else MS) * (LARGE if row.size >= ipc_systems.MIB else 1)
            samples[row, system].append(runs.run(system, row, "ms", milliseconds))
    line.end()
    return samples


def wanted_rows(arguments):
    rows = [row for row in ipc_systems.rows() if re.search(arguments.only, row.name)]
    if not rows:
        raise SystemExit(f"bench: no row matches {arguments.only}")
    return rows


def measure(arguments):
    names = arguments.systems.split(",")
    unknown = set(names) - {s.name for s in SYSTEMS}
    if unknown:
        raise SystemExit(f"bench: no system {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in SYSTEMS)}")
    rows = wanted_rows(arguments)
    wanted = [s for s in SYSTEMS if s.name in names]
    possible = [row for row in rows if not row.cannot(os.cpu_count())]
    with ipc_systems.Runs(os.path.abspath(arguments.build), wanted) as runs:
        jobs = [(row, s) for row in possible for s in wanted if s.name not in runs.missing and not s.cannot(row)]
        samples = run_rounds(arguments, runs, jobs)
        missing = runs.missing
    return {
        "rounds": arguments.rounds, "quick": arguments.quick, "seed": arguments.seed,
        "systems": {s.name: {"label": s.label, "version": version(s), "missing": missing.get(s.name, "")} for s in wanted},
        "rows": [{"name": row.name, "pattern": row.pattern, "size": row.size, "mode": row.mode,
                  "cannot": row.cannot(os.cpu_count()),
                  "results": {s.name: summary(samples[row, s], ipc_systems.PATTERNS[row.pattern][0]) for s in wanted if (row, s) in samples}} for row in rows]}


def main():
    arguments = parse_arguments()
    document = tables.tell(arguments, measure, ipc_report.parts(wanted_rows(arguments), arguments.plot))
    if arguments.plot:
        print("plot:", *ipc_report.draw(document, arguments.plot), file=sys.stderr)
    return 1 if ipc_report.failures(document) else 0


if __name__ == "__main__":
    sys.exit(main())
