"""What the cases of inject.py share: the sweep over all faults of a scenario, and a daemon on a context of its own.

Arguments of the program that imports it: TOOLS SCENARIO [unittest arguments]. Crash rule: a daemon ends with its case.
"""

import faulthandler
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import unittest

import sites
import sweep

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import world  # noqa: E402

TOOLS, SCENARIO = sys.argv[1:3]
AEP, AEPD = f"{TOOLS}/aep", f"{TOOLS}/aepd"
TRACER = os.path.join(os.path.dirname(SCENARIO), "inject")
EVERY = os.environ.get("AEP_TEST_INJECT_ALL") == "1"
ONLY = os.environ.get("AEP_TEST_INJECT_ONLY", "")  # a part of a fault's text: that alone
LIBRARY = "libaepmalloc.so"
PROGRAMS = {LIBRARY: os.path.join(os.path.dirname(TOOLS.rstrip("/")), "preload", LIBRARY), "aepd": AEPD, "aep": AEP}
POOL_SIZE = "256M"
LIMIT = 30  # seconds for a program that nothing is injected into


def source_lines(frames):
    """frame -> "FILE:LINE: SOURCE" of each."""
    found = dict.fromkeys(frames, "?")
    for name, path in PROGRAMS.items():
        own = [frame for frame in frames if re.match(re.escape(name) + r"[.0-9]*\+", frame)]
        for frame, site in sites.sites_of(path, own).items():
            found[frame] = f"{site}: {sites.source_line(site)}"
    return found


def without(report, other):
    """The lines of a report whose call sites are not in the other one; where it has no such, those whose ways are not."""
    known = {(line[1], line[3].split(" ", 1)[0]) for line in other}
    own = [line for line in report if (line[1], line[3].split(" ", 1)[0]) not in known]
    ways = {(line[1], line[3]) for line in other}
    return own or [line for line in report if (line[1], line[3]) not in ways]


def spread(faults, most):
    """As many of them, the same each time, evenly."""
    if len(faults) <= most:
        return faults
    return [faults[i * len(faults) // most] for i in range(most)]


def run(*words, **env):
    """A program that nothing is injected into."""
    return subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=LIMIT, check=False,
                          env=dict(os.environ, **env))


# What cannot happen where it is: (call, errors, a part of the source line, why).
IMPOSSIBLE = (
    ("write", ("EINTR", "EIO", "ENOSPC"), "sys::write(event_fd", "an eventfd that does not block takes one more"),
    ("read", ("EINTR", "EIO", "ENOMEM"), "sys::read(event_fd", "an eventfd that does not block is read, or says EAGAIN"),
)


class Sweep(unittest.TestCase):
    """What all cases share: the plan, its run, and a list of what was wrong."""

    modules = (LIBRARY,)
    most = 20  # faults by default, so that a case takes some seconds

    def setUp(self):
        if EVERY:
            faulthandler.cancel_dump_traceback_later()  # it is long
        self.injector = sweep.Injector(TRACER, self.modules)
        self.home = sweep.own_folder()
        self.addCleanup(sweep.remove, self.home)

    def recorded(self, outcome):
        """The record of a run without a fault, which must be good."""
        if outcome.status == 77:
            self.skipTest(outcome.errors)
        self.assertEqual((outcome.status, sweep.only_messages(outcome.errors)), (0, ""), outcome)
        return outcome

    def sweep(self, report, judge):
        """judge(fault) says what is wrong, or nothing; of a fault that was not met, None."""
        faults = [f for f in self.injector.faults(report, EVERY) if ONLY in str(f)]
        lines = source_lines({f.way.split(" ", 1)[0] for f in faults})
        faults = [f for f in faults if not any(f.call == call and f.error in errors and text in lines[f.site()[1]]
                                               for call, errors, text, _ in IMPOSSIBLE)]
        there = len(faults)
        if not EVERY and not ONLY:
            faults = spread(faults, self.most)
        wrong = []
        missed = 0
        for fault in faults:
            said = judge(fault)
            if said is None:
                said = judge(fault)  # what happens beside it may differ from run to run
            if said is None:
                missed += 1
                print(f"not met: {fault} ({lines[fault.site()[1]]})", flush=True)
            elif said:
                wrong.append(f"{fault} ({lines[fault.site()[1]]}):\n    " + said.replace("\n", "\n    "))
                print(wrong[-1], flush=True)
        print(f"injected: {len(faults) - missed} of {len(faults)}, chosen of {there}", flush=True)
        self.assertEqual(len(wrong), 0, f"of {len(faults)}, said above")
        # What threads do to each other is not the same in each run.
        self.assertTrue(missed < len(faults) or len(faults) < 4, "what was recorded is met again")

    @staticmethod
    def objections(outcome, statuses=(0,)):
        """What is wrong with a program's end, as far as every program goes."""
        found = []
        if outcome.status == sweep.LATE:
            found.append("it hangs: " + "; ".join(" ".join(line) for line in outcome.report if line[0] == "LATE"))
        elif outcome.status not in statuses:
            found.append(f"it ends with {outcome.status}")
        found += [f"process {line[1]} ends by {line[3]}" for line in outcome.report if line[0] == "DIED"]
        found += [f"signal {line[1]} at {line[3]}" for line in outcome.report if line[0] == "SIGNAL"]
        if found or sweep.only_messages(outcome.errors):
            found += [outcome.output, outcome.errors]
        return found


class Daemon:
    """A daemon on a context in a folder."""

    def __init__(self, home, *words):
        os.makedirs(home, exist_ok=True)
        self.home = home
        self.socket = f"{home}/socket"
        self.where = ["--socket", self.socket, "--directory", f"{home}/context"]
        self.words = [AEPD, *self.where, "--pool-size", POOL_SIZE, "--provider", "rollback", *words]
        self.process = None

    def start(self, prefix=()):
        self.process = subprocess.Popen([*prefix, *self.words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, errors="replace")
        return self.until_it_serves()

    def until_it_serves(self):
        """Whether it does; no: it has ended."""
        while self.process.poll() is None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
                try:
                    one.connect(self.socket)
                    return True
                except OSError:
                    time.sleep(0.005)  # nobody tells of it, should the fault be in telling
        return False

    def pid(self):
        with open(f"{self.home}/context/lock", encoding="ascii") as lock:
            return int(lock.read())

    def aep(self, command, *words):
        return run(AEP, command, *self.where, *words)

    def client(self, name, require):
        return run(SCENARIO, name, AEP_SOCKET=self.socket, AEP_REQUIRE="1" if require else "0")

    def unsound(self):
        """What is wrong with the context once all clients have ended."""
        end = time.monotonic() + LIMIT
        while True:
            done = self.aep("recover")
            if done.returncode == 0:
                done = self.aep("status", "--json")
            if done.returncode != 0:
                if time.monotonic() < end and (self.process is None or self.process.poll() is None):
                    continue  # the fault has met this command, or the daemon is busy
                return [f"{done.args[1]}: {done.stderr}"]
            status = json.loads(done.stdout)
            left = {key: status["clients"][key] for key in ("live", "frozen", "recovering")}
            if not any(left.values()):
                break
            if time.monotonic() > end:
                return [f"clients are left: {left}"]
        found = []
        if status["state"] != "live":
            found.append(f"the context is {status['state']}: {status['poison']}")
        for key in ("objects", "groups", "extents", "holders"):
            if status["sharing"][key] != 0:
                found.append(f"{status['sharing'][key]} {key} are left")
        pool = status["pool"]
        if pool["free_bytes"] + status["memory"]["cached_bytes"] != pool["bytes"]:
            found.append(f"memory is lost: {pool} {status['memory']}")
        for _ in range(3):  # one that could not look, or found no quiet moment, says so, and is repeated
            if (done := self.aep("check")).returncode == 0:
                return found
        return found + [f"aep check: {done.stdout} {done.stderr}"]

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid()}/fd"))

    def end(self, number=signal.SIGTERM):
        """Its exit status and what it said."""
        if self.process.poll() is None:
            try:
                os.kill(self.pid(), number)
            except (OSError, ValueError):
                self.process.terminate()
        output, errors = self.process.communicate(timeout=3 * LIMIT)
        return self.process.returncode, output + errors
