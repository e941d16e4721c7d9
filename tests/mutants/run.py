#!/usr/bin/env python3
"""Runs mutants of a build, each with the tests that should notice it, and says which were noticed.

Usage: tests/mutants/run.py BUILT [--only REGEX] [--left] [--tests REGEX] [-j WORKERS] [--least PERCENT]
Called by ci/mutants.sh; needs root. Every worker has its own copy of the build, bound over the build's own path, and
its own process numbers, /dev/shm, /tmp, /run and bpf file system: what a mutant leaves ends with its run.

First the tests run with the switch set to no mutant: one that fails so would notice nothing. Then each mutant runs; it
is noticed when a test fails or does not end in time, and that test passes at once again without it. Else it runs once
more as a trap: if the tests pass even so, none of them comes to its place. Writes report.json beside the build. Exits 1 when fewer than PERCENT of what is not equivalent were noticed.
"""

import argparse
import concurrent.futures
import fcntl
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree
from pathlib import Path

from binaries import Binaries
from mutant_list import Wrong, mutants

NEUTRAL = 0x7FFF_FFFE  # no mutant's: the switches are set all the same
TRAP = 0x8000_0000
LIMIT_ONE = 300    # seconds for each test without a mutant
LIMIT_LEAST = 20   # seconds for tests with a mutant, and for each second that they took without
LIMIT_FACTOR = 10  #
QUICK = 2          # seconds: such tests run together
MEASURED_AT_ONCE = 20

# What each run begins in. Bash is the first process there and takes in what is left behind.
NAMESPACES = r"""
mount --bind "$1" "$2" && mount -t tmpfs -o mode=1777 tmpfs /dev/shm && mount -t tmpfs -o mode=1777 tmpfs /tmp &&
    mount -t tmpfs -o mode=755 tmpfs /run && mount -t bpf bpf /sys/fs/bpf || exit 99
echo "$3" > /proc/sys/kernel/ns_last_pid
ctest --test-dir "$2" --no-tests=error --output-junit "$4" "${@:5}"
exit $?
"""


class Worker:
    """Runs ctest on its own copy of the build."""

    def __init__(self, built, number):
        self.built = built
        self.place = built.parent / f"worker-{number}"
        self.binaries = Binaries(built, self.place)
        self.first_pid = str(100_000 * (number + 1))
        # Outside of what the worker hides: the results.
        self.results = built.parent / f"results-{number}.xml"
        self.log = built.parent / f"log-{number}.txt"

    def run(self, number, limit, *arguments):
        """(test -> (what ctest says of it, seconds), the test that was running when time was up)."""
        self.binaries.switch(number)
        self.results.unlink(missing_ok=True)
        with open(self.log, "wb") as log:
            process = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", NAMESPACES,
                 "mutants", self.place, self.built, self.first_pid, self.results, *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                started = re.findall(r"^\s*Start\s+\d+: (.+)$", self.log.read_text(errors="replace"), re.M)
                return {}, started[-1] if started else "ctest"
        if process.returncode == 99 or not self.results.exists():
            raise RuntimeError(f"ctest did not run: see {self.log}")
        cases = xml.etree.ElementTree.parse(self.results).getroot().iter("testcase")
        return {case.get("name"): (case.get("status"), float(case.get("time"))) for case in cases}, None


def exactly(names):
    return "^(" + "|".join(re.escape(name).replace("/", "[/]") for name in names) + ")$"


def tests_of(built, pattern):
    shown = subprocess.run(["ctest", "--test-dir", built, "-N", "--show-only=json-v1", "-R", pattern],
                           check=True, capture_output=True, text=True).stdout
    return [test["name"] for test in json.loads(shown[shown.index("{"):])["tests"]]


class Job:
    """The mutants that were chosen and what is known of them."""

    def __init__(self, options):
        self.built = options.built.resolve()
        self.report = self.built.parent / "report.json"
        known = json.loads(self.report.read_text()) if self.report.exists() else {}
        noticed = {name for name, result in known.items() if options.left and result["verdict"] == "noticed"}
        listed = mutants()
        self.chosen = [m for m in listed if re.search(options.only, m.name) and m.name not in noticed]
        self.results = {m.name: known[m.name] for m in listed if m.name in known}
        self.writing = threading.Lock()
        self.pattern = options.tests
        self.workers = queue.Queue()
        for number in range(options.jobs):
            self.workers.put(Worker(self.built, number))
        self.pool = concurrent.futures.ThreadPoolExecutor(options.jobs)
        self.seconds = {}  # test -> of its run without a mutant
        self.known = {}    # pattern -> tests that pass without a mutant, quick ones first

    def with_worker(self, work, *arguments):
        worker = self.workers.get()
        try:
            return work(worker, *arguments)
        finally:
            self.workers.put(worker)

    def measure(self, worker, tests):
        """Runs tests without a mutant."""
        results, _ = worker.run(NEUTRAL, LIMIT_ONE + len(tests), "-R", exactly(tests))
        for test in tests:
            status, seconds = results.get(test, ("no end", 0))
            if status == "run":
                self.seconds[test] = seconds
            else:
                print(f"does not pass without a mutant: {test}: {status}", flush=True)

    def learn_tests(self):
        patterns = {self.pattern or m.tests for m in self.chosen if not m.equivalent}
        found = {pattern: tests_of(self.built, pattern) for pattern in patterns}
        every = sorted({test for tests in found.values() for test in tests})
        print(f"{len(every)} tests without a mutant", flush=True)
        batches = [every[i:i + MEASURED_AT_ONCE] for i in range(0, len(every), MEASURED_AT_ONCE)]
        list(self.pool.map(lambda batch: self.with_worker(self.measure, batch), batches))
        for pattern, tests in found.items():
            self.known[pattern] = sorted((t for t in tests if t in self.seconds), key=self.seconds.get)
            if not self.known[pattern]:
                print(f"no test that runs here is called {pattern!r}", flush=True)

    def noticed_by(self, worker, number, tests):
        """The first test that fails with it, and how; None. Quick tests together, others one by one."""
        quick = [test for test in tests if self.seconds[test] < QUICK]
        for batch in [quick] * bool(quick) + [[test] for test in tests if test not in quick]:
            limit = LIMIT_LEAST + LIMIT_FACTOR * sum(self.seconds[test] for test in batch)
            results, hangs = worker.run(number, limit, "-R", exactly(batch), "--stop-on-failure")
            if hangs:
                return hangs, "no end"
            for test, (status, _) in results.items():
                if status == "fail":
                    return test, "fails"
        return None

    def judge(self, worker, mutant):
        if mutant.equivalent:
            return {"verdict": "equivalent", "reason": mutant.equivalent}
        tests = self.known[self.pattern or mutant.tests]
        if not tests:
            return {"verdict": "no tests"}
        by = self.noticed_by(worker, mutant.number, tests)
        if by and self.noticed_by(worker, NEUTRAL, [by[0]]):
            return {"verdict": "doubtful", "by": by[0]}
        if by:
            return {"verdict": "noticed", "by": by[0], "how": by[1]}
        reached = self.noticed_by(worker, mutant.number | TRAP, tests)
        return {"verdict": "survived" if reached else "not reached", "by": reached[0] if reached else ""}

    def tell(self, worker, mutant):
        begin = time.monotonic()
        result = self.judge(worker, mutant)
        took = time.monotonic() - begin
        print(f"{result['verdict']:12} {mutant.name}  {result.get('how', '')} {result.get('by', '')} ({took:.0f} s)",
              flush=True)
        with self.writing:
            self.results[mutant.name] = result
            self.report.write_text(json.dumps(self.results, indent=1) + "\n")

    def run(self):
        """name -> result, of all that are known: of those that were not chosen by a former run."""
        self.learn_tests()
        list(self.pool.map(lambda mutant: self.with_worker(self.tell, mutant), self.chosen))
        return self.results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("built", type=Path)
    parser.add_argument("--only", default="", help="mutants whose names this regular expression finds")
    parser.add_argument("--left", action="store_true", help="but those that the report says were noticed")
    parser.add_argument("--tests", help="these tests (ctest's -R) instead of those that the list names")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--least", type=float, default=95, help="per cent that must be noticed")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("mutants: needs root: each run has its own mounts and process numbers")
        return 1
    with open(options.built.parent / ".run", "w", encoding="utf-8") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        return judge(options)


def judge(options):
    try:
        results = Job(options).run()
    except Wrong as error:
        print(f"mutants: {error}")
        return 1
    counts = {}
    for result in results.values():
        counts[result["verdict"]] = counts.get(result["verdict"], 0) + 1
    judged = len(results) - counts.get("equivalent", 0)
    share = 100 * counts.get("noticed", 0) / max(judged, 1)
    print(f"{len(results)} mutants: " + ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items())) +
          f"; noticed {share:.1f} % of what is not equivalent")
    return 0 if share >= options.least else 1


if __name__ == "__main__":
    sys.exit(main())
