"""Every system call of the library, the daemon and the tools fails once, and what comes of it is judged.

A case lets each call site of its scenario fail by one way with one error; with AEP_TEST_INJECT_ALL=1 each call of each way
with each error that it can say (ci/inject.sh --all). Arguments: TOOLS SCENARIO [unittest arguments].
"""

import dataclasses
import os
import signal
import subprocess

import sweep
# Cases of this program, too.
from daemons import Creating, CreatingAgain, GoingOn, Nodes, Refusing, Removing, Verifying  # noqa: F401
from fixture import AEP, EVERY, LIBRARY, POOL_SIZE, SCENARIO, Daemon, Sweep, run, without
from fixture import world


# The first descriptor that such a program opens is 0.
NO_STANDARD_INPUT = ("/bin/sh", "-c", 'exec "$0" "$@" 0<&-')


class Programs(Sweep):
    """A program under the library; where is private memory, a pool, a context."""

    def scenario(self, name, fault=None, prefix=(), cwd=None, **env):
        return self.injector.run([*prefix, SCENARIO, name], fault, cwd=cwd, env=dict(os.environ, **env))

    def sweep_scenario(self, name, **more):
        """The scenario in a fresh place for each fault."""
        report = self.recorded(self.once(name, None, **more)).report
        if not EVERY:
            report = self.own_part(name, report, more)

        def judge(fault):
            outcome = self.once(name, fault, **more)
            if not sweep.was_injected(outcome.report):
                return None
            found = self.objections(outcome)
            reasons = [line for line in outcome.errors.splitlines() if "continuing in private mode" not in line]
            if "said: no client" in outcome.output and not reasons:
                found.append("it has become no client and does not say why")
            return "\n".join(found + self.left_behind())

        self.sweep(report, judge)

    def own_part(self, name, report, more):
        """What no simpler case of the kind does: the same without more, or the start of a program, which is the heap's."""
        if name == "heap" and not more:
            return report
        return without(report, self.recorded(self.once(name if more else "heap", None)).report)

    def once(self, name, fault, **more):
        """One run in a fresh place, whatever the one before it has left."""
        return self.scenario(name, fault, AEP_CONTEXT="none", **more)

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

    def test_watched(self):
        """With a heap profile that has each block that is not guarded."""
        self.sweep_scenario("many", AEP_PROFILE=f"{self.home}/profile", AEP_PROFILE_RATE="1", AEP_GUARD="2")


class OnPool(Programs):
    """Each run makes the pool: one that a run before it has left would be another scenario."""

    def clear(self):
        for name in sweep.files_in(self.home):
            os.unlink(f"{self.home}/{name}")

    def before(self):
        """What the pool has seen when the program starts."""

    def on_pool(self, name, fault, **more):
        self.pool = f"{self.home}/pool"
        return self.scenario(name, fault, AEP_CONTEXT="none", AEP_POOL_SIZE=POOL_SIZE,
                             **{"AEP_POOL": self.pool, **more})

    def once(self, name, fault, **more):
        self.clear()
        self.before()
        return self.on_pool(name, fault, **more)

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

    def test_relative_path(self):
        self.sweep_scenario("heap", AEP_POOL="pool", cwd=self.home)

    def test_no_standard_input(self):
        self.sweep_scenario("heap", prefix=NO_STANDARD_INPUT)


class Reclaim(OnPool):
    """The pool has a dead process's chunks when the program starts."""

    def before(self):
        run(SCENARIO, "die", AEP_CONTEXT="none", AEP_POOL=f"{self.home}/pool", AEP_POOL_SIZE=POOL_SIZE)

    def own_part(self, name, report, more):
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

    def once(self, name, fault, **more):
        return self.scenario(name, fault, **{"AEP_SOCKET": self.daemon.socket, **more})

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

    def test_relative_path(self):
        self.sweep_scenario("share", AEP_SOCKET="socket", cwd=self.home)

    def test_no_standard_input(self):
        self.sweep_scenario("heap", prefix=NO_STANDARD_INPUT)

    def test_share(self):
        self.sweep_scenario("share")

    def test_share_fork(self):
        self.sweep_scenario("share_fork")


class Command(Sweep):
    """A command of aep. command(fault, *words, **state) gives its outcome and what is wrong with what it left."""

    modules = ("aep",)

    def sweep_command(self, *words, **state):
        outcome, found = self.command(None, *words, **state)
        self.assertEqual((outcome.status, found), (0, []), outcome)

        def judge(fault):
            result, wrong = self.command(fault, *words, **state)
            if not sweep.was_injected(result.report):
                return None
            return "\n".join(wrong + [result.output, result.errors] if wrong else [])

        self.sweep(outcome.report, judge)


class Tools(Command):
    """With a daemon of its own where it needs one."""

    def command(self, fault, *words, served=True, killed=False):
        """(its outcome, what is wrong with what it left)."""
        daemon = Daemon(self.home)
        if served:
            self.assertTrue(daemon.start())
            daemon.client("die", require=True)
            self.assertEqual(daemon.unsound(), [])
        if killed:
            daemon.end(signal.SIGKILL)
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

    def test_down_of_the_killed(self):
        self.sweep_command("down", killed=True)

    def test_doctor(self):
        self.sweep_command("doctor")


class Pools(Command):
    """aep pool: afterwards there is a whole pool, or none."""

    def command(self, fault, word, *words, there=True):
        """(its outcome, what is wrong with what it left)."""
        path = f"{self.home}/pool"
        def pool(*more):
            return subprocess.run([AEP, "pool", *more], capture_output=True, text=True, check=False)
        if there:
            self.assertEqual(pool("create", path, "--size", POOL_SIZE).returncode, 0)
        outcome = self.injector.run([AEP, "pool", word, path, *words], fault, alone=True)
        if outcome.status == 77:
            self.skipTest(outcome.errors)
        found = self.objections(dataclasses.replace(outcome, errors=""), statuses=(0, 1, 2))
        if outcome.status != 0 and not (outcome.errors + outcome.output).strip():
            found.append("it fails without a word")
        if os.path.exists(path):
            for after in ("info", "destroy"):
                done = pool(after, path)
                if done.returncode != 0:
                    found.append(f"aep pool {after} afterwards: {done.stderr}")
        left = sweep.files_in(self.home)
        if left:
            found.append(f"it left {left}")
        return outcome, found

    def test_create(self):
        self.sweep_command("create", "--size", POOL_SIZE, there=False)

    def test_info(self):
        self.sweep_command("info")

    def test_destroy(self):
        self.sweep_command("destroy")


if __name__ == "__main__":
    world.main(3)
