"""Machines in QEMU that share memory, each with this system's programs, a context and a daemon: what tests of them share.

Used by vm_test.py and cxl_test.py. Leaves nothing behind.
"""

import json
import os
import shutil
import sys
import tempfile

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[1:1] = [f"{TESTS}/node", f"{TESTS}/sharing"]
IMAGE = sys.argv.pop(3)

from machine import Machine, Peer  # noqa: E402
from node_test import AEP, TOOLS  # noqa: E402
from nodes_test import NodesTest  # noqa: E402
from peer import PEER  # noqa: E402

EXAMPLES = f"{os.path.dirname(TOOLS.rstrip('/'))}/examples"
IN_CONTEXT = {"AEP_CONTEXT": "default"}


class Node:
    """One machine's context and what runs in it."""

    def __init__(self, test, machine, number):
        self.test, self.machine, self.number = test, machine, number

    def run(self, command, *words):
        return self.machine.run(AEP, command, *words)

    def good(self, command, *words):
        done = self.run(command, *words)
        if done.returncode != 0:
            log = self.machine.run("tail", "-n", "20", "/run/aep/default/log").stdout
            raise AssertionError(f"{self.machine.name}: {command} {words}: {done.stdout}{done.stderr}{log}")
        return done.stdout

    def data(self, command):
        return json.loads(self.good(command, "--json"))

    def up(self, pool=None):
        # By that a machine knows itself after a boot.
        self.machine.run("sh", "-c", f"printf '%032x\\n' {self.number} > /etc/machine-id")
        return self.good("up", "--pool", pool or self.test.device, "--node", str(self.number), *self.test.terms)

    def states(self):
        """How this node sees the nodes, itself among them; a suspect is no fault here."""
        done = self.run("status", "--json")
        return {n["node"]: (n["state"], n["generation"]) for n in json.loads(done.stdout)["nodes"]}

    def declare_dead(self, other):
        """What whoever has cut its power says."""
        return self.good("node", "dead", str(other.number), "--generation", str(self.states()[other.number][1]))

    def is_up(self):
        return self.machine.is_up()

    def peer(self, name=""):
        peer = Peer(self.machine, PEER)
        answer = peer.attach(name)
        if answer != "ok":
            raise AssertionError(f"{self.machine.name}: attach {name}: {answer}")
        peer.id = peer.self()
        return peer

    def end_peers(self):
        """And whatever else a test has started."""
        self.machine.do("end_all")
        while self.data("clients"):
            self.good("recover")

    def end_daemon(self):
        """Killed: nothing beats, nothing is recovered, until up()."""
        done = self.machine.run("sh", "-c", "kill -9 $(cat /dev/shm/aep-0-default/lock)")
        if done.returncode != 0:
            raise AssertionError(done.stderr)

    def lose_power(self):
        self.machine.lose_power()

    def come_back(self):
        self.machine.boot()
        self.machine.wait()
        self.up()


class MachinesTest(NodesTest):
    """In the order of the numbers: a machine is booted seldom, because that takes long."""
    pool_bytes = 0
    device = "/dev/dax0.0"
    terms = ()  # of each `aep up`

    @classmethod
    def setUpClass(cls):
        cls.home = tempfile.mkdtemp(prefix="aep-test-", dir="/dev/shm")
        cls.pool = f"{cls.home}/pool"
        with open(cls.pool, "wb") as pool:
            pool.truncate(cls.pool_bytes)
        cls.nodes = [Node(cls, Machine(cls.home, n, IMAGE, cls.memory_of(n)), n) for n in range(1, cls.count + 1)]
        cls.addClassCleanup(shutil.rmtree, cls.home)
        for node in cls.nodes:
            node.machine.boot()
            cls.addClassCleanup(cls.end_system, node.machine)
        for node in cls.nodes:
            node.machine.wait()

    @classmethod
    def memory_of(cls, number):
        """What the machine has of the pool's file, in system.sh's words."""
        return ["--pool", cls.pool]

    @staticmethod
    def end_system(machine):
        """Whatever has happened: no QEMU stays."""
        if machine.system.poll() is None:
            machine.system.terminate()
            machine.system.wait(timeout=60)

    def setUp(self):
        pass

    def tearDown(self):
        pass

    def expect_heard(self, receiver, sender, example, words, heard):
        """The example's message from one machine to the other."""
        number = receiver.do("start", words=[f"{EXAMPLES}/{example}", "receive"], env=IN_CONTEXT)
        receiver.do("hear", program=number)  # it waits, under its name
        sent = sender.run(f"{EXAMPLES}/{example}", "send", *words, env=IN_CONTEXT)
        self.assertEqual(sent.returncode, 0, sent.stderr)
        got = receiver.do("end", program=number, number=0)
        self.assertEqual(got["returncode"], 0)
        self.assertIn(heard, got["stdout"])

    def expect_kernels_content(self):
        for node in self.nodes:
            self.assertEqual(node.machine.shut_down(), 0, node.machine.console())
