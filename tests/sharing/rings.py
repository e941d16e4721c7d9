#!/usr/bin/env python3
"""Tests of the rings of messages between nodes, which their clients share.

Called by ctest: rings.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "node"))

from node_test import main  # noqa: E402
from nodes_test import NodesTest  # noqa: E402

SLOTS = 1024  # messages from one node to another, in a pool of this size
AT_ONCE = 20  # seconds: on the busiest machine, but not never


class Rings(NodesTest):
    def test_messages_arrive_in_order_and_wake_who_sleeps(self):
        a, b = self.nodes[0].peer(), self.nodes[1].peer()
        b.begin("recv", 0, -1)
        sent = [a.new(32) for _ in range(600)]
        self.assertEqual(a.send(b.id, sent[0]), "ok")
        got = [b.end_of().split()[0]]
        for one in sent[1:]:
            self.assertEqual(a.sendwait(b.id, one, -1), "ok")
            got.append(b.recv(a.id, -1).split()[0])
        self.assertEqual(got, sent)
        self.expect_nothing_left()

    def test_a_full_ring_says_so_and_waits(self):
        a, b = self.nodes[0].peer(), self.nodes[1].peer()
        address = a.new(100)
        for _ in range(SLOTS // 2):  # as much as it leaves free
            self.assertEqual(a.send(b.id, address), "ok")
        self.assertEqual(a.send(b.id, address), "EAGAIN")
        self.assertEqual(a.sendwait(b.id, address, 20), "ETIMEDOUT")
        a.begin("sendwait", b.id, address, -1)
        self.assertEqual(b.recv(0, 0).split()[0], address)
        self.assertEqual(a.end_of(), "ok")
        for _ in range(SLOTS // 2):
            self.assertEqual(b.recv(0, 2000).split()[0], address)
        self.assertEqual(b.recv(0, 0), "EAGAIN")
        self.assertEqual(b.refs(address), str(SLOTS // 2 + 1 + 1))  # and the other node
        self.expect_nothing_left()

    def test_a_sender_that_waits_hears_of_the_death_of_its_receiver_or_of_its_node(self):
        for power in (False, True):
            a, b = self.nodes[0].peer(), self.nodes[1].peer()
            address = a.new(100)
            while a.send(b.id, address) == "ok":
                pass
            a.begin("sendwait", b.id, address, -1)
            a.until_it_sleeps()
            if power:
                self.nodes[1].lose_power()
                self.nodes[0].good("recover")
            else:
                b.end()
                self.nodes[1].good("recover")
            self.assertEqual(a.end_within(AT_ONCE), "ESRCH")
            self.assertEqual(a.drop(address), "ok")
            self.expect_nothing_left(*self.nodes[:2 - power])

    def test_who_does_not_receive_leaves_room_for_others(self):
        a, receiver = self.nodes[0].peer(), self.nodes[1].peer()
        idle = [self.nodes[1].peer() for _ in range(4)]
        address, new = a.new(100), a.new(100)
        got = []
        for peer in idle:
            got.append(0)
            while a.send(peer.id, address) == "ok":
                got[-1] += 1
        # Each has as much as it leaves free of what the former ones left.
        self.assertEqual(got, [SLOTS >> 1, SLOTS >> 2, SLOTS >> 3, SLOTS >> 4])
        self.assertEqual(a.send(idle[0].id, new), "EAGAIN")  # and it has no number for it now
        for _ in range(2 * SLOTS):
            self.pass_on(a, receiver, address)
            self.assertEqual(receiver.drop(address), "ok")
        # A dead one's share is free again.
        idle[0].end()
        self.until("its messages are gone", lambda: a.send(idle[1].id, new) == "ok")
        for peer, count in zip(idle[1:], got[1:]):
            for _ in range(count):
                self.assertEqual(peer.recv(0, 0).split()[0], address)
        self.assertEqual(idle[1].recv(0, 0).split()[0], new)
        self.expect_sound()
        self.expect_nothing_left()


if __name__ == "__main__":
    main()
