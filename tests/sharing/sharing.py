#!/usr/bin/env python3
"""Tests of sharing by reference: peers in one context send, keep, drop and die.

Called by ctest: sharing.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

import os
import random
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "node"))

from node_test import AEP, NodeTest, Completed, main  # noqa: E402
from peer import PEER, Peer  # noqa: E402

MIB = 1 << 20
MAILBOX = 512
AT_ONCE = 20  # seconds: on the busiest machine, but not never


class SharingTest(NodeTest):
    pool_size = "256M"

    def setUp(self):
        super().setUp()
        self.up()

    def peer(self, name=""):
        peer = Peer(self.socket)
        self.clients.append(peer)
        self.assertEqual(peer.attach(name), "ok")
        peer.id = peer.self()
        return peer

    def pair(self):
        return self.peer("a"), self.peer("b")

    def pass_on(self, sender, receiver, address):
        self.assertEqual(sender.send(receiver.id, address), "ok")
        got = receiver.recv(0, 0).split()
        self.assertEqual((got[0], got[2]), (address, sender.id))
        return int(got[1])

    def end(self, *peers):
        for peer in peers:
            peer.end()
        if all(p.process.returncode is not None for p in self.clients):
            self.recover_the_dead()

    def recover_the_dead(self):
        """Each command is a sweep that takes in what was performed meanwhile: much takes several."""
        living = {p.process.pid for p in self.clients if p.process.returncode is None}
        while any(row["pid"] not in living for row in self.data("clients")):
            self.good("recover")

    def expect_sound(self):
        self.recover_the_dead()
        self.assertEqual(self.data("check"), [])

    def expect_nothing_left(self):
        self.end(*[p for p in self.clients if p.process.returncode is None])
        self.expect_sound()
        status = self.data("status")
        self.assertEqual(status["memory"]["held_bytes"], 0)
        self.assertEqual((status["sharing"]["objects"], status["sharing"]["holders"]), (0, 0))


class Sharing(SharingTest):
    def test_objects_of_every_size_are_the_same_on_both_sides(self):
        a, b = self.pair()
        for size in [1, 16, 100, 1000, 5000, 60000, 100000, MIB, 5 * MIB, 13 * MIB]:
            for command in ("new", "malloc"):
                address = getattr(a, command)(size)
                a.fill(address, size - 1, 65)
                self.assertGreaterEqual(self.pass_on(a, b, address), size)
                if size > 1:
                    self.assertEqual(b.read(address)[:50], "A" * min(50, size - 1))
                    b.write(address, "x" if size > 2 else "")
                    self.assertEqual(a.read(address)[:1], "x" if size > 2 else "")
                self.assertEqual(a.refs(address), "2")
                self.assertEqual(b.drop(address), "ok")
                self.assertEqual(a.refs(address), "1")
                self.assertEqual(a.drop(address), "ok")
                self.assertEqual(a.refs(address), "0")
        self.expect_sound()
        self.expect_nothing_left()

    def test_who_frees_first_does_not_matter(self):
        a, b = self.pair()
        for size in [48, 9000, 200000]:
            for frees in [("free", "free"), ("drop", "free"), ("free", "drop")]:
                address, *others = [a.new(size) for _ in range(100 if size < 9001 else 1)]
                a.write(address, "kept")
                self.pass_on(a, b, address)
                self.assertEqual(getattr(a, frees[0])(address), "ok")
                self.assertEqual(b.read(address), "kept")
                self.assertEqual(b.refs(address), "1")
                self.assertEqual(getattr(b, frees[1])(address), "ok")
                # Back with its owner, which uses it again; a page is not looked at for one free block.
                self.assertEqual(a.recv(0, 0), "EAGAIN")
                for other in others:
                    self.assertEqual(a.free(other), "ok")
                self.assertIn(address, [a.new(size) for _ in range(3000)] if size < 9001 else [a.new(size)])
        self.expect_sound()

    def test_what_an_object_points_at_can_be_read(self):
        a, b = self.pair()
        root = a.new(16)
        far = [a.new(3 * MIB) for _ in range(5)][-1]  # in a chunk that nobody receives anything of
        a.write(far, "far")
        self.assertEqual(a.link(root, far), "ok")
        self.pass_on(a, b, root)
        self.assertEqual(b.follow(root), "far")

    def test_references_are_counted(self):
        a, b = self.pair()
        address = a.new(64)
        self.assertEqual(a.refs(address), "0")
        for _ in range(3):
            self.pass_on(a, b, address)
        self.assertEqual(a.ref(address), "ok")
        self.assertEqual(b.ref(address), "ok")
        self.assertEqual(a.refs(address), "6")
        for _ in range(4):
            self.assertEqual(b.drop(address), "ok")
        self.assertEqual(b.drop(address), "EINVAL")
        self.assertEqual(b.send(a.id, address), "EINVAL")
        self.assertEqual(a.drop(address), "ok")
        self.assertEqual(a.drop(address), "ok")
        self.assertEqual(a.refs(address), "0")
        self.expect_sound()

    def test_what_is_no_object_is_not_sent(self):
        a, b = self.pair()
        address = int(a.new(100), 16)
        freed = a.new(100)
        a.drop(freed)
        for bad in [hex(address + 16), hex(address + 1), freed, "0", "1000", "7fffffffe000", "12ff00000000",
                    "120000001000", "deadbeef", "ffffffffffffffff"]:
            self.assertEqual(a.send(b.id, bad), "EINVAL", bad)
            self.assertEqual(a.ref(bad), "EINVAL", bad)
            if bad != "0":
                self.assertEqual(b.drop(bad), "EINVAL", bad)
        self.assertEqual(b.send(a.id, hex(address)), "EINVAL")  # another's, never received
        self.assertEqual(b.size(hex(address)), "0")
        for nobody in [0, 999, 1 << 40, int(b.id) + (1 << 32), (1 << 64) - 1]:
            self.assertEqual(a.send(nobody, hex(address)), "ESRCH", nobody)
        self.assertEqual(b.recv(0, 0), "EAGAIN")
        self.expect_sound()

    def test_who_has_not_attached_takes_no_part(self):
        a = self.peer("a")
        other = Peer(self.socket)
        self.clients.append(other)
        address = other.new(10)
        self.assertEqual(other.send(a.id, address), "ENOTCONN")
        self.assertEqual(other.recv(0, 0), "ENOTCONN")
        self.assertEqual(other.self(), "0")
        self.assertEqual(other.drop(address), "ok")
        alone = subprocess.run([PEER], env=dict(os.environ, AEP_CONTEXT="none"), text=True, capture_output=True,
                               input="attach\nnew 10\nself\nlookup a\n", check=True)
        self.assertEqual(alone.stdout.split(), ["ENOTCONN", "ENOTCONN", "0", "ENOTCONN"])

    def test_the_name_of_who_has_just_died_is_waited_for(self):
        a, b = self.pair()
        os.kill(self.daemon_pid(), signal.SIGSTOP)
        try:
            b.end()
            a.begin("attach", "b")
            a.until_it_sleeps()
        finally:
            os.kill(self.daemon_pid(), signal.SIGCONT)
        self.assertEqual(a.end_of(), "ok")
        self.assertEqual(a.lookup("b"), a.id)

    def test_names(self):
        a, b = self.pair()
        self.assertEqual(a.lookup("b"), b.id)
        self.assertEqual(b.lookup("a"), a.id)
        self.assertEqual(a.lookup("c"), "ENOENT")
        self.assertEqual(a.attach("b"), "EEXIST")
        self.assertEqual(a.attach("x" * 32), "EINVAL")
        self.assertEqual(a.attach("x" * 31), "ok")
        self.assertEqual(b.lookup("a"), "ENOENT")
        self.assertEqual(b.lookup("x" * 31), a.id)
        self.end(b)
        self.recover_the_dead()
        self.assertEqual(a.lookup("b"), "ENOENT")
        again = self.peer("b")
        self.assertNotEqual(again.id, b.id)

    def test_a_full_mailbox(self):
        a, b = self.pair()
        address = a.new(10)
        for _ in range(MAILBOX):
            self.assertEqual(a.send(b.id, address), "ok")
        self.assertEqual(a.send(b.id, address), "EAGAIN")
        self.assertEqual(a.sendwait(b.id, address, 20), "ETIMEDOUT")
        self.assertEqual(a.refs(address), str(MAILBOX + 1))
        a.begin("sendwait", b.id, address, -1)
        self.assertTrue(b.recv(0, 0).startswith(address))
        self.assertEqual(a.end_of(), "ok")
        self.expect_sound()
        self.end(b)
        self.recover_the_dead()
        self.assertEqual(a.refs(address), "1")
        self.assertEqual(a.sendwait(b.id, address, -1), "ESRCH")
        self.expect_nothing_left()

    def test_a_sender_that_sleeps_hears_of_its_receiver_s_death(self):
        a, b = self.pair()
        address = a.new(10)
        for _ in range(MAILBOX):
            self.assertEqual(a.send(b.id, address), "ok")
        for timeout in (-1, 3600_000):
            a.begin("sendwait", b.id, address, timeout)
            a.until_it_sleeps()
            self.end(b)
            self.recover_the_dead()
            self.assertEqual(a.end_within(AT_ONCE), "ESRCH")
            b = self.peer("b")
            for _ in range(MAILBOX):
                self.assertEqual(a.send(b.id, address), "ok")
        self.assertEqual(a.refs(address), str(MAILBOX + 1))
        self.expect_sound()
        self.expect_nothing_left()

    def test_waiting(self):
        a, b = self.pair()
        self.assertEqual(b.recv(0, 30), "ETIMEDOUT")
        for _ in range(200):
            b.begin("recv", 0, -1)
            address = a.new(10)
            self.assertEqual(a.send(b.id, address), "ok")
            self.assertTrue(b.end_of().startswith(address))
            b.drop(address)
            a.drop(address)
        b.begin("recv", a.id, -1)
        self.end(a)
        self.recover_the_dead()
        self.assertEqual(b.end_of(), "ESRCH")

    def test_nobody_sleeps_through_a_message(self):
        """Messages that come just when their receiver goes to sleep."""
        a, b = self.pair()
        rounds = 20000
        b.begin("volley", a.id, rounds, "returns")
        a.begin("volley", b.id, rounds, "serves")
        self.assertEqual((a.end_of(), b.end_of()), ("ok", "ok"))

    def test_from_one_peer_alone(self):
        a, b = self.pair()
        c = self.peer("c")
        first, second, third = a.new(10), b.new(20), a.new(30)
        for sender, address in [(a, first), (b, second), (a, third)]:
            sender.send(c.id, address)
        self.assertTrue(c.recv(b.id, 0).startswith(second))
        self.assertEqual(c.recv(b.id, 0), "EAGAIN")
        self.assertTrue(c.recv(0, 0).startswith(first))
        self.assertTrue(c.recv(a.id, 0).startswith(third))
        self.expect_sound()

    def test_seventy_thousand_references(self):
        a = self.peer("a")
        address = a.new(64)
        self.assertEqual(a.refmany(address, 70000), "ok")
        self.assertEqual(a.refs(address), "70001")
        self.expect_sound()
        self.expect_nothing_left()

    def test_many_objects(self):
        """More than the records that are there at first."""
        a, b = self.pair()
        count = 20000
        addresses = []
        for begin in range(0, count, 400):
            for _ in range(400):
                addresses.append(a.new(16))
                self.assertEqual(a.send(b.id, addresses[-1]), "ok")
            for _ in range(400):
                b.recv(0, 0)
        self.expect_sound()
        self.assertEqual(len(set(addresses)), count)
        self.end(b)
        self.recover_the_dead()
        self.assertEqual({a.refs(x) for x in addresses[::100]}, {"1"})
        self.expect_nothing_left()

    def test_a_realloc_leaves_others_what_they_have(self):
        a, b = self.pair()
        address = a.new(100)
        a.write(address, "old")
        self.pass_on(a, b, address)
        moved = a.realloc(address, 110)
        self.assertNotEqual(moved, address)
        self.assertEqual(a.read(moved), "old")
        self.assertEqual(b.refs(address), "1")
        mine = b.realloc(address, 50)
        self.assertEqual(b.read(mine), "old")
        self.assertEqual(a.refs(address), "0")
        self.expect_sound()

    def test_the_owner_dies(self):
        a, b = self.pair()
        c = self.peer("c")
        for size in [64, 20000, 300000, 9 * MIB]:
            address = a.new(size)
            a.write(address, "survives")
            self.pass_on(a, b, address)
            self.assertEqual(a.send(c.id, address), "ok")
        self.end(a)
        self.recover_the_dead()
        self.assertEqual(self.data("check"), [])
        kept = [c.recv(0, 0).split()[0] for _ in range(4)]
        for address in kept:
            self.assertEqual(b.read(address), "survives")
            self.assertEqual(c.read(address), "survives")
            self.assertEqual(b.free(address), "ok")
        self.assertEqual(self.data("check"), [])
        self.assertEqual(c.send(b.id, kept[0]), "ok")  # it goes on travelling
        self.assertEqual(b.recv(0, 0).split()[0], kept[0])
        for address in kept:
            self.assertEqual(c.drop(address), "ok")
        self.assertEqual(b.drop(kept[0]), "ok")
        self.expect_sound()
        self.end(b)
        self.end(c)
        self.expect_nothing_left()

    def test_a_message_outlives_its_sender(self):
        a, b = self.pair()
        address = a.new(64)
        a.write(address, "letter")
        self.assertEqual(a.send(b.id, address), "ok")
        self.end(a)
        self.recover_the_dead()
        self.assertTrue(b.recv(a.id, 0).startswith(address))
        self.assertEqual(b.read(address), "letter")
        self.assertEqual(b.recv(a.id, 0), "ESRCH")
        self.assertEqual(b.refs(address), "1")
        self.expect_nothing_left()

    def test_a_fork_keeps_the_heap_to_itself(self):
        a, b = self.pair()
        before, sent = a.new(64), a.new(64)
        a.write(sent, "sent")
        self.pass_on(a, b, sent)
        self.assertEqual(a.fork(before, sent), "0")
        self.assertEqual(a.send(b.id, before), "EXDEV")
        self.assertEqual(a.ref(before), "EXDEV")
        for size in (10, 64, 5000, 65536, 300000, 9000000):  # what is made since goes as ever
            fresh = a.new(size)
            self.assertEqual(a.send(b.id, fresh), "ok", size)
            self.assertTrue(b.recv(0, 0).startswith(fresh))
            self.assertEqual(b.drop(fresh), "ok")
            self.assertEqual(a.drop(fresh), "ok")
        self.assertEqual(a.send(b.id, sent), "ok")  # as it was at the fork
        self.assertTrue(b.recv(0, 0).startswith(sent))
        self.assertEqual(b.drop(sent), "ok")
        self.assertEqual(b.read(sent), "sent")
        self.expect_sound()
        self.assertEqual(a.drop(sent), "ok")
        self.assertEqual(b.read(sent), "sent")
        self.assertEqual(b.drop(sent), "ok")
        self.assertEqual(a.drop(before), "ok")
        self.expect_nothing_left()

    def test_after_a_fork_that_was_refused_halfway_nobody_gets_what_is_not_shared(self):
        for room in [*range(0, 64 * MIB, 4 * MIB), 4096 * MIB]:
            a, b = self.peer(), self.peer()
            objects = [a.new(size) for size in (100, 100000, 3 * MIB, 3 * MIB, 3 * MIB)]
            # A page that the program has protected is a range of its own, which is made private by itself.
            self.assertEqual(a.readonly(f"{int(objects[3], 16) + MIB:x}"), "ok")
            for address in objects:
                a.write(address, "before")
            said = a.forkroom(room)
            self.assertIn(said, ("ENOMEM", "forked"))
            for address in objects:
                a.write(address, "after")
                sent = a.send(b.id, address)
                if sent == "EXDEV":
                    continue
                self.assertEqual(sent, "ok")
                self.assertTrue(b.recv(0, 0).startswith(address))
                self.assertEqual((b.read(address), room, said), ("after", room, said))
            self.end(a, b)
            if said == "forked":
                break
        self.assertEqual(said, "forked")  # with room for all of it
        self.expect_sound()

    def test_a_child_takes_part_at_once(self):
        a, _ = self.pair()
        kept = [a.new(64) for _ in range(20)]
        self.assertEqual(a.forkattach(), "0")
        for address in kept:
            self.assertEqual(a.drop(address), "ok")
        self.recover_the_dead()
        self.expect_nothing_left()

    def test_a_child_that_shares_much_has_a_slot_for_it(self):
        """Beside the spare one, which costs a system call each time."""
        a, _ = self.pair()
        child = int(a.forkstay())
        [row] = [row for row in self.data("clients") if row["pid"] == child]
        self.assertEqual(row["slots"], 2)
        os.kill(child, signal.SIGKILL)
        self.end(a)
        self.recover_the_dead()


class Poisoned(SharingTest):
    def test_who_only_looks_is_told_so(self):
        waiting = self.peer("waiting")
        asleep = self.peer("asleep")
        asleep.begin("recv", 0, -1)
        asleep.until_it_sleeps()
        polls = self.peer("polls")
        self.assertEqual(polls.poll(0), "down")
        polls.begin("poll", -1)
        while self.aep("status").returncode == 0:  # until one dies in the middle of an operation
            a, b = self.peer(), self.peer()
            b.begin("volley", a.id, 1 << 30, "returns")
            a.begin("volley", b.id, 1 << 30, "serves")
            self.end(a, b)
            self.good("recover")
        self.assertEqual(waiting.recv(0, 0), "ENOTRECOVERABLE")
        self.assertEqual(asleep.end_within(AT_ONCE), "ENOTRECOVERABLE")
        self.assertEqual(polls.end_within(AT_ONCE), "up")


class Deaths(Completed, SharingTest):
    def test_killed_at_random(self):
        seed = random.randrange(1 << 30)
        choice = random.Random(seed)
        with self.subTest(seed=seed):
            peers = [self.peer() for _ in range(4)]
            for i, peer in enumerate(peers):
                peer.churn(peers[i - 1].id, choice.randrange(1 << 30))
            for _ in range(100):
                i = choice.randrange(len(peers))
                peers[i].end()
                peers[i] = self.peer()
                peers[i].churn(choice.choice(peers).id, choice.randrange(1 << 30))
                if choice.random() < 0.1:
                    self.end_daemon(signal.SIGKILL)
                    self.up()
            self.end(*peers)
            while self.data("clients"):
                self.recover_the_dead()
            status = self.data("status")
            self.assertEqual(status["state"], "live", status["poison"])
            self.assertGreater(status["recovery"]["completed"] + status["recovery"]["undone"], 0)
            self.expect_nothing_left()

    def test_real_programs_go_on_beside_it(self):
        a, b = self.peer(), self.peer()
        a.churn(b.id, 1)
        b.churn(a.id, 2)
        done = self.run_tool(AEP, "run", *self.where, "--", "/usr/bin/python3", "-c",
                             "print(sum(len(str(i)) for i in range(10**6)))")
        self.assertEqual(done.stdout.strip(), "5888890", done.stderr)
        self.expect_nothing_left()


if __name__ == "__main__":
    main()
