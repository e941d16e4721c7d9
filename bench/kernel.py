#!/usr/bin/env python3
"""Figures of the provider `kernel`: how long a kill waits, what page tables and faults clients cost.

Usage: bench/kernel.py [--build DIR] [--kills N] [--clients 1,10,100]      as root, on a protecting kernel
Called by hand, and in the machine of kernel/qemu/system.sh. Prints rows for docs/kernel.md. Leaves nothing
behind.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What a client does before it waits: blocks of many sizes, most of them freed again.
PROGRAM = "for i in {1..2000}; do line+=\"$i \"; list+=($i); done; echo ready; read -r line"


class Context:
    """A context of its own, up while this is entered."""

    def __init__(self, tools, provider):
        self.tools, self.provider = tools, provider

    def __enter__(self):
        self.home = tempfile.mkdtemp(prefix="aep-bench-", dir="/dev/shm")
        self.socket, self.file = f"{self.home}/socket", f"{self.home}/context/context"
        self.where = ["--socket", self.socket, "--directory", f"{self.home}/context"]
        subprocess.run([f"{self.tools}/aep", "up", *self.where, "--provider", self.provider, "--pool-size", "1G"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_):
        subprocess.run([f"{self.tools}/aep", "down", *self.where, "--force"], check=True,
                       stdout=subprocess.DEVNULL)
        shutil.rmtree(self.home)


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def deferral(build, kills):
    """Microseconds from a kill to the end of the operation that was open, and to the process's."""
    with Context(f"{build}/tools", "kernel") as context:
        said = subprocess.run([f"{build}/bench/context/aep_bench_deferral", f"{build}/tests/node/node_client",
                               context.socket, context.file, str(kills)],
                              check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [tuple(int(word) / 1000 for word in line.split()) for line in said.splitlines()]
    print(f"| kills, of them while an operation was open | {kills}, {len(rows)} |")
    for what, column in [("its end after the kill", 0), ("the process's end after the kill", 1)]:
        times = [row[column] for row in rows]
        print(f"| {what}: p50, p99, most | {percentile(times, .5):.0f}, {percentile(times, .99):.0f}, "
              f"{max(times):.0f} us |")


def page_tables():
    with open("/proc/meminfo", encoding="ascii") as facts:
        return next(int(line.split()[1]) for line in facts if line.startswith("PageTables:"))


def minor_faults(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as facts:
        return int(facts.read().rpartition(")")[2].split()[7])


def clients(build, provider, count):
    """Page tables in KiB and minor faults of so many programs that wait."""
    with Context(f"{build}/tools", provider) as context:
        environment = dict(os.environ, LD_PRELOAD=f"{build}/preload/libaepmalloc.so", AEP_REQUIRE="1",
                           AEP_SOCKET=context.socket)
        before = page_tables()
        programs = []
        for _ in range(count):
            program = subprocess.Popen(["/bin/bash", "-c", PROGRAM], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, env=environment)
            programs.append(program)
            assert program.stdout.readline() == b"ready\n"
        time.sleep(1)
        tables = page_tables() - before
        faults = sum(minor_faults(program.pid) for program in programs)
        for program in programs:
            program.communicate(b"\n")
        return tables, faults


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--build", default=ROOT / "build/release")
    options.add_argument("--kills", type=int, default=300)
    options.add_argument("--clients", default="1,10,100")
    chosen = options.parse_args()
    if chosen.kills:
        deferral(chosen.build, chosen.kills)
    if chosen.clients:
        clients(chosen.build, "none", 1)  # what the first of all brings into memory
        print("| clients | own tables | | one table | |")
        for count in map(int, chosen.clients.split(",")):
            own, shared = (clients(chosen.build, provider, count) for provider in ["none", "kernel"])
            print(f"| {count} | {own[1]} faults | {own[0]} KiB of tables | {shared[1]} | {shared[0]} KiB |")


if __name__ == "__main__":
    main()
