#!/usr/bin/env python3
"""Tests of sharing between nodes: several contexts on one pool file, each with its own daemon.

Called by ctest: nodes.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "node"))

from node_test import AEP, Completed, main  # noqa: E402
from nodes_test import Node, NodesTest  # noqa: E402

MIB = 1 << 20
NUMBERS = 4096  # of objects that a node can tell others of, in a pool of this size
SIZES = [1, 16, 100, 5000, 60000, 100000, MIB, 5 * MIB, 13 * MIB]


class Nodes(NodesTest):
    def test_objects_of_every_size_are_the_same_on_both_nodes(self):
        a, b = self.nodes[0].peer("a"), self.nodes[1].peer("b")
        self.assertEqual(a.lookup("b"), b.id)
        self.assertEqual(b.lookup("a"), a.id)
        for size in SIZES:
            address = a.new(size)
            a.fill(address, size - 1, 65)
            self.assertGreaterEqual(self.pass_on(a, b, address), size)
            if size > 1:
                self.assertEqual(b.read(address)[:50], "A" * min(50, size - 1))
                b.write(address, "x" if size > 2 else "")
                self.assertEqual(a.read(address)[:1], "x" if size > 2 else "")
            self.assertEqual(b.drop(address), "ok")
            self.assertEqual(b.drop(address), "EINVAL")
            self.assertEqual(a.drop(address), "ok")
            self.assertEqual(a.drop(address), "EINVAL")
        self.expect_sound()
        self.assertEqual(self.sharing(self.nodes[0])["lingering"], 0)
        self.expect_nothing_left()

    def test_what_a_sender_says_of_a_message_arrives(self):
        a, b = self.nodes[0].peer("a"), self.nodes[1].peer("b")
        address = a.new(100)
        for label in [(1, 2, 3), ((1 << 64) - 1, (1 << 63) + 5, (1 << 32) - 1), (0, 0, 0)]:
            self.assertEqual(a.say(b.id, address, *label, 0, 0), "ok")
            self.assertEqual(b.hear(0, 0).split(), [address, a.id, *map(str, label)])
        self.assertEqual(a.say(b.id, address, 4, 5, 6, 0, 1), "ok")  # and its reference goes with it
        self.assertEqual(a.drop(address), "EINVAL")
        self.assertEqual(b.hear(a.id, 0).split()[2:], ["4", "5", "6"])
        self.expect_nothing_left()

    def test_who_drops_first_does_not_matter(self):
        a, b = self.nodes[0].peer(), self.nodes[1].peer()
        address = a.new(200000)
        a.write(address, "kept")
        self.pass_on(a, b, address)
        self.assertEqual(a.drop(address), "ok")
        self.assertEqual(b.read(address), "kept")
        self.assertEqual(self.sharing(self.nodes[0])["lingering"], 1)
        self.assertEqual(b.drop(address), "ok")
        # Back with its owner, which uses it again.
        self.assertEqual(a.recv(0, 0), "EAGAIN")
        self.assertEqual(a.new(200000), address)
        self.expect_nothing_left()

    def test_of_two_nodes_that_want_a_name_at_once_one_gets_it(self):
        peers = [node.peer() for node in self.nodes]
        for number in range(300):
            for peer in peers:
                peer.begin("attach", f"name-{number}")
            self.assertEqual(sorted(peer.end_of() for peer in peers), ["EEXIST", "ok"])
            self.assertEqual(len({peer.lookup(f"name-{number}") for peer in peers}), 1)

    def test_who_has_a_name_keeps_it_when_it_says_it_again(self):
        for owner, other in (self.nodes, self.nodes[::-1]):
            owner, other = owner.peer("name"), other.peer()
            for _ in range(300):
                for peer in (other, owner):
                    peer.begin("attach", "name")
                self.assertEqual([peer.end_of() for peer in (owner, other)], ["ok", "EEXIST"])
            owner.end()
            self.until("the name is free", lambda asked=other: asked.lookup("name") == "ENOENT")

    def test_what_an_object_points_at_can_be_read(self):
        a, b = self.nodes[0].peer(), self.nodes[1].peer()
        root, far = a.new(16), a.new(3 * MIB)
        a.write(far, "far")
        self.assertEqual(a.link(root, far), "ok")
        self.pass_on(a, b, root)
        self.assertEqual(b.follow(root), "far")

    def test_a_node_has_one_reference_whatever_its_clients_have(self):
        a, b, c = self.nodes[0].peer(), self.nodes[1].peer(), self.nodes[1].peer()
        address = a.new(64)
        a.write(address, "word")
        for receiver in (b, c, b):
            self.pass_on(a, receiver, address)
        self.pass_on(b, c, address)
        self.assertEqual(b.refmany(address, 70000), "ok")
        self.assertEqual(b.refs(address), str(70004 + 1))  # and the other node
        self.assertEqual(self.sharing(self.nodes[1])["objects"], 1)
        # Home again, and to who has it already.
        self.pass_on(c, a, address)
        self.assertEqual(a.drop(address), "ok")
        self.assertEqual(a.drop(address), "ok")
        b.end()
        self.assertEqual(c.read(address), "word")
        self.expect_sound()
        self.expect_nothing_left()

    def test_bad_input_changes_nothing(self):
        a, b = self.nodes[0].peer("a"), self.nodes[1].peer("b")
        address = a.new(100)
        self.assertEqual(self.nodes[1].peer().attach("a"), "EEXIST")
        self.assertEqual(b.lookup("nobody"), "ENOENT")
        stranger = int(b.id) + (1 << 32)  # another client in b's place
        self.assertEqual(a.send(stranger, address), "ESRCH")
        self.assertEqual(a.send((int(b.id) & ~0xff0000) | 8 << 16, address), "ESRCH")  # another node
        self.assertEqual(a.send(b.id, hex(int(address, 16) + 16)), "EINVAL")
        self.assertEqual(b.send(a.id, address), "EINVAL")  # never received
        self.assertEqual(a.recv(b.id, 0), "EAGAIN")
        self.assertEqual(a.recv(b.id, 20), "ETIMEDOUT")
        b.end()
        self.until("b is gone", lambda: not self.nodes[1].run("clients", "--json").stdout.count('"live"') > 1)
        self.assertEqual(a.send(b.id, address), "ESRCH")
        self.assertEqual(a.recv(b.id, -1), "ESRCH")
        self.assertEqual(a.drop(address), "ok")
        self.expect_nothing_left()

    def test_numbers_that_run_out_are_out_of_memory(self):
        a, b = self.nodes[0].peer(), self.nodes[1].peer()
        known = []
        while a.send(b.id, address := a.new(16)) == "ok":
            known.append(address)
            self.assertEqual(b.recv(a.id, -1).split()[0], address)
        self.assertEqual(len(known), NUMBERS)
        self.assertEqual(a.send(b.id, address), "ENOMEM")
        self.assertEqual(a.send(b.id, known[0]), "ok")  # has one already
        group = a.gnew(0)
        self.assertEqual(a.gprolong(group, 10000, 64), "ok")
        self.assertEqual(a.send(b.id, a.groot(group)), "ENOMEM")
        for holder in (a, b):
            self.assertEqual(holder.drop(known[1]), "ok")
        self.pass_on(b, a, b.new(16))  # the other node has numbers of its own
        self.assertEqual(a.send(b.id, address), "ok")
        root, refused = a.groot(group), 0
        while a.send(b.id, root) == "ENOMEM":  # there are not enough for all parts of it
            refused += 1
            for holder in (a, b):
                self.assertEqual(holder.drop(known[1 + refused]), "ok")
        self.assertGreater(refused, 2)
        self.assertEqual(b.recv(a.id, 0).split()[0], known[0])
        self.expect_sound()
        self.expect_nothing_left()

    def test_a_full_pool_stops_nobody_from_sharing(self):
        a, b = self.nodes[0].peer(), self.nodes[1].peer()
        kept = a.new(64)
        while (address := a.new(4 * MIB)) != "ENOMEM":
            self.assertEqual(a.send(b.id, address), "ok")
        self.assertEqual(b.new(5 * MIB), "ENOMEM")
        while b.recv(0, 0) != "EAGAIN":
            pass
        self.pass_on(a, b, kept)
        self.assertEqual(a.drop(kept), "ok")
        self.expect_sound()
        self.expect_nothing_left()


class Groups(NodesTest):
    count = 3

    def sums(self, length):
        return f"{length} {length * (length - 1) // 2}"

    def grown(self, writer, length):
        group = writer.gnew(0)
        self.assertEqual(writer.gprolong(group, length, 64), "ok")
        return group, writer.groot(group)

    def test_a_structure_is_sent_by_its_root(self):
        a, b, c = (node.peer() for node in self.nodes)
        group, root = self.grown(a, 20000)
        before = self.sharing(self.nodes[0])["sent_to_nodes"]
        self.pass_on(a, b, root)
        self.assertEqual(self.sharing(self.nodes[0])["sent_to_nodes"], before + 1)
        self.assertEqual(b.gsum(root), self.sums(20000))
        self.assertEqual(b.gof(root), group)
        self.assertEqual(b.groot(group), root)
        # It grows, and others see that; only its writer makes it grow.
        self.assertEqual(a.gprolong(group, 30000, 64), "ok")
        self.assertEqual(b.gsum(root), self.sums(50000))
        self.assertEqual(b.gprolong(group, 1, 64), "EPERM")
        self.assertEqual(a.ghand(group, b.id), "EXDEV")
        self.pass_on(b, c, root)
        self.pass_on(c, a, root)
        self.assertEqual(a.drop(root), "ok")
        self.expect_sound()
        for holder in (b, c):
            self.assertEqual(holder.gsum(root), self.sums(50000))
            self.assertEqual(holder.drop(root), "ok")
            self.assertEqual(holder.drop(root), "EINVAL")
        self.assertEqual(a.gclose(group), "ok")
        self.expect_nothing_left()

    def test_what_is_freed_waits_for_readers_of_other_nodes(self):
        a, b = self.nodes[0].peer(), self.nodes[1].peer()
        group, root = self.grown(a, 10)
        freed = [a.galloc(group, 100) for _ in range(3000)]
        a.write(freed[0], "kept")
        self.pass_on(a, b, root)
        self.assertEqual(a.gsetroot(group, freed[0]), "EBUSY")
        for block in freed:
            self.assertEqual(a.gfree(group, block), "ok")
        self.assertEqual({a.galloc(group, 100) for _ in range(3000)} & set(freed), set())
        self.assertEqual(b.read(freed[0]), "kept")
        self.assertEqual(b.drop(root), "ok")
        self.assertNotEqual({a.galloc(group, 100) for _ in range(3000)} & set(freed), set())
        block = a.galloc(group, 100)
        self.assertEqual(a.gsetroot(group, block), "ok")
        self.pass_on(a, b, block)
        self.assertEqual(b.groot(group), block)
        self.expect_nothing_left()

    def test_threads_that_receive_at_once_can_all_follow_pointers(self):
        a = self.nodes[0].peer()
        group = a.gnew(0)
        far = [a.galloc(group, 3 * MIB) for _ in range(6)]  # in chunks of their own
        root = a.galloc(group, 3 * MIB)
        self.assertEqual(a.link(root, far[3]), "ok")
        self.assertEqual(a.gsetroot(group, root), "ok")
        for _ in range(30):
            b = self.nodes[1].peer()
            for _ in range(4):
                self.assertEqual(a.send(b.id, root), "ok")
            self.assertEqual(b.receivers(4), "ok")
            b.end()
        self.expect_nothing_left()

    def test_it_outlives_its_writer_and_its_node(self):
        for power in (False, True):
            a, b, c = (node.peer() for node in self.nodes)
            group, root = self.grown(a, 300000)  # several extents in several chunks
            self.pass_on(a, b, root)
            self.assertEqual(a.gprolong(group, 100000, 64), "ok")
            if power:
                self.nodes[0].lose_power()
                self.until("node 1 is recovered", lambda: len(self.nodes[1].data("status")["nodes"]) == 2)
            else:
                self.nodes[0].end_peers()
            # Chunks that nobody keeps are used again at once.
            for _ in range(8):
                hog = c.new(4 * MIB)
                c.fill(hog, 4 * MIB, 255)
            self.assertEqual(b.gsum(root), self.sums(400000))
            self.pass_on(b, c, root)
            self.assertEqual(b.drop(root), "ok")
            self.assertEqual(c.gsum(root), self.sums(400000))
            self.assertEqual(b.gprolong(group, 1, 64), "EINVAL")
            self.assertEqual(c.gprolong(group, 1, 64), "EPERM")
            self.expect_sound(*self.nodes[power:])
            self.expect_nothing_left(*self.nodes[power:])


class Deaths(NodesTest):
    count = 3

    def test_a_receiver_that_dies_lets_go(self):
        a, b = self.nodes[0].peer(), self.nodes[1].peer()
        taken, waiting = a.new(64), a.new(64)
        self.pass_on(a, b, taken)
        self.assertEqual(a.send(b.id, waiting), "ok")
        b.end()
        for address in (taken, waiting):
            self.assertEqual(a.drop(address), "ok")
        self.until("all came back", lambda: self.sharing(self.nodes[0])["lingering"] == 0)
        self.expect_nothing_left()

    def test_an_object_outlives_its_owner_and_its_node(self):
        for power in (False, True):
            a, b, c = (node.peer() for node in self.nodes)
            objects = [a.new(size) for size in SIZES[1:]]
            for n, address in enumerate(objects):
                a.write(address, f"number-{n}")
                self.pass_on(a, b, address)
            self.pass_on(b, c, objects[0])
            if power:
                self.nodes[0].lose_power()
                self.until("node 1 is recovered", lambda: len(self.nodes[1].data("status")["nodes"]) == 2)
                self.until("its chunks are kept", lambda: self.nodes[1].data("status")["pool"]["kept_bytes"] > 0)
            else:
                a.end()
            for n, address in enumerate(objects):
                self.assertEqual(b.read(address), f"number-{n}")
                self.pass_on(b, c, address)
                self.assertEqual(b.drop(address), "ok")
                self.assertEqual(c.read(address), f"number-{n}")
            self.expect_sound(*self.nodes[power:])
            self.expect_nothing_left(*self.nodes[power:])

    def test_messages_arrive_although_their_sender_s_node_dies(self):
        a, b = self.nodes[0].peer(), self.nodes[1].peer()
        address = a.new(5000)
        a.write(address, "last")
        self.assertEqual(a.send(b.id, address), "ok")
        self.nodes[0].lose_power()
        self.until("node 1 is recovered", lambda: len(self.nodes[1].data("status")["nodes"]) == 2)
        self.assertEqual(b.recv(0, 0).split()[0], address)
        self.assertEqual(b.read(address), "last")
        self.expect_nothing_left(*self.nodes[1:])

    def test_a_dead_node_s_number_can_be_used_again(self):
        a, b = self.nodes[0].peer("a"), self.nodes[1].peer("b")
        address = a.new(64)
        a.write(address, "old")
        self.pass_on(a, b, address)
        self.nodes[0].lose_power()
        self.nodes[0].up()  # recovers what it was itself
        again = self.nodes[0].peer("a")
        self.assertEqual(b.lookup("a"), again.id)
        self.assertNotEqual(again.id, a.id)
        self.assertEqual(b.send(a.id, address), "ESRCH")
        for _ in range(50):
            self.pass_on(again, b, again.new(64))
        self.assertEqual(b.read(address), "old")
        self.pass_on(b, again, address)
        self.assertEqual(again.read(address), "old")
        self.expect_nothing_left()

    def test_clients_of_a_node_that_came_back_are_not_found(self):
        b, c = self.nodes[1].peer("b"), self.nodes[2].peer("c")
        for recovered_by_others in (True, False):
            former = {name: self.nodes[0].peer(name).id for name in ("a", "another", "third")}
            nobody = dict.fromkeys(former, "ENOENT")
            address = b.new(64)
            self.assertEqual({name: b.lookup(name) for name in former}, former)
            self.nodes[0].lose_power()
            if recovered_by_others:
                self.until("node 1 is recovered", lambda: len(self.nodes[1].data("status")["nodes"]) == 2)
                self.assertEqual({name: b.lookup(name) for name in former}, nobody)
            self.nodes[0].up()
            for finder in (b, c, self.nodes[0].peer("new")):
                self.assertEqual({name: finder.lookup(name) for name in former}, nobody)
            for gone in former.values():
                self.assertEqual(b.send(gone, address), "ESRCH")
            # Their names are free, on every node.
            self.assertEqual(c.attach("a"), "ok")
            self.assertEqual(b.lookup("a"), c.id)
            self.assertEqual(c.attach("c"), "ok")
            self.assertEqual(b.drop(address), "ok")
            self.nodes[0].end_peers()
        self.expect_nothing_left()

    def test_a_pool_whose_nodes_all_died_is_used_again(self):
        peers = [node.peer() for node in self.nodes]
        for sender in peers:
            for receiver in peers:
                if sender is not receiver:
                    self.pass_on(sender, receiver, sender.new(100000))
                    self.assertEqual(sender.send(receiver.id, sender.new(64)), "ok")
        for node in self.nodes:
            node.lose_power()
        self.nodes[2].up()
        self.until("the others are recovered", lambda: len(self.nodes[2].data("status")["nodes"]) == 1)
        self.expect_nothing_left(self.nodes[2])
        self.nodes[0].up()
        self.pass_on(self.nodes[0].peer(), self.nodes[2].peer(), self.nodes[0].peers[-1].new(64))

    def test_a_node_without_its_daemon_goes_on(self):
        a, b = self.nodes[0].peer(), self.nodes[1].peer()
        self.nodes[0].end_daemon()
        self.nodes[1].good("recover")
        for _ in range(100):
            self.pass_on(a, b, a.new(64))
        self.nodes[0].up()
        self.pass_on(b, a, b.new(64))
        self.expect_sound()
        self.expect_nothing_left()

    def test_taking_down_leaves_what_others_hold(self):
        a, b = self.nodes[0].peer(), self.nodes[1].peer()
        address = a.new(64)
        a.write(address, "kept")
        self.pass_on(a, b, address)
        self.nodes[0].end_peers()
        self.nodes[0].good("down")
        self.assertEqual(b.read(address), "kept")
        self.expect_sound(*self.nodes[1:])
        self.expect_nothing_left(*self.nodes[1:])

    def test_one_number_is_one_node_s(self):
        twin = Node(self, 9)
        twin.number = 1
        done = subprocess.run([AEP, "up", *twin.where, "--pool", self.pool, "--node", "1"],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("node 1 is", done.stderr)
        done = self.nodes[0].run("up", "--node", "2")
        self.assertEqual(done.returncode, 0)  # runs already: told so
        self.assertIn("--node 1 and not 2", done.stderr)
        done = subprocess.run([AEP, "up", *twin.where, "--pool", self.pool, "--node", "99"],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertIn("has nodes 1 to 8", done.stderr)
        small = f"{self.home}/small"
        done = subprocess.run([AEP, "up", *twin.where, "--pool", small, "--pool-size", "16M", "--node", "1"],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertIn("too small to be shared between nodes", done.stderr)


class Torture(Completed, NodesTest):
    """Random work on three nodes, clients and nodes killed at random."""

    count = 3
    rounds = int(os.environ.get("AEP_TEST_ROUNDS", "60"))

    def test_random_deaths_leave_nothing(self):
        random.seed(7)
        for number in range(self.rounds):
            for node in self.nodes:
                node.peers = [p for p in node.peers if p.process.returncode is None]
                while len(node.peers) < 2:
                    node.peer()
            everybody = [p for node in self.nodes for p in node.peers]
            for peer in everybody:
                if not hasattr(peer, "busy"):
                    peer.busy = peer.churn(random.choice(everybody).id, random.getrandbits(32))
            victim = random.choice(self.nodes)
            how = random.randrange(10)
            if how < 7:
                random.choice(victim.peers).end()
            elif how < 8:
                victim.end_daemon()
                victim.up()
            else:
                victim.lose_power()
                victim.up()
            if number % 10 == 9:
                self.expect_sound()
        self.expect_nothing_left()


if __name__ == "__main__":
    main()
