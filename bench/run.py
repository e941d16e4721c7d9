#!/usr/bin/python3
"""Measures malloc implementations side by side; the whole benchmark in one command.

    bench/run.py                          everything, about 20 minutes
    bench/run.py --quick --json FILE      within 5 minutes
    bench/run.py --only '^pair/' --allocators mimalloc,aep
    bench/run.py --peer mi3=/opt/mimalloc/libmimalloc.so --peer sn=/opt/snmalloc/libsnmallocshim.so
    bench/run.py --program 'cfrac=/opt/bench/cfrac 1754518652050731' --only ^program/
    bench/run.py --instructions           instruction counts instead of times
    bench/run.py --from FILE --plot docs/benchmarks.svg --docs docs/benchmarks.md

Each round runs every case under every allocator, in shuffled order, each in a process of its own; ratios are
taken inside a round, to the first --peer, without one to mimalloc. Peers that are not installed, and programs, are named in the output. See bench/README.md.
"""

import argparse
import os
import random
import re
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from driver import allocators, command, context, headline, instructions, markdown, measure, micro, plot, pool  # noqa: E402
from driver import progress as progress_line  # noqa: E402
from driver import report, stats, targets, workloads  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
QUICK_BUDGET_S = 210  # of the measuring; building comes before it
# Cases that take many fresh pages, programs among them: memory is warmed before each of their runs, whatever the
# allocator.
WARMED = re.compile(r"^(huge/|large/live|realloc/large_64m|synthetic/|program/)")
WARM_BYTES = 512 << 20


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"), metavar="DIR",
                        help="build folder that holds preload/ and bench/ (default: build/release)")
    parser.add_argument("--bench-build", metavar="DIR", help="where the benchmark programs are, if not in --build")
    parser.add_argument("--quick", action="store_true", help="less work a case and few rounds; within 5 minutes")
    parser.add_argument("--json", metavar="FILE", help="write all results there")
    parser.add_argument("--plot", metavar="FILE", help="draw the results as FILE.svg and FILE.png")
    parser.add_argument("--docs", metavar="FILE", help="write the results into this page, between its markers")
    parser.add_argument("--from", dest="source", metavar="FILE", help="no run: tables and plot of this JSON file")
    parser.add_argument("--instructions", action="store_true", help="count instructions (callgrind) instead")
    parser.add_argument("--rounds", type=int, help="rounds of every case (default: 15 and 7, quick: 7 and 3)")
    parser.add_argument("--only", default="", metavar="REGEX", help="cases whose name matches")
    parser.add_argument("--allocators", default=",".join(allocators.ALL), metavar="LIST",
                        help=f"of {','.join(allocators.ALL)}")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=LIB",
                        help="an allocator's shared library to measure beside those; any number")
    parser.add_argument("--program", action="append", default=[], metavar="NAME=COMMAND",
                        help="a program to measure beside ours, as program/NAME by its CPU time, or by the number in a line "
                        "'# value NUMBER' that it prints; any number")
    parser.add_argument("--pool-size", type=int, default=4 << 30, metavar="BYTES", help="AEP_POOL_SIZE (default 4 GiB)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="environment variable of our own library, e.g. AEP_DECAY_MS=0")
    parser.add_argument("--seed", type=int, default=1, help="of the shuffled order")
    return parser.parse_args()


def program(arguments, name):
    """Path of a built benchmark program: in the top build or in bench's own."""
    roots = [arguments.bench_build, arguments.build, os.path.join(ROOT, "build", "bench")]
    for root in filter(None, roots):
        for folder in ("bench/micro", "bench/workloads", "micro", "workloads"):
            path = os.path.join(root, folder, name)
            if os.access(path, os.X_OK):
                return os.path.abspath(path)
    raise SystemExit(f"bench: {name} is not built (looked in {arguments.build} and build/bench); "
                     "cmake -S bench -B build/bench && cmake --build build/bench")


def rounds_of(arguments, case):
    if arguments.rounds:
        return arguments.rounds
    if case.set == "micro":
        return 7 if arguments.quick else 15
    return 3 if arguments.quick else 7


def run_rounds(arguments, cases, chosen, launcher, results):
    """All rounds; a case that failed under an allocator is not run again under it.

    In a quick run a round is begun only if, by what its cases took before, it ends within the budget.
    """
    order = random.Random(arguments.seed)
    present = [a for a in chosen if not a.missing]
    runnable = [c for c in cases if not c.missing]
    progress = progress_line.Progress(sum(rounds_of(arguments, c) for c in runnable) * len(present))
    start = time.monotonic()
    took = {}
    for number in range(max((rounds_of(arguments, c) for c in runnable), default=0)):
        turn = [c for c in runnable if number < rounds_of(arguments, c)]
        foreseen = time.monotonic() - start + sum(took.get(c.name, 0) for c in turn)
        if arguments.quick and number > 0 and foreseen > QUICK_BUDGET_S:
            progress.end()
            print(f"bench: stopped after {number} rounds to stay within 5 minutes", file=sys.stderr)
            break
        for case in turn:
            begun = time.monotonic()
            for allocator in order.sample(present, len(present)):
                progress.step(f"round {number + 1} {case.name} {allocator.name}")
                if WARMED.match(case.name):
                    pool.PoolPlace.warm(WARM_BYTES)
                if not results.failure(case, allocator):
                    results.add(case, allocator, case.run(launcher, allocator))
            took[case.name] = time.monotonic() - begun
    progress.end()


def measure_all(arguments, chosen, baseline, place):
    """The timed run: every case, every round; returns the document."""
    micro_program = program(arguments, "aep_bench_micro")
    with tempfile.TemporaryDirectory(prefix="aep-bench-") as scratch:
        cases = micro.cases(micro_program, 0.5 if arguments.quick else 1)
        cases += workloads.cases(lambda name: program(arguments, name), scratch, arguments.program)
        cases = [c for c in cases if re.search(arguments.only, c.name)]
        if not cases:
            raise SystemExit(f"bench: no case matches {arguments.only}")
        launcher = measure.Launcher(program(arguments, "aep_bench_launch"), place)
        plain = allocators.Allocator("plain")
        workloads.prepare([c for c in cases if c.set == "workload"], scratch, launcher, plain)
        results = stats.Results(cases, chosen, baseline)
        run_rounds(arguments, cases, chosen, launcher, results)
    about = {"quick": arguments.quick, "seed": arguments.seed, "revision": report.revision(ROOT),
             "pool": place.kind, "pool_size": place.size, "set": dict(p.split("=", 1) for p in arguments.set)}
    return report.document(results, about)


def count_instructions(arguments, chosen):
    def progress(text):
        print(f"counting: {text}", file=sys.stderr)

    counts = instructions.count_all(program(arguments, "aep_bench_count"), chosen, progress)
    return {"format": 1, "machine": report.machine(), "instructions": counts}


def run(arguments):
    names = [n for n in arguments.allocators.split(",") if n]
    settings = dict(pair.split("=", 1) for pair in arguments.set)
    peers = allocators.parse_peers(arguments.peer)
    with (pool.PoolPlace(arguments.pool_size) as place,
          context.JoinedContext(arguments.build, arguments.pool_size, "aep-joined" in names) as joined):
        chosen = allocators.discover(names, peers, arguments.build, place.path, place.size, settings, joined)
        for allocator in chosen:
            allocators.verify(allocator, program(arguments, "aep_bench_micro"))
            place.clear()
            if allocator.missing and allocator.name in peers:
                raise SystemExit(f"bench: --peer {allocator.name}={allocator.library}: {allocator.missing}")
        if arguments.instructions:
            return count_instructions(arguments, chosen)
        return measure_all(arguments, chosen, allocators.baseline(chosen, peers), place)


def main():
    arguments = parse_arguments()
    command.end_with_what_runs()
    document = command.document(arguments, run)
    if "cases" in document:
        document["headline"] = headline.evaluate(document)
        document["targets"] = targets.evaluate(document)
    if arguments.json:
        report.write(document, arguments.json)
    if "cases" in document:
        report.table(document, sys.stdout)
        targets.table(document["targets"], document["baseline"], sys.stdout)
        headline.table(document, sys.stdout)
    if "instructions" in document:
        instructions.table(document["instructions"], sys.stdout)
    if arguments.docs:
        markdown.fill(document, arguments.docs)
    if arguments.plot:
        print("plot:", *plot.draw(document, arguments.plot), file=sys.stderr)
    return 1 if document.get("failures") else 0


if __name__ == "__main__":
    sys.exit(main())
