"""Every system call of the library, the daemon and the tools fails once, and what comes of it is judged.

A case lets each call site of its scenario fail by one way with one error; with AEP_TEST_INJECT_ALL=1 each call of each way
with each error that it can say (ci/inject.sh --all). Arguments: TOOLS SCENARIO [unittest arguments].
"""

import dataclasses
import json
import os
import re
import signal
import time

import sweep
from fixture import AEP, EVERY, LIMIT, LIBRARY, POOL_SIZE, SCENARIO, Daemon, Sweep, run, without
from fixture import world


class Programs(Sweep):
    """A program under the library; where is private memory, a pool, a context."""

    def scenario(self, name, fault=None, **env):
        return self.injector.run([SCENARIO, name], fault, env=dict(os.environ, **env))

    def sweep_scenario(self, name, **more):
        """The scenario in a fresh place for each fault."""
        report = self.recorded(self.once(name, None, **more)).report
        if not EVERY:
            report = self.own_part(name, report)

        def judge(fault):
            outcome = self.once(name, fault, **more)
            if not sweep.was_injected(outcome.report):
                return None
            return "\n".join(self.objections(outcome) + self.left_behind())

        self.sweep(report, judge)

    def own_part(self, name, report):
        """What no simpler case of the kind does: the start of a program is that of the heap."""
        return report if name == "heap" else without(report, self.recorded(self.once("heap", None)).report)

    def once(self, name, fault, **env):
        """One run in a fresh place, whatever the one before it has left."""
        return self.scenario(name, fault, AEP_CONTEXT="none", **env)

    def left_behind(self):
        return []


class Anywhere:
    """What programs do wherever their memory is."""

    def test_heap(self):
        self.sweep_scenario("heap")

    def test_many(self):
        self.sweep_scenario("many")

    def test_threads(self):
        self.sweep_scenario("threads")

    def test_fork(self):
        self.sweep_scenario("fork")


class Alone(Anywhere):
    """And without a daemon."""

    def test_spawn(self):
        self.sweep_scenario("spawn")


class Private(Alone, Programs):
    def test_background(self):
        self.sweep_scenario("background", AEP_BACKGROUND="1")


class OnPool(Programs):
    """Each run makes the pool: one that a run before it has left would be another scenario."""

    def clear(self):
        for name in sweep.files_in(self.home):
            os.unlink(f"{self.home}/{name}")

    def before(self):
        """What the pool has seen when the program starts."""

    def on_pool(self, name, fault, **env):
        self.pool = f"{self.home}/pool"
        return self.scenario(name, fault, AEP_CONTEXT="none", AEP_POOL=self.pool, AEP_POOL_SIZE=POOL_SIZE, **env)

    def once(self, name, fault, **env):
        self.clear()
        self.before()
        return self.on_pool(name, fault, **env)

    def left_behind(self):
        """Whoever comes next finds a pool that is whole, and all of it; then it is removed."""
        found = []
        if sweep.files_in(self.home) not in ([], ["pool"]):
            found.append(f"it left {sweep.files_in(self.home)}")
        after = run(SCENARIO, "heap", AEP_CONTEXT="none", AEP_POOL=self.pool, AEP_POOL_SIZE=POOL_SIZE, AEP_REQUIRE="1")
        if after.returncode != 0:
            found.append(f"the next process on the pool: {after.returncode} {after.stdout} {after.stderr}")
        self.clear()
        return found


class Pool(Alone, OnPool):
    most = 14


class Reclaim(OnPool):
    """The pool has a dead process's chunks when the program starts."""

    def before(self):
        run(SCENARIO, "die", AEP_CONTEXT="none", AEP_POOL=f"{self.home}/pool", AEP_POOL_SIZE=POOL_SIZE)

    def own_part(self, name, report):
        self.clear()
        return without(report, self.recorded(self.on_pool(name, None)).report)

    def test_attach(self):
        self.sweep_scenario("heap")


class Joined(Anywhere, Programs):
    """Clients of one daemon, which stays sound whatever happens to them."""

    def setUp(self):
        super().setUp()
        self.daemon = Daemon(self.home)
        self.assertTrue(self.daemon.start())
        self.addCleanup(self.daemon.end)
        self.descriptors = None

    def once(self, name, fault, **env):
        outcome = self.scenario(name, fault, AEP_SOCKET=self.daemon.socket, **env)
        return outcome

    def left_behind(self):
        found = []
        after = self.daemon.client("share", require=True)
        if after.returncode != 0:
            found.append(f"the next client: {after.returncode} {after.stdout} {after.stderr}")
        found += self.daemon.unsound()
        descriptors = self.daemon.descriptors()
        if self.descriptors is not None and descriptors != self.descriptors:
            found.append(f"the daemon has {descriptors} descriptors, and had {self.descriptors}")
        self.descriptors = descriptors
        return found

    def test_share(self):
        self.sweep_scenario("share")

    def test_share_fork(self):
        self.sweep_scenario("share_fork")


class Served(Sweep):
    """The faults are the daemon's. Afterwards it serves, or it has said why it does not, and the next one does."""

    modules = ("aepd",)
    most = 10
    words = ()
    goes_on = False  # the context of a former daemon, with a dead client

    def flow(self, fault=None):
        """(what is wrong, the report, its lines when it served and when it was to end). The report is None if the
        fault was not met."""
        report = f"{self.home}/report"
        daemon = Daemon(self.home, *self.words)
        found = []
        if self.goes_on:
            self.assertTrue(daemon.start())
            daemon.client("die", require=True)
            daemon.end(signal.SIGKILL)
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

    goes_on = True

    def test_start(self):
        self.sweep_phase(0)


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


class Tools(Sweep):
    """A command of aep, each with a daemon of its own where it needs one."""

    modules = ("aep",)

    def command(self, fault, *words, served=True):
        """(its outcome, what is wrong with what it left)."""
        daemon = Daemon(self.home)
        if served:
            self.assertTrue(daemon.start())
            daemon.client("die", require=True)
            self.assertEqual(daemon.unsound(), [])
        outcome = self.injector.run([AEP, words[0], *daemon.where, *words[1:]], fault, alone=True)
        if outcome.status == 77:
            self.skipTest(outcome.errors)
        found = self.objections(dataclasses.replace(outcome, errors=""), statuses=(0, 1, 2))
        if outcome.status != 0 and not (outcome.errors + outcome.output).strip():
            found.append("it fails without a word")
        again = daemon.aep("up", "--pool-size", POOL_SIZE, "--provider", "rollback")
        if again.returncode != 0:
            found.append(f"aep up afterwards: {again.stderr}")
        after = daemon.client("share", require=True)
        if after.returncode != 0:
            found.append(f"the next client: {after.returncode} {after.stdout} {after.stderr}")
        found += daemon.unsound()
        down = daemon.aep("down")
        if down.returncode != 0:
            found.append(f"aep down afterwards: {down.stderr}")
            daemon.aep("down", "--force")
        if daemon.process is not None:
            daemon.process.communicate()
        left = [name for name in sweep.files_in(self.home) if not name.startswith("socket.log")]
        if left:
            found.append(f"it left {left}")
        return outcome, found

    def sweep_command(self, *words, served=True):
        outcome, found = self.command(None, *words, served=served)
        self.assertEqual((outcome.status, found), (0, []), outcome)

        def judge(fault):
            result, wrong = self.command(fault, *words, served=served)
            if not sweep.was_injected(result.report):
                return None
            return "\n".join(wrong + [result.output, result.errors] if wrong else [])

        self.sweep(outcome.report, judge)

    def test_up(self):
        self.sweep_command("up", "--pool-size", POOL_SIZE, "--provider", "rollback", served=False)

    def test_status(self):
        self.sweep_command("status")

    def test_check(self):
        self.sweep_command("check")

    def test_recover(self):
        self.sweep_command("recover")

    def test_down(self):
        self.sweep_command("down")

    def test_doctor(self):
        self.sweep_command("doctor")


if __name__ == "__main__":
    world.main(3)
