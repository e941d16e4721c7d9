"""The cases of inject.py in which the faults are the daemon's: while it starts, serves, ends, removes its context, and where
it must not serve. Crash rule: a daemon ends with its case.
"""

import dataclasses
import json
import os
import re
import signal
import time

import sweep
from fixture import EVERY, LIMIT, Daemon, Sweep, without
from fixture import world


class Served(Sweep):
    """The faults are the daemon's. Afterwards it serves, or it has said why it does not, and the next one does."""

    modules = ("aepd",)
    most = 10
    words = ()

    def formerly(self):
        """What is there before it starts."""

    def flow(self, fault=None):
        """(what is wrong, the report, its lines when it served and when it was to end). The report is None if the
        fault was not met."""
        report = f"{self.home}/report"
        daemon = Daemon(self.home, *self.words)
        found = []
        self.formerly()
        serves = daemon.start(self.injector.words(report, [], fault))
        begun = len(sweep.lines_of(report))
        if serves:
            daemon.client("die", require=False)
            before = daemon.client("share", require=False)
            if before.returncode != 0:
                found.append(f"a client: {before.returncode} {before.stdout} {before.stderr}")
            if before.stderr and daemon.process.poll() is None:
                after = daemon.client("share", require=True)
                if after.returncode != 0 and daemon.process.poll() is None:
                    found.append(f"the next client: {after.returncode} {after.stdout} {after.stderr}")
            found += self.while_it_serves(daemon)
            if daemon.process.poll() is None:
                unsound = daemon.unsound()
                if daemon.process.poll() is None:
                    found += unsound
        served = len(sweep.lines_of(report))
        status, said = daemon.end()
        lines = sweep.lines_of(report)
        if status == world.CANNOT_RUN:
            self.skipTest(said)
        outcome = sweep.Outcome(status, "", "", lines)
        found += self.objections(outcome, statuses=(0, 1))
        if status == 1 and not re.search(r"error: .+", said):
            found.append("it has ended without a word")
        found += self.next_daemon()
        if found:
            found.append(said)
        if fault is not None and not sweep.was_injected(lines):
            return None
        return found, lines, begun, served

    def of_usual_daemon(self):
        """What Creating meets, and injects."""
        usual = Creating("test_start")
        usual.setUp()
        try:
            found, lines, _, _ = usual.flow()
            self.assertEqual(found, [])
            return lines
        finally:
            usual.doCleanups()

    def while_it_serves(self, daemon):
        """More that it has to do with; what is wrong."""
        return []

    def next_daemon(self):
        found = []
        daemon = Daemon(self.home, *self.words)
        if not daemon.start():
            return [f"the next daemon: {daemon.end()}"]
        after = daemon.client("share", require=True)
        if after.returncode != 0:
            found.append(f"a client of the next daemon: {after.returncode} {after.stdout} {after.stderr}")
        found += daemon.unsound()
        down = daemon.aep("down")
        if down.returncode != 0:
            found.append(f"aep down: {down.stderr}")
            daemon.end(signal.SIGKILL)
            daemon.aep("down", "--force")
        daemon.process.communicate()
        files = [name for name in sweep.files_in(self.home) if name not in ("report", "pool", "peer")]
        if files:
            found.append(f"it left {files}")
        return found

    def sweep_phase(self, phase):
        """Of what was recorded while it started (0), served (1), ended (2): what was not in an earlier phase."""
        found, lines, begun, served = self.flow()
        self.assertEqual(found, [])
        bounds = [0, begun, served, len(lines)]
        report = lines[bounds[phase]:bounds[phase + 1]]
        if not EVERY:
            report = without(report, lines[:bounds[phase]])
            if not isinstance(self, Creating):
                report = without(report, self.of_usual_daemon())

        def judge(fault):
            result = self.flow(fault)
            return None if result is None else "\n".join(result[0])

        self.sweep(report, judge)


class Creating(Served):
    def test_start(self):
        self.sweep_phase(0)

    def test_serve(self):
        self.sweep_phase(1)

    def test_end(self):
        self.sweep_phase(2)


class GoingOn(Served):
    """The daemon goes on with the context of one that was killed, and with what a dead client had."""

    def formerly(self):
        daemon = Daemon(self.home)
        self.assertTrue(daemon.start())
        daemon.client("die", require=True)
        daemon.end(signal.SIGKILL)

    def test_start(self):
        self.sweep_phase(0)


class CreatingAgain(Served):
    """Of a former context its own pool is left; the new one's is another, which is named."""

    def setUp(self):
        super().setUp()
        self.words = ("--pool", f"{self.home}/pool")

    def formerly(self):
        daemon = Daemon(self.home)
        self.assertTrue(daemon.start())
        daemon.end(signal.SIGKILL)
        os.unlink(f"{self.home}/context/context")

    def test_start(self):
        self.sweep_phase(0)


class Removing(Served):
    """It is told to end, and removes the context."""

    def while_it_serves(self, daemon):
        found = daemon.unsound()  # waits for the end of its clients: it removes no context that is in use
        if daemon.process.poll() is not None:
            return []
        if daemon.aep("down").returncode == 0:
            daemon.process.wait(LIMIT)
        return found

    def test_down(self):
        self.sweep_phase(1)


class Refusing(Sweep):
    """A daemon that must not serve says why, and leaves what is there as it is."""

    modules = ("aepd",)
    most = 10

    def sweep_refusal(self, daemon, left_behind):
        def once(fault):
            outcome = self.injector.run(daemon.words, fault)
            found = self.objections(dataclasses.replace(outcome, errors=""), statuses=(1, 3))  # 3: it is served
            if not re.search(r"error: .+", outcome.output + outcome.errors):
                found.append(f"it has ended without a word: {outcome.output} {outcome.errors}")
            return outcome, found + left_behind()

        outcome, found = once(None)
        if outcome.status == world.CANNOT_RUN:
            self.skipTest(outcome.errors)
        self.assertEqual(found, [], outcome)

        def judge(fault):
            result, wrong = once(fault)
            return "\n".join(wrong) if sweep.was_injected(result.report) else None

        self.sweep(outcome.report, judge)

    def test_served_already(self):
        first = Daemon(self.home)
        self.assertTrue(first.start())
        self.addCleanup(first.end)

        def left_behind():
            after = first.client("share", require=True)
            wrong = [] if after.returncode == 0 else [f"a client of the first: {after.stdout} {after.stderr}"]
            return wrong + first.unsound()

        self.sweep_refusal(Daemon(self.home), left_behind)

    def test_missing_pool(self):
        daemon = Daemon(self.home, "--pool", f"{self.home}/missing")
        size = daemon.words.index("--pool-size")
        del daemon.words[size:size + 2]

        def left_behind():
            down = daemon.aep("down")
            return [f"aep down cannot remove what it left: {down.stderr}"] if sweep.files_in(self.home) else []

        self.sweep_refusal(daemon, left_behind)


class Verifying(Served):
    """It walks the heap of each dead client."""

    words = ("--verify",)

    def test_serve(self):
        self.sweep_phase(1)


class Nodes(Served):
    """The daemon is a node, whose only peer is killed."""

    def setUp(self):
        super().setUp()
        self.pool = f"{self.home}/pool"
        self.words = ("--node", "1", "--pool", self.pool)

    def while_it_serves(self, daemon):
        peer = Daemon(f"{self.home}/peer", "--node", "2", "--pool", self.pool)
        if not peer.start():
            return [f"the peer: {peer.end()}"]
        peer.client("die", require=True)
        peer.end(signal.SIGKILL)
        end = time.monotonic() + LIMIT
        while daemon.process.poll() is None:
            done = daemon.aep("status", "--json")
            nodes = json.loads(done.stdout)["nodes"] if done.returncode == 0 else []
            if not any(node["node"] == 2 for node in nodes):
                break
            if time.monotonic() > end:
                return [f"the dead peer stays: {nodes}"]
        return []

    def test_start(self):
        self.sweep_phase(0)

    def test_serve(self):
        self.sweep_phase(1)
