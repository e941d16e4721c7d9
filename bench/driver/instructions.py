"""Instructions an operation: malloc, free, and remote free of 64 bytes, counted by callgrind.

Used by run.py --instructions. Two runs that differ only in their number of rounds give the count of the
rounds between them, so start-up and warm-up drop out; the loop around the calls is counted by the same loop
with an empty function and subtracted. What is left is the path from the call to its return, the jump through
the PLT included. Counts are exact for the sequence run, and do not depend on the machine's load.
"""

import os
import re
import shutil
import subprocess
import tempfile

BATCH = 1000  # operations a round, see micro/count.cpp
ROUNDS = 40

# what is counted -> (mode of aep_bench_count, function counted)
COUNTED = {
    "malloc": ("local", "aep_count_malloc"),
    "free": ("local", "aep_count_free"),
    "malloc of remotely freed memory": ("remote", "aep_count_malloc"),
    "remote free": ("remote", "aep_count_remote_free"),
}


def count_all(program, allocators, progress):
    """{allocator: {what: instructions an operation, or None with the reason in 'failed'}}"""
    if shutil.which("valgrind") is None:
        raise SystemExit("bench: valgrind is not installed (Debian package valgrind)")
    counts = {}
    control = None
    for allocator in allocators:
        if allocator.missing:
            counts[allocator.name] = {"failed": allocator.missing}
            continue
        try:
            if control is None:
                control = _per_operation(program, allocator, "control", "aep_count_control")
            counts[allocator.name] = {}
            for what, (mode, function) in COUNTED.items():
                progress(f"{allocator.name} {what}")
                counts[allocator.name][what] = round(_per_operation(program, allocator, mode, function) - control, 2)
        except RuntimeError as problem:
            counts[allocator.name] = {"failed": str(problem)}
    return counts


def table(counts, file):
    print(f"\nInstructions an operation (64 bytes)\n\n{'':12}" + "".join(f"{what:>33}" for what in COUNTED), file=file)
    for name, row in counts.items():
        if "failed" in row:
            print(f"MISSING {name}: {row['failed']}", file=file)
        else:
            print(f"{name:12}" + "".join(f"{row[what]:33.1f}" for what in COUNTED), file=file)


def _per_operation(program, allocator, mode, function):
    few, many = (_count(program, allocator, mode, function, rounds) for rounds in (ROUNDS, 2 * ROUNDS))
    return (many - few) / (ROUNDS * BATCH)


def _count(program, allocator, mode, function, rounds):
    env = allocator.environment()
    if allocator.library:
        env["LD_PRELOAD"] = allocator.library
    if allocator.pool and os.path.exists(allocator.pool):
        os.unlink(allocator.pool)
    with tempfile.TemporaryDirectory(prefix="aep-bench-count-") as folder:
        out = os.path.join(folder, "callgrind.out")
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", f"--toggle-collect={function}",
                   program, mode, str(rounds)]
        try:
            run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            raise RuntimeError("still running under callgrind after 300 s") from None
        if run.returncode != 0:
            raise RuntimeError(f"status {run.returncode} under callgrind: {run.stderr.strip()[-300:]}")
        with open(out, encoding="utf-8") as file:
            found = re.search(r"^(?:totals|summary): (\d+)", file.read(), re.MULTILINE)
    if not found or int(found.group(1)) == 0:
        raise RuntimeError(f"callgrind counted nothing in {function}")
    return int(found.group(1))
