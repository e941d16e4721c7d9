#!/usr/bin/env python3
"""Tests of references between nodes that nobody of their node needs: they linger, and are given up later.

Called by ctest: lingering.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "node"))

from node_test import main  # noqa: E402
from nodes_test import NodesTest  # noqa: E402

MIB = 1 << 20
MOST_VISITING = 256  # references to another node's objects that nobody needs


class Lingering(NodesTest):
    def test_references_to_others_objects_are_kept_for_a_while(self):
        a, b = self.nodes[0].peer(), self.nodes[1].peer()
        for address in [a.new(100) for _ in range(300)]:
            self.pass_on(a, b, address)
            self.assertEqual(b.drop(address), "ok")
            self.assertLessEqual(self.sharing(self.nodes[1])["lingering"], MOST_VISITING)
        self.assertEqual(b.recv(0, 300), "ETIMEDOUT")  # who sleeps gives them up
        self.assertEqual(self.sharing(self.nodes[1])["lingering"], 0)
        large = a.new(2 * MIB)
        self.pass_on(a, b, large)
        self.assertEqual(b.drop(large), "ok")
        self.assertEqual(self.sharing(self.nodes[1])["lingering"], 0)
        self.expect_nothing_left()

    def let_linger(self, sender, receiver, address):
        """Sends it to another node, where it is dropped and lingers: unless that one's daemon has just settled what does."""
        for _ in range(100):
            self.pass_on(sender, receiver, address)
            self.assertEqual(receiver.drop(address), "ok")
            if self.sharing(self.nodes[1])["lingering"] == 1:
                return
        self.fail("it never lingers")

    def test_what_was_received_again_while_it_lingered_stays(self):
        """The list of those that linger names it still; whoever sleeps goes through that list."""
        a, b = self.nodes[0].peer(), self.nodes[1].peer()
        address = a.new(200000)
        a.write(address, "kept")
        for again in range(3):
            self.let_linger(a, b, address)
            self.pass_on(a, b, address)
            self.assertEqual(b.recv(0, 50), "ETIMEDOUT")
            self.assertEqual(self.sharing(self.nodes[1])["lingering"], 0)
            self.assertEqual(a.refs(address), "2", again)  # its own, and the other node's
            self.assertEqual(b.drop(address), "ok")
        self.pass_on(a, b, address)
        self.assertEqual(b.recv(0, 50), "ETIMEDOUT")
        # Its owner lets go: it is the other node's reference that keeps it.
        self.assertEqual(a.drop(address), "ok")
        self.assertEqual(a.recv(0, 50), "ETIMEDOUT")
        self.assertNotEqual(a.new(200000), address)
        self.assertEqual(b.read(address), "kept")
        # And the owner's own reference, received again while it lingers there.
        self.pass_on(b, a, address)
        self.assertEqual(b.drop(address), "ok")
        self.assertEqual(b.recv(0, 50), "ETIMEDOUT")
        self.assertEqual(a.recv(0, 50), "ETIMEDOUT")
        self.assertEqual(a.read(address), "kept")
        self.assertNotEqual(a.new(200000), address)
        self.expect_sound()
        self.expect_nothing_left()

    def test_a_node_that_leaves_keeps_no_reference(self):
        a, b = self.nodes[0].peer(), self.nodes[1].peer()
        known = [a.new(100) for _ in range(20)]
        for address in known:
            self.pass_on(a, b, address)
            self.assertEqual(b.drop(address), "ok")
        self.nodes[1].take_down()
        for address in known:
            self.assertEqual(a.drop(address), "ok")
        self.expect_nothing_left(self.nodes[0])
        self.nodes[1].up()


if __name__ == "__main__":
    main()
