"""Lets each system call that the product makes in a scenario fail once, by the injector, and judges what came of it.

Used by inject.py and coverage.py. Crash rule: what it starts ends with it; each run has a folder of its own.
"""

import dataclasses
import os
import re
import shutil
import subprocess
import tempfile

LATE = 124
SECONDS = 30


@dataclasses.dataclass(frozen=True)
class Fault:
    """One call, by the way that led to it, and the error that it is to say."""
    call: str
    way: str  # frames, innermost first
    error: str
    number: int

    def words(self):
        return ["-n", self.call, "-e", str(self.number), "-w", self.way]

    def site(self):
        return self.call, self.way.split(" ", 1)[0]

    def __str__(self):
        return f"{self.call} says {self.error} at {self.way}"


@dataclasses.dataclass
class Outcome:
    status: int
    output: str
    errors: str
    report: list


class Injector:
    """The tracer, for the modules (base names of files) that are the product."""

    def __init__(self, program, modules):
        self.program = program
        self.modules = [word for module in modules for word in ("-m", module)]
        self.table = {}
        for line in subprocess.check_output([program, "--table"], text=True).splitlines():
            call, *errors = line.split()
            self.table[call] = [(name, int(number)) for name, number in (e.split("=") for e in errors)]

    def words(self, report, command, fault=None, alone=False, seconds=SECONDS):
        return [self.program, "-s", str(seconds), *(["-1"] if alone else []), *self.modules, "-r", report,
                *(fault.words() if fault else []), "--", *command]

    def run(self, command, fault=None, alone=False, **more):
        """Runs it to its end."""
        with tempfile.TemporaryDirectory(prefix="aep-inject-") as folder:
            report = f"{folder}/report"
            done = subprocess.run(self.words(report, command, fault, alone), stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, errors="replace", timeout=3 * SECONDS,
                                  check=False, **more)
            if done.returncode == 77:
                return Outcome(77, done.stdout, done.stderr, [])
            return Outcome(done.returncode, done.stdout, done.stderr, lines_of(report))

    def faults(self, report, every):
        """What to let fail of what was recorded: each call of each way with each error, or (not `every`) each call
        by one way with one error."""
        ways = dict.fromkeys((call, way) for kind, call, _, way in report if kind == "CALL")
        if every:
            return [Fault(call, way, *error) for call, way in ways for error in self.table[call]]
        sites = {}
        for call, way in ways:
            fault = Fault(call, way, *self.table[call][0])
            sites.setdefault(fault.site(), fault)
        return list(sites.values())


def lines_of(report):
    """(kind, call, what it returned, way) each."""
    with open(report, encoding="ascii") as file:
        lines = [line.rstrip("\n").split(" ", 3) for line in file]
    return [line for line in lines if len(line) == 4]


def was_injected(report):
    return any(line[0] == "INJECTED" for line in report)


def only_messages(errors):
    """Standard error without the lines that are messages of the library; what is left is somebody's complaint."""
    return "\n".join(line for line in errors.splitlines() if not re.match(r"aep: ", line))


def own_folder():
    return tempfile.mkdtemp(prefix="aep-inject-", dir="/dev/shm")


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)


def files_in(folder):
    return sorted(os.listdir(folder))
