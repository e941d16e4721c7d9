#!/usr/bin/env python3
"""Tests of nodes that are another machine's as far as anybody can tell: their daemons read another boot id.

Called by ctest: elsewhere.py TOOLS_DIR PEER [unittest arguments]. Needs root, for a mount namespace of such a daemon's own. Leaves nothing
behind. Real machines: tests/vm.
"""

import json
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "node"))

from node_test import AEP, AEPD, main  # noqa: E402
from nodes_test import Node, NodesTest  # noqa: E402

BOOT_ID = "/proc/sys/kernel/random/boot_id"
NO_NAMESPACE = subprocess.run(["unshare", "-m", "mount", "--bind", BOOT_ID, BOOT_ID], capture_output=True, text=True, check=False).stderr


class NodeHere(Node):
    def inside(self):
        """What comes before a command line that is run on its machine."""
        return []

    def run(self, command, *words):
        return self.start(AEP, command, *self.where, *words)

    def start(self, *words):
        return subprocess.run([*self.inside(), *words], capture_output=True, text=True, timeout=60, check=False)


class NodeElsewhere(NodeHere):
    """Of a machine that was booted at another time."""

    def inside(self):
        with open(f"{self.home}/boot_id", "w", encoding="ascii") as file:
            file.write("01234567-89ab-cdef-0123-456789abcdef\n")
        return ["unshare", "-m", "sh", "-c", f'mount --bind {file.name} {BOOT_ID} && exec "$@"', "sh"]


@unittest.skipIf(NO_NAMESPACE, f"no mount namespace: {NO_NAMESPACE.strip()}")
class Elsewhere(NodesTest):
    words = ("--lease-ms", "1500")  # long enough for daemons of busy machines
    count = 0

    def setUp(self):
        super().setUp()
        self.one, self.other, self.three = NodeHere(self, 1), NodeElsewhere(self, 2), NodeHere(self, 3)
        self.nodes = [self.one, self.other, self.three]

    def refused(self, node, *words):
        """By its daemon itself: whoever starts one waits a while for another that serves."""
        done = node.start(AEPD, *node.where, "--pool", self.pool, "--provider", self.provider, "--node", str(node.number), *words)
        self.assertEqual(done.returncode, 3, done.stderr)
        return done.stderr

    def states(self, seer):
        """Of the nodes, by number; a suspect is no fault here."""
        return {n["node"]: n["state"] for n in json.loads(seer.run("status", "--json").stdout)["nodes"]}

    def bytes_of(self, number):
        """What a node has of the pool."""
        done = subprocess.run([AEP, "pool", "info", self.pool, "--json"], capture_output=True, text=True, timeout=60, check=True)
        return next(n["bytes"] for n in json.loads(done.stdout)["nodes"] if n["node"] == number)

    def test_memory_that_is_not_coherent_is_one_machine_s_at_a_time(self):
        self.words = ("--coherent", "no")
        self.one.up()
        self.three.up()  # of the same machine
        said = self.refused(self.other)
        self.assertRegex(said, "node [13] is of another machine, and the pool says that caches are not coherent")
        self.assertIn("take that one down first", said)
        self.pass_on(self.one.peer(), self.three.peer(), self.one.peers[-1].new(100))
        self.one.take_down()
        self.assertIn("node 3 is of another machine", self.refused(self.other))
        self.three.take_down()
        self.other.up()
        self.assertIn("node 2 is of another machine", self.refused(self.one))

    def test_who_goes_by_locks_alone_is_not_beside_those_whose_locks_are_not_seen(self):
        self.one.up()
        self.assertIn("node 1 is of another machine, whose locks are not seen here: --membership auto, manual or corosync",
                      self.refused(self.other, "--membership", "lock"))
        self.three.up("--membership", "lock")
        self.three.take_down()
        self.other.up()
        self.assertIn("node 2 is of another machine, whose locks", self.refused(self.three, "--membership", "lock"))

    def test_without_a_choice_a_machine_that_is_silent_is_waited_for(self):
        """Its locks are free here, as those of every other machine are."""
        self.one.up()
        self.assertEqual(self.one.data("status")["membership"]["engine"], "lock")
        self.other.up()
        a, b = self.one.peer("a"), self.other.peer("b")
        address = b.new(100)
        b.write(address, "theirs")
        self.pass_on(b, a, address)
        self.assertEqual(self.one.data("status")["membership"]["engine"], "manual")
        self.other.lose_power()
        held = self.bytes_of(2)
        self.assertGreater(held, 0)
        self.until("it is suspect", lambda: self.states(self.one)[2] == "suspect")
        for _ in range(5):
            self.one.run("recover")
        [other] = [n for n in json.loads(self.one.run("status", "--json").stdout)["nodes"] if n["node"] == 2]
        self.assertEqual((other["state"], self.bytes_of(2)), ("suspect", held))
        self.assertEqual(a.read(address), "theirs")
        subprocess.run([AEP, "node", "dead", "2", "--generation", str(other["generation"]), *self.one.where], check=True, timeout=60,
                       stdout=subprocess.DEVNULL)
        self.until("it is recovered", lambda: 2 not in self.states(self.one))
        self.assertEqual(a.read(address), "theirs")
        self.assertEqual(a.drop(address), "ok")


if __name__ == "__main__":
    main()
