#!/usr/bin/env python3
"""Tests of nodes that are silent: suspect, waited for, declared dead by whoever has cut them off.

Called by ctest: suspects.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "node"))

from node_test import AEP, main  # noqa: E402
from nodes_test import NodesTest  # noqa: E402


class Suspects(NodesTest):
    """Nodes that are judged as other machines are: the locks of this system count for nothing."""

    words = ("--membership", "manual", "--lease-ms", "1500")  # long enough for daemons of busy machines
    count = 3

    def freeze(self, node, number):
        os.kill(node.daemon_pid(), number)
        for peer in node.peers:
            peer.process.send_signal(number)

    def tearDown(self):
        for node in self.nodes:
            if node.is_up():
                self.freeze(node, signal.SIGCONT)
        super().tearDown()

    def node_of(self, seer, number):
        """What `seer` says of a node; None: nothing. Its exit status, too."""
        done = seer.run("status", "--json")
        self.assertIn(done.returncode, (0, 5), done.stderr)
        found = [n for n in json.loads(done.stdout)["nodes"] if n["node"] == number]
        return (found[0] if found else None), done.returncode

    def until_suspect(self, seer, number):
        deadline = time.monotonic() + 30
        while (node := self.node_of(seer, number))[0]["state"] != "suspect":
            self.assertLess(time.monotonic(), deadline)
        self.assertEqual(node[1], 5)
        return node[0]["generation"]

    def declare_dead(self, seer, number, generation):
        return subprocess.run([AEP, "node", "dead", str(number), "--generation", str(generation), *seer.where],
                              capture_output=True, text=True, timeout=60, check=False)

    def test_a_suspect_that_comes_back_goes_on_as_if_nothing_had_been(self):
        one, two, three = self.nodes
        a, b = one.peer("a"), two.peer("b")
        address = a.new(64)
        a.write(address, "kept")
        self.pass_on(a, b, address)
        self.assertEqual(b.send(a.id, address), "ok")
        self.freeze(one, signal.SIGSTOP)
        generation = self.until_suspect(two, 1)
        # Shown everywhere, and waited for however long it is silent.
        for _ in range(3):
            two.good("recover")
        self.assertEqual(self.node_of(two, 1)[0]["generation"], generation)
        said = two.run("status").stdout
        self.assertRegex(said, r"node +1 \(.*\): suspect, generation 1, silent for")
        self.assertIn("judged by manual; a suspect is waited for", said)
        self.assertIn(f"aep node dead 1 --generation {generation}", two.log())
        self.assertIn("suspect: it gives no sign of life", two.run("check").stdout)
        self.assertRegex(two.run("doctor").stdout, r"weak +node 1 +suspect")
        self.assertRegex(two.run("metrics").stdout, r'aep_node_state\{[^}]*node="1"[^}]*state="suspect"\} 1')
        self.assertIn(": suspect, generation", two.run("top", "--count", "1").stdout)
        self.assertEqual(b.lookup("a"), a.id)
        self.assertEqual(b.send(a.id, address), "ok")
        self.freeze(one, signal.SIGCONT)
        self.until("one lives", lambda: self.node_of(two, 1)[0]["state"] == "live")
        self.assertEqual(self.node_of(two, 1)[1], 0)
        for _ in range(2):
            self.assertEqual(a.recv(b.id, 2000).split()[0], address)
        self.pass_on(a, b, a.new(64))
        self.expect_sound()
        self.expect_nothing_left()

    def test_who_is_cut_off_and_is_not_shares_no_more(self):
        one, two, three = self.nodes
        a, b = one.peer("a"), two.peer("b")
        address, other = a.new(64), a.new(64)
        a.write(address, "kept")
        self.pass_on(a, b, address)
        self.freeze(one, signal.SIGSTOP)
        generation = self.until_suspect(two, 1)
        done = self.declare_dead(two, 1, generation)
        self.assertEqual((done.returncode, done.stdout), (0, "node 1 is recovered\n"), done.stderr)
        self.assertEqual(self.node_of(two, 1), (None, 0))
        self.assertEqual(b.lookup("a"), "ENOENT")
        self.assertEqual(b.send(a.id, address), "ESRCH")
        self.freeze(one, signal.SIGCONT)
        self.assertEqual(a.send(b.id, other), "ESTALE")
        self.assertEqual(a.recv(0, 0), "ESTALE")
        self.assertEqual(b.read(address), "kept")
        self.assertEqual(b.recv(0, 0), "EAGAIN")
        one.run("recover")
        status = one.run("status", "--json")
        self.assertEqual((json.loads(status.stdout)["state"], status.returncode), ("fenced", 4))
        self.expect_sound(two, three)
        check = one.run("check")
        self.assertEqual(check.returncode, 1)
        self.assertIn("fenced: other nodes have declared this one dead", check.stdout)
        # Its memory is not given to anybody while it may still write to it.
        self.assertEqual(a.write(other, "mine"), "mine")
        one.take_down()
        one.up()
        self.pass_on(one.peer("a"), b, one.peers[-1].new(64))
        self.expect_nothing_left()

    def test_only_a_suspect_of_that_generation_is_declared_dead(self):
        one, two, three = self.nodes
        one.lose_power()
        generation = self.until_suspect(two, 1)
        for words, why in [((3, 1), "node 3 has given a sign of life"), ((2, 1), "node 2 is this one"),
                           ((1, generation + 1), f"is in generation {generation} now, not {generation + 1}"),
                           ((4, 1), "node 4 is nobody"), ((99, 1), "the pool has nodes 1 to 8, not 99")]:
            done = self.declare_dead(two, *words)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn(why, done.stderr)
        self.assertEqual(self.node_of(two, 1)[0]["state"], "suspect")
        # Who was that node here is known to be dead by his own locks.
        one.up()
        self.assertEqual(self.node_of(two, 1)[0]["generation"], generation + 1)
        self.pass_on(one.peer(), two.peer(), one.peers[-1].new(64))
        self.expect_nothing_left()


if __name__ == "__main__":
    main()
