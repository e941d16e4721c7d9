#!/usr/bin/env python3
"""Machines on one pool: three in QEMU, each with its own kernel, context and daemon, which share a DAX device.

Called by ci/vm.sh: vm_test.py TOOLS_DIR PEER KERNEL_IMAGE [unittest arguments]. AEP_TEST_ROUNDS: deaths in
the middle of traffic (1). Leaves nothing behind.
"""

import json
import os
import random
import signal

from machines import EXAMPLES, IN_CONTEXT, MachinesTest
from node_test import LIBRARY, main

MIB = 1 << 20
CHUNK = 4 * MIB
HEAP = 0x1200_0000_0000
SIZES = [1, 100, 5000, 60000, MIB, 5 * MIB]
LEASE_MS = 8000  # without KVM a daemon may need seconds for a beat
AS_ONE = ("--node", "1", "--coherent", "yes")
ROUNDS = int(os.environ.get("AEP_TEST_ROUNDS", "1"))


class Machines(MachinesTest):
    count = 3
    pool_bytes = 256 * MIB
    terms = ("--lease-ms", str(LEASE_MS), "--coherent", "yes")

    def refused(self, node, *words):
        done = node.run("up", "--pool", self.device, *words)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    def write_to_pool(self, offset, data):
        with open(self.pool, "r+b") as pool:
            pool.seek(offset)
            pool.write(data)

    def test_1_only_an_empty_device_becomes_a_pool(self):
        one = self.nodes[0]
        self.assertIn("which other machines may use, too", self.refused(one))
        self.assertIn("say --coherent yes", self.refused(one, "--node", "1"))
        for offset in (123 * MIB + 8, 0):
            self.write_to_pool(offset, b"photo")
            self.assertIn(f"the first of its data is at offset {offset}", self.refused(one, *AS_ONE))
            self.write_to_pool(offset, bytes(5))
        self.assertIn("use a larger one, or give another --size", self.refused(one, *AS_ONE, "--pool-size", "1T"))
        done = one.machine.run("python3", "-c", "print('runs')",
                               env={"LD_PRELOAD": LIBRARY, "AEP_CONTEXT": "none", "AEP_POOL": self.device})
        self.assertEqual(done.stdout, "runs\n")
        self.assertIn("which other machines may use, too", done.stderr)
        for node in self.nodes:
            node.up()
        facts = json.loads(one.good("pool", "info", self.device, "--json"))
        self.assertEqual((facts["memory"], facts["persistence"]), ("device", "volatile"))
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
        self.expect_heard(two, one, "list", ["1000"], "1000 nodes")
        self.expect_heard(two, one, "hello", ["good morning"], "good morning")
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

    def test_7_memory_fails(self):
        """Two machines are up. What has failed on one of them is nobody's on either, whoever comes later."""
        here, there = self.nodes[0], self.nodes[1]
        failed = {self.fail_under(here, there, True)}
        self.expect_retired(failed, here, there)
        failed.add(self.fail_under(here, there, False))
        self.expect_retired(failed, here, there)
        here.end_peers()
        here.good("down")
        here.up()
        self.expect_retired(failed, here, there)
        self.assertIn("8 MiB retired", here.good("pool", "info", self.device))
        for node in (here, there):
            taken = self.chunks_taken(node)
            self.assertGreater(len(taken), 40)
            self.assertFalse(taken & failed)
            node.end_peers()
        self.expect_sound(here, there)

    def fail_under(self, here, there, is_served):
        """The machine reports a page of an object that three clients have, with or without a daemon to tell of it. The
        chunk in which it lies."""
        owner, reader, far = here.peer(), here.peer(), there.peer()
        address = owner.new(5000)
        owner.write(address, "kept")
        for holder in (reader, far):
            self.pass_on(owner, holder, address)
        self.assertEqual(reader.read(address), "kept")
        if not is_served:
            here.end_daemon()
        reader.begin("poison", address)
        self.assertEqual(here.machine.do("end", program=reader.number, number=0)["returncode"], -signal.SIGBUS)
        self.assertIn("has failed (the machine reports it)", here.machine.console())
        # Nothing is lost but in the system's books: who touches it later finds it as it was.
        self.assertEqual(owner.read(address), "kept")
        here.machine.do("end", program=owner.number)
        if not is_served:
            here.up()
        here.good("recover")
        log = here.machine.run("cat", "/run/aep/default/log").stdout
        self.assertEqual(log.count("has failed, the machine reports"), 1 if is_served else 2, log)
        before = here.data("status")["pool"]["retired_bytes"]
        self.assertEqual(far.read(address), "kept")
        self.assertEqual(far.drop(address), "ok")
        self.until("it is retired", lambda: here.data("status")["pool"]["retired_bytes"] == before + CHUNK)
        return (int(address, 16) - HEAP) // CHUNK

    def expect_retired(self, failed, *nodes):
        for node in nodes:
            self.assertEqual(node.data("status")["pool"]["retired_bytes"], len(failed) * CHUNK)

    def chunks_taken(self, node):
        """Those in which a client finds room for what fits into each but once."""
        peer, chunks = node.peer(), set()
        while (address := peer.new(3 * MIB)) != "ENOMEM":
            chunks.add((int(address, 16) - HEAP) // CHUNK)
        return chunks

    def test_8_kernels_have_not_complained(self):
        self.expect_kernels_content()


if __name__ == "__main__":
    main()
