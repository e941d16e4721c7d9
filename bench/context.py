#!/usr/bin/python3
"""Figures of the context: what an operation through the image costs, what the undo log adds to those of sharing, what
the eBPF programs cost others, how fast a dead client is taken back, and what its neighbours notice.

    bench/context.py                              some five minutes; needs root for provider ebpf
    bench/context.py --json FILE --plot docs/context --docs docs/context_figures.md

Called by `./aep bench --context` and by hand. Every comparison is interleaved, and medians are printed.
Crash rule: the daemon and the probes end with this process; files lie in a temporary directory.
"""

import argparse
import contextlib
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

from driver import context, undo_cost

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
ROUNDS = 9
OBJECTS = 16_000_000
SURVIVOR_MS = 6000
KILL_EVERY_S = 0.5


class Daemon(context.Daemon):
    """A context of its own, with what its figures ask it."""

    def settled(self):
        """Status after every dead client is taken back."""
        while self.command("recover") is not None and self.command("clients"):
            pass
        return self.command("status")

    def environment(self, **more):
        return environment(self.build, AEP_SOCKET=self.socket, AEP_REQUIRE="1", **more)


def environment(build, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AEP_", "LD_PRELOAD"))}
    env.update(LD_PRELOAD=f"{build}/preload/libaepmalloc.so", LC_ALL="C", **more)
    return env


def probe(build, env, what, count):
    done = subprocess.run([f"{build}/bench/context/aep_bench_probe", what, str(count)], env=env,
                          capture_output=True, text=True, check=True)
    return float(done.stdout.split()[0])


def micro(build, env, case):
    done = subprocess.run([f"{build}/bench/micro/aep_bench_micro", f"--benchmark_filter=^{case}/", "--benchmark_format=json"],
                          env=env, capture_output=True, text=True, check=True)
    entry = json.loads(done.stdout)["benchmarks"][0]
    return entry["real_time"] / entry.get("items_per_iteration", 1)


def interleaved(rows):
    """rows: name -> function. Medians over rounds in which every function is called once."""
    values = {name: [] for name in rows}
    for _ in range(ROUNDS):
        for name, measure in rows.items():
            values[name].append(measure())
    return {name: statistics.median(v) for name, v in values.items()}


def operation_cost(build, daemon):
    """A malloc and a free by operations alone (AEP_PURE), two of them: direct, and through the shadow entry."""
    private = environment(build, AEP_PURE="1", AEP_CONTEXT="none")
    joined = daemon.environment(AEP_PURE="1")
    times = interleaved({"direct": lambda: probe(build, private, "pairs", 100_000),
                         "image": lambda: probe(build, joined, "pairs", 100_000)})
    return {"direct_ns": times["direct"] / 2, "image_ns": times["image"] / 2,
            "entry_ns": (times["image"] - times["direct"]) / 2}


def operation_instructions(build, daemon):
    """The same, in instructions: by callgrind, from the difference of two runs."""
    batches = 21

    def count(env, calls):
        done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
                               f"{build}/bench/context/aep_bench_probe", "pairs", str(calls)],
                              env=env, capture_output=True, text=True, check=True)
        return int(done.stderr.rsplit("Collected :", 1)[1].split()[0])

    def an_operation(env):
        return (count(env, 12_000) - count(env, 2_000)) / (10_000 * batches * 2)

    direct = an_operation(environment(build, AEP_PURE="1", AEP_CONTEXT="none"))
    image = an_operation(daemon.environment(AEP_PURE="1"))
    return {"direct": direct, "image": image, "entry": image - direct}


def cost_for_others(build, with_ebpf, without):
    """A handled signal and a thread: of a client with and without the programs, and of a stranger beside them."""
    stranger = environment(build, AEP_CONTEXT="none")
    found = {}
    for what, count in (("signals", 2000), ("threads", 150)):
        found[what] = interleaved({
            "client, provider none": lambda: probe(build, without.environment(), what, count),
            "client, provider ebpf": lambda: probe(build, with_ebpf.environment(), what, count),
            "not a client, programs loaded": lambda: probe(build, stranger, what, count)})
    return found


def recovery(build, daemon, objects=OBJECTS):
    before = daemon.settled()["recovery"]
    victim = subprocess.Popen([f"{build}/bench/context/aep_bench_probe", "victim", str(objects)],
                              env=daemon.environment(), stdout=subprocess.PIPE, preexec_fn=context.die_with_parent)
    victim.stdout.readline()
    victim.kill()
    victim.wait()
    after = daemon.settled()["recovery"]
    ns = after["ns"] - before["ns"]
    return {"objects": objects, "ms": ns / 1e6, "objects_per_second": objects / ns * 1e9}


def undo(build, nolog):
    """Sharing and deaths: provider rollback beside ebpf, and beside a build without the undo log, if they are there."""
    makers = {"rollback": (build, "rollback"), "ebpf": (build, "ebpf"), "nolog": (nolog, "none")}
    missing = {}
    with contextlib.ExitStack() as stack:
        sides = {}
        for name, (where, provider) in makers.items():
            side = undo_cost.Side(build, functools.partial(Daemon, where, provider))
            try:
                sides[name] = stack.enter_context(side)
            except context.DaemonFailed as why:
                missing[name] = str(why)
        found = {"missing": missing, "operations": undo_cost.operations(sides, shutil.which("valgrind") is not None)}
        sides.pop("nolog", None)  # none of its operations could be undone
        found["lock"] = undo_cost.lock_waits(sides)
        found["host"] = undo_cost.host_operations(sides)
        found["recovery"] = {
            name: statistics.median(one[name]["objects_per_second"] for one in taken) for name in sides
            for taken in [undo_cost.rounds_of(sides, lambda side: recovery(build, side.own, OBJECTS // 4), "recovery", 3)]}
        return found


def survivors(build, daemon, milliseconds=SURVIVOR_MS):
    """Throughput of one client in bins of 10 ms while others, busy with the same, are killed every half second."""
    start = {"env": daemon.environment(), "stdout": subprocess.PIPE, "text": True, "preexec_fn": context.die_with_parent}
    program = f"{build}/bench/context/aep_bench_probe"
    survivor = subprocess.Popen([program, "survivor", str(milliseconds)], **start)
    begun = int(survivor.stdout.readline())
    kills = []
    while time.monotonic_ns() - begun < (milliseconds - 700) * 1e6:
        victim = subprocess.Popen([program, "victim", "200000"], **start)
        victim.stdout.readline()
        time.sleep(KILL_EVERY_S)
        kills.append((time.monotonic_ns() - begun) / 1e6)
        victim.kill()
        victim.wait()
        time.sleep(0.1)  # the next one's start, beside it on the same core, is nothing of this one's death
    bins = [int(line) for line in survivor.stdout.read().split()]
    survivor.wait()

    def mean(kill, first, last):
        at = int(kill // 10)
        return statistics.fmean(bins[at + first:at + last])

    # Before the kill the victim sleeps: 150 ms of undisturbed work. After it, the 50 ms in which it is taken back.
    ratios = [mean(k, 0, 5) / mean(k, -15, 0) for k in kills if 20 < k // 10 < len(bins) - 6]
    return {"bins": bins, "kills_ms": kills, "dip": 1 - statistics.median(ratios), "worst_dip": 1 - min(ratios)}


def latency(build):
    """From the provider tests, which time each of some hundred kills."""
    done = subprocess.run([f"{build}/tests/provider/provider", "--gtest_filter=*Latency*"], capture_output=True, text=True,
                          check=False)
    return [line.strip() for line in done.stdout.splitlines() if "p50" in line]


def private_against_joined(build, daemon):
    cases = ["pair/64", "batch/random/64", "batch/random/mixed", "live/cached/mixed", "mixed/8_32k", "large/pair",
             "calloc/small_64", "realloc/by_16_to_16k", "remote/random/64"]
    private, joined = environment(build, AEP_CONTEXT="none"), daemon.environment()
    found = {}
    for case in cases:
        times = interleaved({"private": lambda: micro(build, private, case), "joined": lambda: micro(build, joined, case)})
        found[case] = times["joined"] / times["private"]
    return {"cases": found, "geometric_mean": statistics.geometric_mean(found.values())}


def draw(document, stem):
    import matplotlib
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "aep-bench", "font.size": 9})
    from matplotlib import pyplot
    data = document["survivors"]
    figure, (axes, waits) = pyplot.subplots(1, 2, figsize=(11, 3), width_ratios=(2, 1))
    axes.plot([i / 100 for i in range(len(data["bins"]))], [b / 10_000 for b in data["bins"]], linewidth=0.8)
    for kill in data["kills_ms"]:
        axes.axvline(kill / 1000, color="#d55e00", linewidth=0.8, linestyle=":")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("s (dotted: a neighbour is killed)")
    axes.set_ylabel("malloc/free pairs a µs, 10 ms bins")
    for name, one in document["undo"]["lock"].items():
        share = [(i + 1) / len(one["all"]) for i in range(len(one["all"]))]
        waits.step([ns / 1000 for ns in one["all"]], share, where="post", linewidth=0.8, label=name)
    waits.set_xscale("log")
    waits.set_xlabel("µs from the kill of the lock's holder\nuntil who waited for it goes on")
    waits.set_ylabel("share of kills")
    waits.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(stem + ".svg", metadata={"Date": None})
    figure.savefig(stem + ".png", dpi=110)


def table(document):
    d = document
    yield "| figure | measured |"
    yield "|---|---|"
    op = d["operation"]
    yield f"| one operation, direct / through the shadow entry | {op['direct_ns']:.1f} / {op['image_ns']:.1f} ns |"
    if d["instructions"]:
        n = d["instructions"]
        yield f"| the same in instructions; what the shadow entry adds | {n['direct']:.0f} / {n['image']:.0f}; {n['entry']:.0f} |"
    for what, name in (("signals", "a handled signal"), ("threads", "a thread made and joined")):
        for who, ns in d["others"][what].items():
            yield f"| {name}: {who} | {ns:.0f} ns |"
    for line in d["latency"]:
        what, _, times = line.partition(": ")
        yield f"| {what} | {times} |"
    r = d["recovery"]
    yield f"| a dead client with {r['objects'] / 1e6:.0f} M objects of 64 B is taken back in | {r['ms']:.2f} ms, {r['objects_per_second'] / 1e6:.0f} M objects/s |"
    s = d["survivors"]
    yield f"| a neighbour's throughput in the 50 ms after a kill | {-100 * s['dip']:+.1f} % (median), {-100 * s['worst_dip']:+.1f} % (worst of {len(s['kills_ms'])}) |"
    p = d["joined"]
    yield f"| joined / private, geometric mean of {len(p['cases'])} cases | {p['geometric_mean']:.3f} |"
    for case, ratio in p["cases"].items():
        yield f"| joined / private: {case} | {ratio:.2f} |"


def undo_table(found):
    yield from undo_cost.operation_table(found["operations"])
    yield ""
    yield "| after a death | " + " | ".join(found["lock"]) + " |"
    yield "|---" * (1 + len(found["lock"])) + "|"
    for what in ("p50", "p99"):
        yield (f"| kill of the lock's holder until who waited goes on, {what} | " +
               " | ".join(f"{one[what] / 1000:.0f} us" for one in found["lock"].values()) + " |")
    yield "| such kills | " + " | ".join(str(one["kills"]) for one in found["lock"].values()) + " |"
    yield ("| an operation of the host's on 64 shared objects of the dead | " +
           " | ".join(f"{one['operation_ns'] / 1000:.1f} us" for one in found["host"].values()) + " |")
    yield ("| shared objects of the dead taken back | " +
           " | ".join(f"{one['objects_per_second'] / 1e6:.2f} M/s" for one in found["host"].values()) + " |")
    yield (f"| {OBJECTS // 4 / 1e6:.0f} M objects that it had not shared | " +
           " | ".join(f"{rate / 1e6:.0f} M/s" for rate in found["recovery"].values()) + " |")
    for name, why in found["missing"].items():
        yield f"\nNot measured: {name}: {why}."


def fill(path, lines):
    begin, end = "<!-- figures -->", "<!-- end of figures -->"
    with open(path, encoding="utf-8") as file:
        text = file.read()
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    with open(path, "w", encoding="utf-8") as file:
        file.write(head + begin + "\n" + "\n".join(lines) + "\n" + end + tail)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"), metavar="DIR")
    parser.add_argument("--nolog", metavar="DIR", default=os.path.join(ROOT, "build", "nolog"),
                        help="a build of the preset nolog, beside which the undo log is measured (default: build/nolog)")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", metavar="STEM", help="draw the survivors' throughput as STEM.svg and STEM.png")
    parser.add_argument("--docs", metavar="FILE", help="write the table into this page, between its markers")
    arguments = parser.parse_args()
    build = os.path.abspath(arguments.build)
    try:
        return measure(build, arguments)
    except context.DaemonFailed as why:
        raise SystemExit(f"bench: {why}") from None


def measure(build, arguments):
    before = os.getloadavg()[0]
    with Daemon(build, "none") as without, Daemon(build, "auto") as daemon:
        provider = daemon.command("status")["provider"]
        document = {
            "provider": provider,
            "operation": operation_cost(build, daemon),
            "instructions": operation_instructions(build, daemon) if shutil.which("valgrind") else None,
            "others": cost_for_others(build, daemon, without),
            "recovery": recovery(build, daemon),
            "survivors": survivors(build, daemon),
            "joined": private_against_joined(build, daemon),
            "latency": latency(build) if provider == "ebpf" else ["not measured: no provider here"],
        }
    document["undo"] = undo(build, os.path.abspath(arguments.nolog))
    lines = [f"Load when this was measured: {' '.join(f'{load:.1f}' for load in (before, *os.getloadavg()[:1]))} "
             f"(before, after), {os.cpu_count()} processors.", "", *table(document), "", *undo_table(document["undo"])]
    print("\n".join(lines))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
    if arguments.docs:
        fill(arguments.docs, lines)
    if arguments.plot:
        draw(document, arguments.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
