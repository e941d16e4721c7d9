#!/usr/bin/python3
"""The paper's figures that are made of applications: ours beside a flat baseline, plain memory and sockets.

    bench/paper.py --quick --json FILE        a few minutes
    bench/paper.py --docs docs/paper.md       everything, and the page of it

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
from driver import context, markdown, paper_rows, progress, report  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"), metavar="DIR", help="default: build/release")
    parser.add_argument("--quick", action="store_true", help="less work a run, 3 rounds")
    parser.add_argument("--rounds", type=int, help="default: 7, quick: 3")
    parser.add_argument("--json", metavar="FILE", help="write all results there")
    parser.add_argument("--docs", metavar="FILE", help="write the page there")
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
            words += ["--nodes", f"{contexts.near.socket},{contexts.far.socket}"]
    try:
        done = subprocess.run([*words, "--json", *map(str, row.words)], env=env, capture_output=True, text=True, check=True,
                              timeout=context.TIMEOUT_S, preexec_fn=context.die_with_parent)
        return json.loads(done.stdout)[row.value]
    except subprocess.CalledProcessError as why:
        return {"failed": f"status {why.returncode}: {why.stderr.strip()[-200:]}"}
    except subprocess.TimeoutExpired:
        return {"failed": f"still running after {context.TIMEOUT_S} s"}


def has_zeromq(build):
    help_text = subprocess.run([f"{build}/bench/apps/aep_bench_app_rpc", "--help"], capture_output=True, text=True, check=True).stdout
    return "zeromq" in help_text


def summary(row, samples):
    entry = {"figure": row.figure, "what": row.what, "unit": row.unit, "paper": row.paper}
    failed = [value for values in samples.values() for value in values if isinstance(value, dict)]
    if failed:
        return entry | failed[0]
    entry |= {side: statistics.median(values) for side, values in samples.items()}
    for baseline in paper_rows.BASELINES:
        if baseline not in samples:
            continue
        pairs = [pair for pair in zip(samples["aep"], samples[baseline]) if all(pair)]
        ratio = statistics.median((ours / its if row.more else its / ours) for ours, its in pairs)
        entry[f"times_{baseline}"] = ratio
        if baseline == "flat" and row.paper is not None:
            entry["met"] = ratio >= row.paper
    return entry


def measure(arguments):
    build = os.path.abspath(arguments.build)
    rows = [row for row in paper_rows.rows(arguments.quick) if re.search(arguments.only, f"{row.figure} {row.what}")]
    if not rows:
        raise SystemExit(f"bench: no row matches {arguments.only}")
    if not has_zeromq(build):
        print("bench: not measured: ZeroMQ (it was not there when this was built; Debian's libzmq3-dev)", file=sys.stderr)
        for row in rows:
            row.others = tuple(side for side in row.others if side != "zeromq")
    with dsm.Contexts(build) as contexts:
        if contexts.missing:
            rows = [row for row in rows if not row.remote]
        jobs = [(i, side) for i, row in enumerate(rows) for side in ("aep", *row.others)]
        samples = [{side: [] for side in ("aep", *row.others)} for row in rows]
        rounds = arguments.rounds or (3 if arguments.quick else 7)
        order, line = random.Random(arguments.seed), progress.Progress(rounds * len(jobs))
        for number in range(rounds):
            for i, side in order.sample(jobs, len(jobs)):
                line.step(f"round {number + 1} {rows[i].figure} {side}")
                samples[i][side].append(execute(build, rows[i], side, contexts))
        line.end()
        missing = contexts.missing
    return {"format": 1, "machine": report.machine(), "quick": arguments.quick, "revision": report.revision(ROOT), "rounds": rounds,
            "missing": missing, "rows": [summary(row, got) for row, got in zip(rows, samples)]}


def table(document):
    """The lines of the page's table."""
    sides = ("aep", "flat", "lightning", "local", "unix", "tcp", "zeromq")
    lines = [*markdown.head(["figure", "what", "ours", "flat *published*", "Lightning's rule", "local", "Unix socket", "TCP", "ZeroMQ",
                             "times better than flat", "than Lightning's rule", "paper"])]
    for entry in document["rows"]:
        cells = [entry["figure"], entry["what"]]
        if "failed" in entry:
            lines.append(markdown.row([*cells, f"failed: {entry['failed']}", *[""] * 9]))
            continue
        cells += [f"{entry[side]:.4g} {entry['unit']}" if side in entry else "" for side in sides]
        cells += [f"{entry[f'times_{one}']:.2f}" if f"times_{one}" in entry else "" for one in paper_rows.BASELINES]
        paper = "" if entry["paper"] is None else f"{entry['paper']:.2f}: " + ("*met*" if entry.get("met") else "*missed*")
        lines.append(markdown.row([*cells, paper]))
    return "\n".join(lines)


def page(document):
    machine = document["machine"]
    return "\n\n".join(["# The paper's figures", "Written by `./aep bench --paper --docs docs/paper.md`. Medians of "
                        f"{document['rounds']} rounds; revision {document['revision']}{', quick' if document['quick'] else ''}. Flat: each client a "
                        "node, with the flushes and fences of CXL-SHM's published code. Lightning's rule: one lock, an undo log with a fence for each word; "
                        "its published code merges free blocks besides. Both are baselines of our own. Local: plain shared memory, no fault "
                        "tolerance.",
                        "Machine: " + ", ".join(f"{name} {value}" for name, value in machine.items()) + ".", table(document)]) + "\n"


def main():
    arguments = parse_arguments()
    try:
        document = measure(arguments)
    except context.DaemonFailed as why:
        raise SystemExit(f"bench: {why}") from None
    if arguments.json:
        report.write(document, arguments.json)
    print(table(document))
    if arguments.docs:
        with open(arguments.docs, "w", encoding="utf-8") as file:
            file.write(page(document))
    return 1 if any("failed" in row for row in document["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
