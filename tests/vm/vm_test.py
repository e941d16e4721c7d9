#!/usr/bin/env python3
"""Machines on one pool: three in QEMU, each with its own kernel, context and daemon, which share a DAX device.

Called by ci/vm.sh: vm_test.py TOOLS_DIR PEER KERNEL_IMAGE [unittest arguments]. AEP_TEST_ROUNDS: deaths in
the middle of traffic (1). Leaves nothing behind.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[1:1] = [f"{TESTS}/node", f"{TESTS}/sharing"]
IMAGE = sys.argv.pop(3)

from machine import Machine, Peer  # noqa: E402
from node_test import AEP, LIBRARY, TOOLS, main  # noqa: E402
from nodes_test import NodesTest  # noqa: E402
from peer import PEER  # noqa: E402

MIB = 1 << 20
POOL_BYTES = 256 * MIB
DEVICE = "/dev/dax0.0"
SIZES = [1, 100, 5000, 60000, MIB, 5 * MIB]
EXAMPLES = f"{os.path.dirname(TOOLS.rstrip('/'))}/examples"
LEASE_MS = 8000  # without KVM a daemon may need seconds for a beat
IN_CONTEXT = {"AEP_CONTEXT": "default"}
ROUNDS = int(os.environ.get("AEP_TEST_ROUNDS", "1"))


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

    def up(self):
        # By that a machine knows itself after a boot.
        self.machine.run("sh", "-c", f"printf '%032x\\n' {self.number} > /etc/machine-id")
        return self.good("up", "--pool", DEVICE, "--node", str(self.number), "--lease-ms", str(LEASE_MS),
                         "--coherent", "yes")

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


class Machines(NodesTest):
    """In the order of the numbers: a machine is booted seldom, because that takes long."""

    @classmethod
    def setUpClass(cls):
        cls.home = tempfile.mkdtemp(prefix="aep-test-", dir="/dev/shm")
        cls.pool = f"{cls.home}/pool"
        with open(cls.pool, "wb") as pool:
            pool.truncate(POOL_BYTES)
        cls.nodes = [Node(cls, Machine(cls.home, n, IMAGE, cls.pool), n) for n in (1, 2, 3)]
        cls.addClassCleanup(shutil.rmtree, cls.home)
        for node in cls.nodes:
            node.machine.boot()
            cls.addClassCleanup(cls.end_system, node.machine)
        for node in cls.nodes:
            node.machine.wait()

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

    def refused(self, node, *words):
        done = node.run("up", "--pool", DEVICE, *words)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    def write_to_pool(self, offset, data):
        with open(self.pool, "r+b") as pool:
            pool.seek(offset)
            pool.write(data)

    def test_1_only_an_empty_device_becomes_a_pool(self):
        one = self.nodes[0]
        self.assertIn("which other machines may use, too", self.refused(one))
        for offset in (123 * MIB + 8, 0):
            self.write_to_pool(offset, b"photo")
            self.assertIn(f"the first of its data is at offset {offset}", self.refused(one, "--node", "1"))
            self.write_to_pool(offset, bytes(5))
        self.assertIn("use a larger one, or give another --size", self.refused(one, "--node", "1", "--pool-size", "1T"))
        done = one.machine.run("python3", "-c", "print('runs')",
                               env={"LD_PRELOAD": LIBRARY, "AEP_CONTEXT": "none", "AEP_POOL": DEVICE})
        self.assertEqual(done.stdout, "runs\n")
        self.assertIn("which other machines may use, too", done.stderr)
        for node in self.nodes:
            node.up()
        self.assertEqual(len({node.data("status")["pool"]["bytes"] for node in self.nodes}), 1)
        self.until("all know of each other", lambda: all(len(n.data("status")["nodes"]) == 3 for n in self.nodes))
        self.expect_sound()

    def test_2_objects_are_the_same_on_all_machines(self):
        peers = a, b, c = [node.peer(name) for node, name in zip(self.nodes, "abc")]
        for peer in peers:
            for name, other in zip("abc", peers):
                self.assertEqual(peer.lookup(name), other.id)
        for size in SIZES:
            for sender, receiver in ((a, b), (b, a)):
                address = sender.new(size)
                length = min(size - 1, 3000)  # all of it comes back over a serial line
                sender.fill(address, size, 0)
                sender.fill(address, length, 65)
                self.assertGreaterEqual(self.pass_on(sender, receiver, address), size)
                if size > 1:
                    self.assertEqual(receiver.read(address), "A" * length)
                    receiver.write(address, "changed")
                    self.assertEqual(sender.read(address), "changed")
                    self.pass_on(receiver, c, address)
                    self.assertEqual(c.read(address), "changed")
                    self.assertEqual(c.drop(address), "ok")
                for holder in (sender, receiver):
                    self.assertEqual(holder.drop(address), "ok")
                    self.assertEqual(holder.drop(address), "EINVAL")
        self.expect_sound()
        self.expect_nothing_left()

    def test_3_structures_and_programs(self):
        a, b, c = (node.peer() for node in self.nodes)
        group = a.gnew(0)
        self.assertEqual(a.gprolong(group, 20000, 64), "ok")
        root = a.groot(group)
        for sender, receiver in ((a, b), (b, c), (c, a)):
            self.pass_on(sender, receiver, root)
            self.assertEqual(receiver.gsum(root), f"20000 {20000 * 19999 // 2}")
        self.assertEqual(b.gprolong(group, 1, 64), "EPERM")
        for node in self.nodes:
            node.end_peers()
        one, two = (node.machine for node in self.nodes[:2])
        for receive, send, heard in ((["list", "receive"], ["list", "send", "1000"], "1000 nodes"),
                                     (["hello", "receive"], ["hello", "send", "good morning"], "good morning")):
            receive[0], send[0] = (f"{EXAMPLES}/{p[0]}" for p in (receive, send))
            number = two.do("start", words=receive, env=IN_CONTEXT)
            two.do("hear", program=number)  # it waits, under its name
            sent = one.run(*send, env=IN_CONTEXT)
            self.assertEqual(sent.returncode, 0, sent.stderr)
            got = two.do("end", program=number, number=0)
            self.assertEqual(got["returncode"], 0)
            self.assertIn(heard, got["stdout"])
        server = one.do("start", words=[f"{EXAMPLES}/rpc", "serve"], env=IN_CONTEXT)
        one.do("hear", program=server)
        called = two.run(f"{EXAMPLES}/rpc", "call", "100", env=IN_CONTEXT)
        self.assertEqual(called.stdout, "100 calls\n", called.stderr)
        one.do("end", program=server)
        self.expect_nothing_left()

    def test_4_programs_that_fork(self):
        """A device cannot be mapped privately: children get a copy."""
        program = """if True:
            import os, subprocess
            kept = [bytes([n % 251]) * 5000 for n in range(2000)]
            def sound():
                return all(k == bytes([n % 251]) * 5000 for n, k in enumerate(kept))
            for generation in range(3):
                child = os.fork()
                if child == 0:
                    kept[7] = b"child's"
                    kept += [b"more" * 1000 for _ in range(2000)]
                    os._exit(0 if kept[7] == b"child's" and len(kept) == 4000 else 1)
                assert os.waitpid(child, 0)[1] == 0
                assert sound()
            assert subprocess.run(["true"]).returncode == 0
            print("forked")
        """
        for node in self.nodes:
            done = node.machine.run("python3", "-c", program, env={"LD_PRELOAD": LIBRARY, "AEP_CONTEXT": "default",
                                                                   "AEP_REQUIRE": "1"})
            self.assertEqual((done.stdout, done.stderr, done.returncode), ("forked\n", "", 0))
        self.expect_nothing_left()

    def begin_traffic(self, *nodes):
        """From these nodes to all others. All of the former are to lose power: without a provider a client that
        is killed in the middle of an operation poisons its context."""
        peers = {node: [node.peer() for _ in range(2)] for node in self.nodes}
        for node, peer in ((node, peer) for node in nodes for peer in peers[node]):
            other = random.choice([p for n in self.nodes if n is not node for p in peers[n]])
            self.assertEqual(peer.churn(other.id, random.getrandbits(32)), "going")

    def test_5_a_machine_loses_power_in_the_middle_of_traffic(self):
        random.seed(5)
        for number in range(ROUNDS):
            victim = self.nodes[number % 3]
            others = [node for node in self.nodes if node is not victim]
            holder, giver = others[0].peer("holder"), victim.peer("giver")
            kept = [giver.new(size) for size in SIZES]
            for n, address in enumerate(kept[1:]):
                giver.write(address, f"number-{n}")
            for address in kept:
                self.pass_on(giver, holder, address)
            server = others[1].machine.do("start", words=[f"{EXAMPLES}/rpc", "serve"], env=IN_CONTEXT)
            others[1].machine.do("hear", program=server)
            victim.machine.do("start", words=[f"{EXAMPLES}/rpc", "call", "100000000"], env=IN_CONTEXT)
            self.begin_traffic(victim)
            victim.lose_power()
            # Suspect, and waited for: nobody recovers what may be at work.
            self.until("it is suspect", lambda: all(n.states()[victim.number][0] == "suspect" for n in others))
            for node in others:
                node.run("recover")
            self.assertEqual(holder.lookup("giver"), giver.id)
            pools = [json.loads(n.run("status", "--json").stdout)["pool"] for n in others]
            held = pools[0]["bytes"] - pools[0]["free_bytes"] - sum(pool["node_bytes"] for pool in pools)
            self.assertGreater(held, 0)
            others[0].declare_dead(victim)
            self.until("it is recovered", lambda: all(len(n.states()) == 2 for n in others))
            self.expect_sound(*others)
            self.assertEqual(holder.lookup("giver"), "ENOENT")
            called = others[0].machine.run(f"{EXAMPLES}/rpc", "call", "100", env=IN_CONTEXT)
            self.assertEqual(called.stdout, "100 calls\n", called.stderr)
            served = others[1].machine.do("end", program=server, number=signal.SIGTERM)
            self.assertEqual(served["returncode"], 0)
            self.assertGreaterEqual(int(served["stdout"].split()[0]), 100)
            for n, address in enumerate(kept[1:]):
                self.assertEqual(holder.read(address), f"number-{n}")
            other = others[1].peer()
            for address in kept:
                self.pass_on(holder, other, address)
                self.assertEqual(other.drop(address), "ok")
            self.expect_nothing_left(*others)
            victim.come_back()
            self.until("it is back", lambda: all(len(n.data("status")["nodes"]) == 3 for n in self.nodes))
            a, b = victim.peer("giver"), others[0].peer()
            self.assertEqual(b.lookup("giver"), a.id)
            self.assertNotEqual(a.id, giver.id)
            self.pass_on(a, b, a.new(5000))
            self.pass_on(b, a, b.new(5000))
            self.expect_nothing_left()

    def test_6_all_machines_lose_power(self):
        random.seed(6)
        self.begin_traffic(*self.nodes)
        for node in self.nodes:
            node.lose_power()
        first, second = self.nodes[1], self.nodes[0]
        first.come_back()
        for node in (second, self.nodes[2]):
            self.until("it is suspect", lambda node=node: first.states()[node.number][0] == "suspect")
            first.declare_dead(node)
        self.until("the others are recovered", lambda: len(first.data("status")["nodes"]) == 1)
        self.expect_nothing_left(first)
        second.come_back()
        a, b = second.peer(), first.peer()
        self.pass_on(a, b, a.new(MIB))
        self.expect_nothing_left(first, second)

    def test_7_kernels_have_not_complained(self):
        for node in self.nodes:
            self.assertEqual(node.machine.shut_down(), 0, node.machine.console())


if __name__ == "__main__":
    main()
