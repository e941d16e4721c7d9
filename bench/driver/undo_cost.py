"""What the undo log costs, and what is waited for after a death: provider `rollback` beside `ebpf`, and beside a build
without the log (preset `nolog`).

Used by ../context.py. Every round measures each case in each context, in shuffled order; ratios are taken inside a
round, and medians of them are reported. Crash rule: nothing outlives the driver.
"""

import contextlib
import os
import random
import statistics
import subprocess

from driver import context

ROUNDS = 9
KILLS = 20  # a round
SHARED = (20_000, 100_000)  # objects of a dead client
LEAVE_STEP = 64  # records that one operation of the host deals with
# Case, what it is called, its count, and that of two runs whose difference in instructions is taken.
ALONE = (("transfer", "a reference sent, received, dropped", 4000, (200, 1200)),
         ("reference", "one taken and dropped", 5000, (200, 1200)),
         ("first", "a block's first reference and its last, with malloc and free", 3000, (200, 1200)),
         ("call", "a call and its answer, in one process", 1500, (200, 1200)),
         ("group", "a group made, its root set, closed", 1000, (50, 250)),
         ("extents", "the same with four extents", 300, (50, 250)))
BATCHES = 21
PEERS = (("rpc", "near", "a call and its answer, two clients", 20_000),
         ("rpc", "far", "the same, on two nodes", 20_000),
         ("stream", "far", "a reference sent to another node, in a stream", 50_000))


class Side(contextlib.ExitStack):
    """Of the comparison: a context alone, and two on two nodes of one pool. `make(**more)` makes a daemon."""

    def __init__(self, build, make):
        super().__init__()
        self._programs, self._make = build, make

    def __enter__(self):
        self.own = self.enter_context(self._make())
        pool = ("--pool", os.path.join(self.own.folder, "nodes.pool"))
        self.near, self.far = (self.enter_context(self._make(pool_size="1G", more=("--node", str(n), "--pool-caches", "cxl", *pool)))
                               for n in (1, 2))
        return self

    def _run(self, daemon, program, *words):
        done = subprocess.run([f"{self._programs}/bench/{program}", *map(str, words)], env=daemon.environment(),
                              capture_output=True, text=True, timeout=context.TIMEOUT_S, check=True)
        return done.stdout.split()

    def alone(self, case, count):
        return float(self._run(self.own, "context/aep_bench_sharing", case, count)[0])

    def peers(self, case, where, count):
        here, there = (self.own, self.own) if where == "near" else (self.near, self.far)
        name = context.new_name()
        with context.other_end([f"{self._programs}/bench/dsm/aep_bench_dsm", "serve", "1", name], there.environment()):
            return float(self._run(here, "dsm/aep_bench_dsm", case, count, name)[1])

    def instructions(self, case, counts):
        """Of one call: by callgrind, from the difference of two runs."""
        def collected(count):
            done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
                                   f"{self._programs}/bench/context/aep_bench_sharing", case, str(count)],
                                  env=self.own.environment(), capture_output=True, text=True, check=True)
            return int(done.stderr.rsplit("Collected :", 1)[1].split()[0])
        few, many = counts
        return (collected(many) - collected(few)) / ((many - few) * BATCHES)

    def deaths(self, what, number):
        library = f"{self.own.build}/preload/libaepmalloc.so"
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("AEP_", "LD_PRELOAD"))}
        done = subprocess.run([f"{self._programs}/bench/context/aep_bench_deaths", library, self.own.socket,
                               f"{self.own.folder}/context/context", what, str(number)], env=plain,
                              capture_output=True, text=True, timeout=context.TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise SystemExit(f"bench: aep_bench_deaths {what}: {done.stderr.strip()}")
        self.own.settled()
        return [float(word) for word in done.stdout.split()]


def rounds_of(sides, measure, seed, rounds=ROUNDS):
    """Of each round: side -> what `measure(side)` said, in shuffled order."""
    order = random.Random(seed)
    found = []
    for _ in range(rounds):
        names = list(sides)
        order.shuffle(names)
        found.append({name: measure(sides[name]) for name in names})
    return found


def compare(sides, measure, seed):
    found = rounds_of(sides, measure, seed)
    row = {name: statistics.median(one[name] for one in found) for name in sides}
    for base in sides:
        ratios = sorted(one["rollback"] / one[base] for one in found)
        row[f"to_{base}"] = {"median": statistics.median(ratios), "low": ratios[len(ratios) // 4],
                             "high": ratios[-1 - len(ratios) // 4]}
    return row


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def operations(sides, valgrind):
    rows = []
    for case, name, count, counts in ALONE:
        row = {"name": name, "ns": compare(sides, lambda side: side.alone(case, count), case)}
        if valgrind:
            row["instructions"] = {who: side.instructions(case, counts) for who, side in sides.items() if who != "ebpf"}
        rows.append(row)
    for case, where, name, count in PEERS:
        rows.append({"name": name, "ns": compare(sides, lambda side: side.peers(case, where, count), name)})
    return rows


def lock_waits(sides):
    """From the kill of who has the lock to the end of the operation that waited for it, ns."""
    found = rounds_of(sides, lambda side: side.deaths("lock", KILLS), "lock")
    waits = {}
    for name in sides:
        all_of_it = [wait for one in found for wait in one[name]]
        waits[name] = {"kills": len(all_of_it), "p50": percentile(all_of_it, .5), "p99": percentile(all_of_it, .99),
                       "all": sorted(all_of_it)}
    return waits


def host_operations(sides):
    """What one operation of the host's takes: the difference of two clients taken back."""
    few, many = SHARED
    rows = {}
    found = rounds_of(sides, lambda side: (side.deaths("shared", few)[0], side.deaths("shared", many)[0]), "shared", 5)
    for name in sides:
        ns = statistics.median(one[name][1] - one[name][0] for one in found)
        rows[name] = {"operation_ns": ns / ((many - few) / LEAVE_STEP), "objects_per_second": (many - few) / ns * 1e9}
    return rows


def ratio_text(ratio):
    return f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def operation_table(rows):
    sides = [name for name in ("ebpf", "rollback", "nolog") if name in rows[0]["ns"]]
    yield "| operations | " + " | ".join(f"{name}, ns" for name in sides) + \
          "".join(f" | rollback / {name}" for name in sides if name != "rollback") + " | instructions: rollback / nolog |"
    yield "|---" * (len(sides) * 2 + 1) + "|"
    for row in rows:
        ns, counted = row["ns"], row.get("instructions", {})
        text = "| " + row["name"] + "".join(f" | {ns[name]:.0f}" for name in sides)
        text += "".join(f" | {ratio_text(ns['to_' + name])}" for name in sides if name != "rollback")
        yield text + (f" | {counted['rollback']:.0f} / {counted['nolog']:.0f} = {counted['rollback'] / counted['nolog']:.2f} |"
                      if len(counted) == 2 else " | |")
