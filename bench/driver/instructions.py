"""Instructions, cache lines and branches: malloc, free, and remote free of 64 bytes, simulated by callgrind.

Used by run.py --instructions. Two runs that differ only in their number of rounds give the count of the
rounds between them, so start-up and warm-up drop out; the loop around the calls is counted by the same loop
with an empty function and subtracted. What is left is the path from the call to its return, the jump through
the PLT included. Counts are exact for the sequence run, and do not depend on the machine's load, nor on its CPU:
the caches and the branch predictor are valgrind's, the first level of a size given here.
"""

import functools
import os
import re
import shutil
import subprocess
import tempfile

BATCH = 1000  # operations a round, see micro/count.cpp
ROUNDS = 40
CACHES = ("--cache-sim=yes", "--branch-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=8388608,16,64")

# what is counted -> (mode of aep_bench_count, function counted, mode and function of the loop alone, callgrind's events)
_LOOP = ("control", "aep_count_control")
_SPREAD = ("spread", "aep_count_spread", ("spread_control", "aep_count_spread_control"))
COUNTED = {
    "malloc": ("local", "aep_count_malloc", _LOOP, ("Ir",)),
    "free": ("local", "aep_count_free", _LOOP, ("Ir",)),
    "malloc of remotely freed memory": ("remote", "aep_count_malloc", _LOOP, ("Ir",)),
    "remote free": ("remote", "aep_count_remote_free", _LOOP, ("Ir",)),
    "pair over a large live set": (*_SPREAD, ("Ir",)),
    "its cache lines": (*_SPREAD, ("D1mr", "D1mw")),
    "its branch misses": (*_SPREAD, ("Bcm", "Bim")),
}


def count_all(program, allocators, progress):
    """{allocator: {what: a number an operation}}, or the reason in 'failed'"""
    if shutil.which("valgrind") is None:
        raise SystemExit("bench: valgrind is not installed (Debian package valgrind)")
    counts = {}
    for allocator in allocators:
        if allocator.missing:
            counts[allocator.name] = {"failed": allocator.missing}
            continue

        @functools.cache
        def per_operation(mode, function, allocator=allocator):
            progress(f"{allocator.name} {function} ({mode})")
            return _per_operation(program, allocator, mode, function)

        try:
            counts[allocator.name] = {
                what: round(sum(per_operation(mode, function)[e] - per_operation(*loop)[e] for e in events), 2)
                for what, (mode, function, loop, events) in COUNTED.items()}
        except RuntimeError as problem:
            counts[allocator.name] = {"failed": str(problem)}
    return counts


def table(counts, file):
    print(f"\nInstructions an operation (64 bytes), and cache lines and branches missed\n\n{'':15}" +
          "".join(f"{what:>33}" for what in COUNTED), file=file)
    for name, row in counts.items():
        if "failed" in row:
            print(f"MISSING {name}: {row['failed']}", file=file)
        else:
            print(f"{name:15}" + "".join(f"{row[what]:33.1f}" for what in COUNTED), file=file)


def _per_operation(program, allocator, mode, function):
    """{event: count an operation}"""
    few, many = (_count(program, allocator, mode, function, rounds) for rounds in (ROUNDS, 2 * ROUNDS))
    return {event: (many[event] - few[event]) / (ROUNDS * BATCH) for event in many}


def _count(program, allocator, mode, function, rounds):
    env = allocator.environment()
    if allocator.library:
        env["LD_PRELOAD"] = allocator.library
    if allocator.pool and os.path.exists(allocator.pool):
        os.unlink(allocator.pool)
    with tempfile.TemporaryDirectory(prefix="aep-bench-count-") as folder:
        out = os.path.join(folder, "callgrind.out")
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", f"--toggle-collect={function}",
                   *CACHES, program, mode, str(rounds)]
        try:
            run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            raise RuntimeError("still running under callgrind after 300 s") from None
        if run.returncode != 0:
            said = " ".join(line for line in run.stderr.splitlines() if not re.match(r"(==|--)\d+", line)).strip()
            raise RuntimeError(f"status {run.returncode} under callgrind: {said[-300:]}")
        with open(out, encoding="utf-8") as file:
            text = file.read()
    events = re.search(r"^events: (.*)$", text, re.MULTILINE)
    totals = re.search(r"^(?:totals|summary): (.*)$", text, re.MULTILINE)
    if not events or not totals or int(totals.group(1).split()[0]) == 0:
        raise RuntimeError(f"callgrind counted nothing in {function}")
    numbers = [int(number) for number in totals.group(1).split()]
    names = events.group(1).split()
    return dict(zip(names, numbers + [0] * (len(names) - len(numbers))))  # zeroes at the end are left out
