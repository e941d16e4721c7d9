"""Runs tests on a copy of the build, in namespaces of their own.

Called by run.py. Cases of one GoogleTest binary run in one process, all others by ctest: what a run costs is mostly
the start of processes. Every worker has its own copy of the build, bound over the build's own path, and its own process
numbers, /dev/shm, /tmp, /run and bpf file system: what a mutant leaves ends with its run.
"""

import dataclasses
import json
import re
import subprocess
import time
import xml.etree.ElementTree

from binaries import Binaries

# What each run begins in. Bash is the first process there and takes in what is left behind.
NAMESPACES = r"""
mount --bind "$1" "$2" && mount -t tmpfs -o mode=1777 tmpfs /dev/shm && mount -t tmpfs -o mode=1777 tmpfs /tmp &&
    mount -t tmpfs -o mode=755 tmpfs /run && mount -t bpf bpf /sys/fs/bpf || exit 99
echo "$3" > /proc/sys/kernel/ns_last_pid
cd "$4" && "${@:5}"
exit $?
"""
FILTER = "--gtest_filter="
CASE_ENDS = re.compile(r"^\[\s+(OK|FAILED|SKIPPED)\s+\] ([^ ,]+)(?:, where .*)? \((\d+) ms\)", re.M)
CASE_BEGINS = re.compile(r"^\[ RUN\s+\] (\S+)", re.M)
TEST_BEGINS = re.compile(r"^\s*Start\s+\d+: (.+)$", re.M)
LOOK = 0.2  # seconds, for the test that runs now


@dataclasses.dataclass(frozen=True)
class Test:
    name: str     # ctest's
    binary: str   # of GoogleTest; "": ctest runs it
    case: str     # there
    folder: str   # that it runs in


def tests_of(built, pattern):
    shown = subprocess.run(["ctest", "--test-dir", built, "-N", "--show-only=json-v1", "-R", pattern],
                           check=True, capture_output=True, text=True).stdout
    found = []
    for test in json.loads(shown[shown.index("{"):])["tests"]:
        if test["name"].endswith("_NOT_BUILT"):
            continue
        command = test.get("command", [""])
        properties = {p["name"]: p["value"] for p in test.get("properties", [])}
        case = next((word.removeprefix(FILTER) for word in command if word.startswith(FILTER)), "")
        alone = not case or "ENVIRONMENT" in properties
        found.append(Test(test["name"], "" if alone else command[0], case, properties["WORKING_DIRECTORY"]))
    return found


@dataclasses.dataclass
class Outcome:
    """Of a run: test -> seconds of those that passed; the first that did not, and how."""
    passed: dict
    failed: str = ""
    how: str = ""


class Worker:
    """Runs tests one by one. Those of a batch have the same `binary`."""

    def __init__(self, built, number):
        self.built = built
        self.place = built.parent / f"worker-{number}"
        self.binaries = Binaries(built, self.place)
        self.first_pid = str(100_000 * (number + 1))
        # Outside of what the worker hides: the results.
        self.results = built.parent / f"results-{number}.xml"
        self.log = built.parent / f"log-{number}.txt"

    def run(self, number, limits, batch, stop=True):
        """An Outcome, with the switch set to `number`. `limits`: test -> seconds. `stop`: at the first that fails."""
        self.binaries.switch(number)
        return self._cases(limits, batch, stop) if batch[0].binary else self._by_ctest(limits, batch, stop)

    def _started(self, limits, begins, folder, *command):
        """What it said, and its status; below 0: a test took longer than its limit. `begins` finds in what is said so
        far which one runs, by its key in `limits`; what comes before the first and after the last has its time, too."""
        with open(self.log, "wb") as log:
            process = subprocess.Popen(
                # With us, should we be killed.
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", NAMESPACES,
                 "mutants", self.place, self.built, self.first_pid, folder, *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            runs, since = "", time.monotonic()
            while True:
                try:
                    process.wait(LOOK)
                    break
                except subprocess.TimeoutExpired:
                    pass
                begun = begins.findall(self.log.read_text(errors="replace"))
                if begun and begun[-1] != runs:
                    runs, since = begun[-1], time.monotonic()
                if time.monotonic() - since > limits.get(runs, max(limits.values())):
                    process.kill()
                    process.wait()
                    break
        if process.returncode == 99:
            raise RuntimeError(f"no namespaces of its own: see {self.log}")
        return self.log.read_text(errors="replace"), process.returncode

    def _cases(self, limits, batch, stop):
        words = [FILTER + ":".join(test.case for test in batch), *["--gtest_fail_fast"] * stop]
        limits = {test.case: limits[test.name] for test in batch}
        text, status = self._started(limits, CASE_BEGINS, batch[0].folder, batch[0].binary, *words)
        names = {test.case: test.name for test in batch}
        outcome, ended = Outcome({}), set()
        for how, case, ms in CASE_ENDS.findall(text):
            ended.add(case)
            if how == "OK":
                outcome.passed[names[case]] = int(ms) / 1000
            elif how == "FAILED" and not outcome.failed:
                outcome.failed, outcome.how = names[case], "fails"
        begun = [case for case in CASE_BEGINS.findall(text) if case not in ended]
        if begun and not outcome.failed:
            outcome.failed, outcome.how = names[begun[0]], "no end" if status < 0 else "dies"
        if status != 0 and not outcome.failed and len(ended) != len(batch):
            outcome.failed, outcome.how = batch[0].name, "does not start"
        return outcome

    def _by_ctest(self, limits, batch, stop):
        self.results.unlink(missing_ok=True)
        names = "|".join(re.escape(test.name) for test in batch)
        text, _ = self._started(limits, TEST_BEGINS, self.built, "ctest", "--no-tests=error", "--output-junit", self.results, "-R",
                                f"^({names})$", *["--stop-on-failure"] * stop)
        if not self.results.exists():
            begun = TEST_BEGINS.findall(text)
            return Outcome({}, begun[-1] if begun else batch[0].name, "no end")
        outcome = Outcome({})
        for case in xml.etree.ElementTree.parse(self.results).getroot().iter("testcase"):
            if case.get("status") == "run":
                outcome.passed[case.get("name")] = float(case.get("time"))
            elif case.get("status") == "fail" and not outcome.failed:
                outcome.failed, outcome.how = case.get("name"), "fails"
        return outcome
