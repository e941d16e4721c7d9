#!/usr/bin/env python3
"""Tests of dsm_fd: up while a message waits, down when a receive finds none, in and between nodes; dsm_strerror.

Called by ctest: descriptor.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

import errno
import os
import sys

from nodes import NodesTest
from sharing import SharingTest
from peer import Peer

from node_test import Completed, main


class Descriptor(SharingTest):
    def test_up_while_a_message_waits(self):
        a, b = self.pair()
        self.assertEqual(b.poll(0), "down")
        self.assertEqual(b.fd(), b.fd())
        for _ in range(50):
            first, second = a.new(10), a.new(10)
            self.assertEqual(a.send(b.id, first), "ok")
            self.assertEqual(b.poll(-1), "up")
            self.assertEqual(a.send(b.id, second), "ok")
            self.assertTrue(b.recv(0, 0).startswith(first))
            self.assertEqual(b.poll(0), "up")
            self.assertTrue(b.recv(0, 0).startswith(second))
            self.assertEqual(b.recv(0, 0), "EAGAIN")
            self.assertEqual(b.poll(0), "down")
            for address in first, second:
                a.drop(address)
                b.drop(address)
        self.assertEqual(b.recv(0, 1), "ETIMEDOUT")
        self.assertEqual(b.poll(0), "down")
        self.expect_nothing_left()

    def test_a_sleeper_in_poll_is_woken(self):
        a, b = self.pair()
        address = a.new(10)
        for _ in range(200):
            b.begin("poll", -1)
            self.assertEqual(a.send(b.id, address), "ok")
            self.assertEqual(b.end_of(), "up")
            self.assertTrue(b.recv(0, 0).startswith(address))
            self.assertEqual(b.recv(0, 0), "EAGAIN")
            b.drop(address)
        self.expect_sound()

    def test_nobody_sleeps_through_a_message(self):
        """Messages that come just when the thread behind the descriptor goes to sleep."""
        a, b = self.pair()
        rounds = 5000
        b.begin("volley", a.id, rounds, "returns", "fd")
        a.begin("volley", b.id, rounds, "serves", "fd")
        self.assertEqual((a.end_of(), b.end_of()), ("ok", "ok"))

    def test_what_came_before_it_was_made(self):
        a, b = self.pair()
        self.assertEqual(a.send(b.id, a.new(10)), "ok")
        self.assertEqual(b.poll(0), "up")

    def test_who_asks_one_peer_learns_of_the_others(self):
        a, b = self.pair()
        c = self.peer("c")
        self.assertEqual(c.poll(0), "down")
        address = a.new(10)
        self.assertEqual(a.send(c.id, address), "ok")
        self.assertEqual(c.poll(-1), "up")
        self.assertEqual(c.recv(b.id, 0), "EAGAIN")
        self.assertEqual(c.poll(-1), "up")
        self.assertTrue(c.recv(0, 0).startswith(address))

    def test_no_message_is_overlooked(self):
        """Loops that sleep in epoll alone while three others send as fast as they can."""
        senders, receiver = [self.peer() for _ in range(3)], self.peer("to")
        each = 3000
        for kind in "level", "edge":
            receiver.begin("loop", each * len(senders), kind)
            for sender in senders:
                sender.begin("flood", receiver.id, each)
            self.assertEqual([s.end_of() for s in senders], ["ok"] * len(senders))
            self.assertGreater(int(receiver.end_of()), 0)
            self.assertEqual(receiver.recv(0, 0), "EAGAIN")
        self.expect_nothing_left()

    def test_who_takes_no_part_has_none(self):
        other = Peer(self.socket)
        self.clients.append(other)
        self.assertEqual(other.fd(), "ENOTCONN")

    def test_without_descriptors(self):
        a = self.peer("a")
        self.assertEqual(a.fdlimit(), "EMFILE made")

    def test_a_forked_child_makes_its_own(self):
        a, b = self.pair()
        self.assertEqual(a.poll(0), "down")
        self.assertEqual(a.forkfd(), "0")
        self.assertEqual(b.send(a.id, b.new(10)), "ok")
        self.assertEqual(a.poll(-1), "up")
        self.expect_sound()

    def test_its_thread(self):
        a = self.peer("a")
        self.assertEqual(a.poll(0), "down")
        self.assertEqual(a.send(a.id, a.new(10)), "ok")
        self.assertEqual(a.poll(-1), "up")  # so it runs, and has its name
        tasks = f"/proc/{a.process.pid}/task"
        found = {}
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/status", encoding="ascii") as status:
                facts = dict(line.split(":\t", 1) for line in status.read().splitlines() if ":\t" in line)
                found[facts["Name"]] = facts
        self.assertEqual(len(found), 2, found.keys())
        # All but SIGKILL and SIGSTOP, which nobody can block.
        self.assertEqual(int(found["aep-dsm-fd"]["SigBlk"], 16), ~0x40100 & (1 << 64) - 1)
        a.begin("endbythreads")
        self.assertEqual(a.process.wait(60), 0)
        a.end()

    def test_every_error_has_a_meaning(self):
        a = self.peer("a")
        for name in ["EAGAIN", "EDEADLK", "EEXIST", "EINTR", "EINVAL", "EMFILE", "EMSGSIZE", "ENOENT", "ENOMEM", "ENOMSG",
                     "ENOSPC", "ENOTCONN", "ENOTRECOVERABLE", "EPERM", "ESRCH", "ESTALE", "ETIMEDOUT", "EXDEV"]:
            self.assertNotIn(a.meaning(getattr(errno, name)), ["unknown error", ""], name)
        self.assertEqual(a.meaning(errno.ESTALE), "this node was declared dead by others")
        for other in [-1, 100000, errno.ENOTTY]:
            self.assertEqual(a.meaning(other), "unknown error")


class BetweenNodes(NodesTest):
    def test_a_sleeper_is_woken_by_another_node(self):
        a, b = self.nodes[0].peer("a"), self.nodes[1].peer("b")
        other = self.nodes[1].peer("other")
        self.assertEqual((b.poll(0), other.poll(0)), ("down", "down"))
        address = a.new(100)
        for _ in range(100):
            b.begin("poll", -1)
            self.assertEqual(a.send(b.id, address), "ok")
            self.assertEqual(b.end_of(), "up")
            self.assertTrue(b.recv(0, 0).startswith(address))
            self.assertEqual(b.recv(0, 0), "EAGAIN")
            self.assertEqual((b.poll(0), other.poll(0)), ("down", "down"))
            b.drop(address)
        self.expect_nothing_left()

    def test_no_message_of_either_node_is_overlooked(self):
        receiver = self.nodes[1].peer("to")
        senders = [self.nodes[0].peer(), self.nodes[1].peer()]
        for kind in "level", "edge":
            receiver.begin("loop", 2000, kind)
            for sender in senders:
                sender.begin("flood", receiver.id, 1000)
            self.assertEqual([s.end_of() for s in senders], ["ok", "ok"])
            self.assertGreater(int(receiver.end_of()), 0)
        self.expect_nothing_left()


class Deaths(Completed, SharingTest):
    def test_a_loop_goes_on_while_its_senders_are_killed(self):
        receiver = self.peer("to")
        receiver.begin("loop", 20000, "edge")
        victims = [self.peer() for _ in range(2)]
        for victim in victims:
            victim.begin("flood", receiver.id, 1000000)
        for i in range(40):
            self.end(victims[i % 2])
            victims[i % 2] = self.peer()
            victims[i % 2].begin("flood", receiver.id, 1000000)
        self.assertGreater(int(receiver.end_of()), 0)
        self.end(*victims)
        self.assertEqual(self.data("status")["state"], "live")
        self.expect_nothing_left()


if __name__ == "__main__":
    main()
