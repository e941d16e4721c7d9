#!/usr/bin/python3
"""The paper's tables and figures, each beside its number there: ours, a flat baseline, Lightning's rule, plain memory, sockets.

    bench/paper.py --quick --json FILE        in some ten minutes
    bench/paper.py --docs docs/paper.md       everything, and the page of it with its plots
    bench/paper.py --from FILE --docs docs/paper.md
    bench/paper.py --only '^Figure 12'

Each round runs all sides of all rows, in shuffled order; ratios are taken inside a round. Where the paper says how many times
better than CXL-SHM its system is, ours is *met* or *missed* against that, with flat `published` in CXL-SHM's place; a target
changes no exit status, which is 1 when a run failed.
"""

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import dsm  # noqa: E402
from driver import allocators, command, context, paper_figures, paper_page, paper_rows, progress, report  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"), metavar="DIR", help="default: build/release")
    parser.add_argument("--quick", action="store_true", help="less work a run, 3 rounds")
    parser.add_argument("--rounds", type=int, help="default: 7, quick: 3")
    parser.add_argument("--json", metavar="FILE", help="write all results there")
    parser.add_argument("--docs", metavar="FILE", help="write the page there, and its plots into a folder of that name beside it")
    parser.add_argument("--from", dest="source", metavar="FILE", help="no run: the page of this JSON file")
    parser.add_argument("--only", default="", metavar="REGEX", help="rows whose figure and text match, and nothing else")
    parser.add_argument("--seed", type=int, default=1, help="of the shuffled order")
    return parser.parse_args()


def execute(build, row, side, contexts):
    """The figure of one run, or {"failed": why}."""
    words, env = [f"{build}/apps/{row.program}", "--over", side], dsm.plain_environment()
    if side in paper_rows.IN_BENCH:
        words[0] = f"{build}/bench/apps/aep_bench_app_{row.program}"
    if side == "aep":
        daemon = contexts.near if row.remote else contexts.own
        env |= {"AEP_SOCKET": daemon.socket, "AEP_REQUIRE": "1"}
        if row.remote:
            words += ["--nodes", f"{contexts.near.socket},{contexts.far.socket}", "--stay", str(row.stay)]
    try:
        done = subprocess.run([*words, "--json", *map(str, row.words)], env=env, capture_output=True, text=True, check=True,
                              timeout=context.TIMEOUT_S, preexec_fn=context.die_with_parent)
        return json.loads(done.stdout)[row.value]
    except subprocess.CalledProcessError as why:
        return {"failed": f"status {why.returncode}: {why.stderr.strip()[-200:]}"}
    except subprocess.TimeoutExpired:
        return {"failed": f"still running after {context.TIMEOUT_S} s"}


def leave_out_missing(rows, build):
    """Sides over which this build has no programs; says which."""
    missing = set()
    for program in {row.program for row in rows}:
        asked = subprocess.run([f"{build}/bench/apps/aep_bench_app_{program}", "--help"], capture_output=True, text=True, check=True)
        for row in (row for row in rows if row.program == program):
            lacks = {side for side in row.others if side in paper_rows.IN_BENCH and side not in re.findall(r"[a-z]+", asked.stdout)}
            row.others = tuple(side for side in row.others if side not in lacks)
            missing |= lacks
    if missing:
        print(f"bench: not measured: {', '.join(sorted(missing))} (not there when this was built: see ci/packages/bench.txt)", file=sys.stderr)


def summary(row, samples):
    """The row's entry of the document."""
    failed = [value for values in samples.values() for value in values if isinstance(value, dict)]
    if failed:
        return paper_figures.of_application(row, {}, {}) | failed[0]
    sides = {side: statistics.median(values) for side, values in samples.items()}
    if row.figure == "Figure 2(b)":
        return paper_figures.share_of_fault_tolerance(row, sides)
    times = {}
    for baseline in paper_rows.BASELINES:
        pairs = [pair for pair in zip(samples["aep"], samples.get(baseline, [])) if all(pair)]
        if pairs:
            times[baseline] = statistics.median((ours / its if row.more else its / ours) for ours, its in pairs)
    return paper_figures.of_application(row, sides, times)


def applications(arguments, build, rounds):
    """(entries, why some are missing)."""
    rows = [row for row in paper_rows.rows(arguments.quick) if re.search(arguments.only, f"{row.figure} {row.what}")]
    leave_out_missing(rows, build)
    with dsm.Contexts(build) as contexts:
        if contexts.missing:
            rows = [row for row in rows if not row.remote]
        jobs = [(i, side) for i, row in enumerate(rows) for side in ("aep", *row.others)]
        samples = [{side: [] for side in ("aep", *row.others)} for row in rows]
        order, line = random.Random(arguments.seed), progress.Progress(rounds * len(jobs))
        for number in range(rounds):
            for i, side in order.sample(jobs, len(jobs)):
                line.step(f"round {number + 1} {rows[i].figure} {side}")
                samples[i][side].append(execute(build, rows[i], side, contexts))
        line.end()
        return [summary(row, got) for row, got in zip(rows, samples)], contexts.missing


def operations(arguments, rounds):
    """(entries, what a survivor of deaths did), by dsm.py."""
    asked = argparse.Namespace(build=arguments.build, quick=arguments.quick, rounds=rounds, seed=arguments.seed, cxl_latency=0,
                               only=paper_figures.operations_regex())
    found = dsm.measure(asked)
    entries = [paper_figures.of_operation(entry) for entry in found["rows"]]
    with dsm.Contexts(arguments.build) as contexts:
        alive = dsm.survivors(asked, arguments.build, contexts)
    return entries, alive


def memory(arguments, build, rounds):
    """What this machine's memory does, and how much allocators take for objects."""
    program = f"{build}/bench/dsm/aep_bench_memory"

    def medians(words, env=None):
        runs = []
        for _ in range(rounds):
            done = subprocess.run([program, *map(str, words)], env=dsm.plain_environment() | (env or {}), capture_output=True, text=True,
                                  check=True, timeout=context.TIMEOUT_S, preexec_fn=context.die_with_parent)
            runs.append(dsm.parse(done.stdout))
        return {name: statistics.median(run[name] for run in runs) for name in runs[0]}

    units = {"latency_ns": ("latency", "ns"), "seq_mb_s": ("read in order", "MB/s"), "rand_mb_s": ("lines in random order", "MB/s"),
             "cas_mops": ("compare-and-swap of one's own word", "M/s")}
    speed = medians(["speed", 512])
    entries = [{"figure": "Table 3", "what": units[name][0], "unit": units[name][1], "paper": None, "sides": {"this machine": value}, "times": {}}
               for name, value in speed.items()]
    found = allocators.discover(["aep", "mimalloc", "glibc"], [], build, "", 0, {})
    takers = {one.name: one.environment() | {"LD_PRELOAD": one.library} for one in found if not one.missing}
    for objects in (1_000_000, 10_000_000) if arguments.quick else (1_000_000, 10_000_000, 100_000_000):
        sides = {name: medians(["footprint", objects, 64], env)["extra_bytes"] for name, env in takers.items()}
        entries.append({"figure": "Figure 9(b)", "what": f"{objects // 1_000_000} M objects of 64 bytes", "unit": "B", "paper": None,
                        "sides": sides, "times": {}})
    return entries


def measure(arguments):
    build = arguments.build = os.path.abspath(arguments.build)
    rounds = arguments.rounds or (3 if arguments.quick else 7)
    entries, missing = applications(arguments, build, rounds)
    alive = None
    if re.search(arguments.only, "Table 3") or re.search(arguments.only, "Figure 9(b)"):
        entries += memory(arguments, build, 1 if arguments.quick else 3)
    if not arguments.only:
        more, alive = operations(arguments, rounds)
        entries += more
    if not entries:
        raise SystemExit(f"bench: no row matches {arguments.only}")
    return {"format": 2, "machine": report.machine(), "quick": arguments.quick, "revision": report.revision(ROOT), "rounds": rounds,
            "missing": missing, "rows": entries, "survivors": alive}


def main():
    arguments = parse_arguments()
    command.end_with_what_runs()
    document = command.document(arguments, measure)
    if arguments.json:
        report.write(document, arguments.json)
    print(paper_page.text(document))
    if arguments.docs:
        paper_page.write(document, arguments.docs)
    return 1 if any("failed" in row for row in document["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
