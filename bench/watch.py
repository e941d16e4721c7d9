#!/usr/bin/python3
"""What it costs real programs to be watched: the heap profile at its usual rate, and guarded blocks, one in 5,000.

    bench/watch.py                                40 pairs of perl, sqlite, python and redis: a quarter of an hour
    bench/watch.py --rounds 1                     as ./aep bench has them: how much of it is what the first watched block costs
    bench/watch.py --pairs 100 --only '^program/perl$' --set AEP_PROFILE_RATE=64K
    bench/watch.py --json FILE --docs docs/profiling.md

A pair is a run with and a run without, one after the other, in an order that chance decides; each is the CPU time of all
threads and children. Of all pairs' ratios the median is told, and between which two of them the true median lies with
95 % confidence. A run with the profile writes its file when it exits, which counts, too. See bench/README.md.
Crash rule: files lie in a temporary directory; programs end with this process's session.
"""

import argparse
import json
import os
import random
import re
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from driver import allocators, command, markdown, measure, pool, progress, stats, workloads  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAMS = "^program/(perl|sqlite|python|python_malloc|redis)$"
ALL = "all of them"  # their geometric mean
WAYS = {"profile": "profile, 512 KiB", "guard": "guard, 1 in 5,000"}
MARK = "watch"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"), metavar="DIR", help="(default: build/release)")
    parser.add_argument("--pairs", type=int, default=40, help="of each program and each way of watching (default 40, at least 6)")
    parser.add_argument("--only", default=PROGRAMS, metavar="REGEX", help=f"of ./aep bench's programs (default {PROGRAMS})")
    parser.add_argument("--way", action="append", choices=list(WAYS), help="only that one (default both)")
    parser.add_argument("--rounds", type=int, default=8, help="of a program's work, but of sqlite's (default 8: about a second)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a further variable of all runs")
    parser.add_argument("--seed", type=int, default=1, help="of the order")
    parser.add_argument("--json", metavar="FILE", help="write all that was measured there")
    parser.add_argument("--docs", metavar="FILE", help="write the table into this page, between its markers")
    chosen = parser.parse_args()
    if chosen.pairs < 6:
        parser.error("--pairs: fewer than 6 give no interval of such confidence")
    return chosen


def ways(folder):
    """Ways of watching: name -> environment."""
    return {"profile": {"AEP_PROFILE": f"{folder}/profile"}, "guard": {"AEP_GUARD": "5000"}}


def unheard(settings):
    """The same variables under names that nobody reads: a process's first stack is as long as with them."""
    return {re.sub("^AEP_", "OFF_", name): value for name, value in settings.items()}


def clear(folder):
    for name in os.listdir(folder):
        if name.startswith("profile."):
            os.unlink(os.path.join(folder, name))


def run_pairs(case, name, sides, launcher, order, tell):
    """`sides`: the library watched and not. The ratio of each pair."""
    ratios = []
    for number in range(order["pairs"]):
        taken = {}
        for side in order["random"].sample(["with", "without"], 2):
            tell(f"{case.name} {name} {number + 1}")
            sample = case.run(launcher, sides[side])
            if sample.failed:
                raise SystemExit(f"bench: {case.name} {name} {side}: {sample.failed}")
            taken[side] = sample.cpu
        ratios.append(taken["with"] / taken["without"])
    return ratios


def measure_all(arguments):
    library = os.path.join(arguments.build, "preload", "libaepmalloc.so")
    settings = dict(pair.split("=", 1) for pair in arguments.set)

    def program(name):
        return os.path.join(arguments.build, "bench", "workloads", name)

    def ours(more):
        return allocators.Allocator("aep", library=os.path.abspath(library), settings=more)

    rows = []
    with tempfile.TemporaryDirectory(prefix="aep-bench-") as scratch, pool.PoolPlace(64 << 20) as place:
        launcher = measure.Launcher(program("aep_bench_launch"), place)
        cases = [c.repeated(arguments.rounds) for c in workloads.cases(program, scratch) if re.search(arguments.only, c.name)]
        for case in cases:
            if case.missing:
                raise SystemExit(f"bench: {case.name}: {case.missing}")
        workloads.prepare(cases, scratch, launcher, allocators.Allocator("plain"))
        shown = progress.Progress(len(cases) * len(arguments.way or ways(scratch)) * 2 * arguments.pairs)
        order = {"pairs": arguments.pairs, "random": random.Random(arguments.seed)}
        for case in cases:
            for name, watched in ways(scratch).items():
                if arguments.way and name not in arguments.way:
                    continue
                ratios = run_pairs(case, name, {"with": ours({**settings, **watched}), "without": ours({**settings, **unheard(watched)})}, launcher, order, shown.step)
                clear(scratch)
                low, middle, high = stats.median_interval(ratios)
                rows.append({"program": case.name, "way": name, "low": low, "median": middle, "high": high, "ratios": ratios})
        shown.end()
    return [*rows, *over_all(rows)]


def over_all(rows):
    """A way's rows of all programs in one: the n-th pairs of all of them make one ratio, their geometric mean."""
    for way in dict.fromkeys(row["way"] for row in rows):
        of_pairs = zip(*(row["ratios"] for row in rows if row["way"] == way))
        ratios = [stats.geometric_mean(pairs) for pairs in of_pairs]
        low, middle, high = stats.median_interval(ratios)
        yield {"program": ALL, "way": way, "low": low, "median": middle, "high": high, "ratios": ratios}


def table(rows):
    names = list(dict.fromkeys(row["program"] for row in rows))
    found = {(row["program"], row["way"]): "{median:.3f} ({low:.3f} to {high:.3f})".format(**row) for row in rows}
    measured = dict.fromkeys(row["way"] for row in rows)
    lines = ["| program | " + " | ".join(WAYS[way] for way in measured) + " |", "|---" * (1 + len(measured)) + "|"]
    lines += [f"| {name.removeprefix('program/')} | " + " | ".join(found[name, way] for way in measured) + " |" for name in names]
    return "\n".join(lines) + "\n"


def main():
    arguments = parse_arguments()
    command.end_with_what_runs()
    rows = measure_all(arguments)
    print(table(rows), end="")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"pairs": arguments.pairs, "confidence": stats.CONFIDENCE, "rows": rows}, file, indent=1)
            file.write("\n")
    if arguments.docs:
        markdown.fill_parts({MARK: table(rows).splitlines()}, arguments.docs)


if __name__ == "__main__":
    main()
