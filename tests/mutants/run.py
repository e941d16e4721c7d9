#!/usr/bin/env python3
"""Runs mutants of a build, each with the tests that should notice it, and says which were noticed.

Usage: tests/mutants/run.py BUILT [--only REGEX]... [--left] [--no-traps] [--tests REGEX] [--within SECONDS]
       [-j WORKERS] [--least PERCENT]
Called by ci/mutants.sh; needs root.

First each test whose time is not known yet runs with the switch set to no mutant. Then each mutant runs; it is noticed
when a test fails or does not end in time, and that test passes at once again without it. Else it runs once more as a
trap: if the tests pass even so, none of them comes to its place. Writes report.json and seconds.json (the tests' times)
beside the build. Exits 1 when fewer than PERCENT of what is not equivalent were noticed.
"""

import argparse
import concurrent.futures
import fcntl
import json
import math
import os
import queue
import re
import sys
import threading
import time
from pathlib import Path

from mutant_list import Wrong, mutants
from worker import Worker, tests_of

NEUTRAL = 0x7FFF_FFFE  # no mutant's: the switches are set all the same
TRAP = 0x8000_0000
LIMIT_ONE = 300    # seconds for each test without a mutant
LIMIT_LEAST = 20   # seconds for each test with a mutant, and for each second that it took without
LIMIT_FACTOR = 10  #
QUICK = 2          # seconds: such tests run together
MEASURED_AT_ONCE = 40


def by_binary(tests):
    """Lists of tests that can run together."""
    lists = {}
    for test in sorted(tests, key=lambda test: test.name):
        lists.setdefault(test.binary, []).append(test)
    return list(lists.values())


def choose(options, known):
    """The mutants that the options name, but what `known`, a report, says was noticed if those are to be left out."""
    noticed = {name for name, result in known.items() if options.left and result["verdict"] == "noticed"}
    listed = mutants()
    return [*{m.name: m for only in options.only or [""] for m in listed
              if re.search(only, m.name) and m.name not in noticed}.values()]


def patterns_of(chosen, options):
    """What names the tests that are to notice them."""
    return {options.tests or m.tests for m in chosen if not m.equivalent}


class Job:
    """The mutants that were chosen and what is known of them."""

    def __init__(self, options):
        self.built = options.built.resolve()
        self.report = self.built.parent / "report.json"
        self.times = self.built.parent / "seconds.json"
        known = json.loads(self.report.read_text()) if self.report.exists() else {}
        self.chosen = choose(options, known)
        self.patterns = patterns_of(self.chosen, options)
        self.results = {m.name: known[m.name] for m in mutants() if m.name in known}
        self.writing = threading.Lock()
        self.pattern = options.tests
        self.workers = queue.Queue()
        for number in range(options.jobs):
            self.workers.put(Worker(self.built, number))
        self.pool = concurrent.futures.ThreadPoolExecutor(options.jobs)
        # test -> of its run without a mutant
        self.seconds = json.loads(self.times.read_text()) if self.times.exists() else {}
        self.known = {}  # pattern -> tests that pass without a mutant
        self.traps = options.traps
        self.within = options.within

    def with_worker(self, work, *arguments):
        worker = self.workers.get()
        try:
            return work(worker, *arguments)
        finally:
            self.workers.put(worker)

    def measure(self, worker, batch):
        """Runs tests without a mutant."""
        limits = {test.name: LIMIT_ONE for test in batch}
        outcome = worker.run(NEUTRAL, limits, batch, stop=False)
        lost = [test for test in batch if test.name not in outcome.passed]
        if len(batch) > 1 and (batch[0].binary or outcome.how == "no end"):  # one may have died of another
            for test in lost:
                outcome.passed |= worker.run(NEUTRAL, limits, [test]).passed
        self.seconds |= outcome.passed
        for test in batch:
            if test.name not in outcome.passed:
                print(f"does not pass without a mutant: {test.name}", flush=True)

    def learn_tests(self):
        found = {pattern: tests_of(self.built, pattern) for pattern in self.patterns}
        every = {test for tests in found.values() for test in tests if test.name not in self.seconds}
        print(f"{len(every)} tests without a mutant", flush=True)
        batches = [of_binary[i:i + MEASURED_AT_ONCE] for of_binary in by_binary(every)
                   for i in range(0, len(of_binary), MEASURED_AT_ONCE)]
        list(self.pool.map(lambda batch: self.with_worker(self.measure, batch), batches))
        self.times.write_text(json.dumps(self.seconds, indent=1) + "\n")
        for pattern, tests in found.items():
            self.known[pattern] = [test for test in tests if self.seconds.get(test.name, math.inf) <= self.within]
            if not self.known[pattern]:
                print(f"no test that runs here is called {pattern!r}", flush=True)

    def batches(self, tests):
        """Quick tests together, others one by one; what takes least comes first."""
        quick = [test for test in tests if self.seconds[test.name] < QUICK]
        all_batches = [*by_binary(quick), *([test] for test in tests if test not in quick)]
        return sorted(all_batches, key=lambda batch: sum(self.seconds[test.name] for test in batch))

    def noticed_by(self, worker, number, tests):
        """The first test that does not pass with it, and how; None."""
        for batch in self.batches(tests):
            limits = {test.name: LIMIT_LEAST + LIMIT_FACTOR * self.seconds[test.name] for test in batch}
            outcome = worker.run(number, limits, batch)
            if outcome.failed:
                return outcome.failed, outcome.how
        return None

    def passes_without(self, worker, name, tests):
        return self.noticed_by(worker, NEUTRAL, [test for test in tests if test.name == name]) is None

    def judge(self, worker, mutant):
        if mutant.equivalent:
            return {"verdict": "equivalent", "reason": mutant.equivalent}
        tests = self.known[self.pattern or mutant.tests]
        if not tests:
            return {"verdict": "no tests"}
        while by := self.noticed_by(worker, mutant.number, tests):
            if self.passes_without(worker, by[0], tests):
                return {"verdict": "noticed", "by": by[0], "how": by[1]}
            if self.passes_without(worker, by[0], tests):
                return {"verdict": "doubtful", "by": by[0]}
            self.forget(by[0])
        if not self.traps:
            return {"verdict": "survived", "by": "not run as a trap"}
        reached = self.noticed_by(worker, mutant.number | TRAP, tests)
        return {"verdict": "survived" if reached else "not reached", "by": reached[0] if reached else ""}

    def forget(self, name):
        """Of a test that passed once without a mutant, and does so no more."""
        print(f"does not pass without a mutant: {name}", flush=True)
        for tests in self.known.values():
            tests[:] = [test for test in tests if test.name != name]

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
    parser.add_argument("--only", action="append", help="mutants whose names this regular expression finds; one after"
                        " the other if there are several")
    parser.add_argument("--left", action="store_true", help="but those that the report says were noticed")
    parser.add_argument("--no-traps", action="store_false", dest="traps",
                        help="do not ask whether a test comes to the place of what survives")
    parser.add_argument("--tests", help="these tests (ctest's -R) instead of those that the list names")
    parser.add_argument("--within", type=float, default=LIMIT_ONE, metavar="SECONDS",
                        help="only tests that take no longer without a mutant")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--least", type=float, default=95, help="per cent that must be noticed")
    parser.add_argument("--name-tests", action="store_true",
                        help="only print what names the tests, a regular expression for ctest's -R a line")
    options = parser.parse_args()
    if options.name_tests:
        report = options.built.parent / "report.json"
        chosen = choose(options, json.loads(report.read_text()) if report.exists() else {})
        print("\n".join(sorted(patterns_of(chosen, options))))
        return 0
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
