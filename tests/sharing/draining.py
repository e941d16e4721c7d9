#!/usr/bin/env python3
"""Tests of nodes that leave the pool while others hold what is theirs (aep node drain).

Called by ctest: draining.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

import json
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "node"))

from node_test import AEP, main  # noqa: E402
from nodes_test import NodesTest  # noqa: E402


class Draining(NodesTest):
    provider = "rollback"

    def drain(self, asked, number, *words):
        return subprocess.run([AEP, "node", "drain", str(number), *asked.where, *words], capture_output=True,
                              text=True, timeout=60, check=False)

    def expect(self, status, done, *said):
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        for text in said:
            self.assertIn(text, done.stdout + done.stderr)

    def begin(self, asked, number, *words):
        return subprocess.Popen([AEP, "node", "drain", str(number), *asked.where, "--within", "50", "--json", *words],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def expect_drained(self, command, number):
        out, err = command.communicate(timeout=60)
        self.assertEqual(command.returncode, 0, out + err)
        self.assertEqual(json.loads(out), {"node": number, "drained": True})

    def shown(self, asked, number):
        return {node["node"]: node for node in asked.data("status")["nodes"]}.get(number)

    def given(self):
        """An object of node 2 that a client of node 1 holds, too."""
        one, two = (node.peer() for node in self.nodes)
        address = two.new(5000)
        two.write(address, "of-two")
        self.pass_on(two, one, address)
        return one, two, address

    def test_it_waits_for_its_programs_and_others_keep_what_they_have(self):
        east, west = self.nodes
        one, two, address = self.given()
        done = self.drain(east, 2, "--within", "0.3")  # asked from another node
        self.expect(1, done, "node 2 is not drained within 0.3 s: ", "--cancel")
        self.until("its daemon has said how far it is", lambda: self.shown(east, 2)["draining"]["clients"] is not None)
        self.expect(1, self.drain(east, 2, "--within", "0"), "node 2 is not drained within 0 s: 1 clients live")
        self.assertEqual(self.shown(east, 2)["draining"]["clients"], 1)
        self.assertIn("leaves: 1 clients", east.good("status"))
        # Its program goes on; no other one comes.
        self.assertEqual(two.send(one.id, two.new(100)), "ok")
        refused = subprocess.run([AEP, "run", *west.where, "--require", "--", "true"], capture_output=True, text=True,
                                 timeout=60, check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("is to leave the pool", refused.stderr)
        self.expect(0, self.drain(east, 2, "--cancel"), "node 2 stays")
        command = self.begin(east, 2)
        self.until("it is wished", lambda: self.shown(east, 2)["draining"] is not None)
        two.end()
        self.expect_drained(command, 2)
        self.assertFalse(os.path.exists(f"{west.home}/context"))
        # Handed over: at the next sweep of a node the memory is the pool's, until nobody holds it.
        self.until("its chunk is kept", lambda: east.data("status")["pool"]["kept_bytes"] > 0)
        self.assertEqual(one.read(address), "of-two")
        self.assertEqual(one.drop(address), "ok")
        self.expect_nothing_left(east)
        west.peers = []
        west.up()
        self.expect_nothing_left()

    def test_it_waits_for_its_objects_where_that_is_wished(self):
        east, west = self.nodes
        one, two, address = self.given()
        command = self.begin(west, 2, "--wait")
        two.end()
        self.until("only the object is left", lambda: self.shown(east, 2)["draining"] ==
                   {"clients": 0, "objects": 1, "waits": True})
        self.expect(1, self.drain(east, 2, "--wait", "--within", "0.1"), "other nodes hold 1 of its objects")
        self.assertEqual(one.read(address), "of-two")
        self.assertEqual(one.drop(address), "ok")
        self.expect_drained(command, 2)
        self.assertEqual(east.data("status")["pool"]["kept_bytes"], 0)
        self.expect_nothing_left(east)

    def test_it_may_stay_after_all(self):
        east, west = self.nodes
        two = west.peer()
        self.expect(1, self.drain(east, 2, "--within", "0"))
        self.expect(0, self.drain(east, 2, "--cancel"), "node 2 stays")
        self.assertIsNone(self.shown(east, 2)["draining"])
        two.end()
        west.peer()
        self.assertEqual(self.shown(east, 2)["state"], "live")

    def test_a_daemon_that_is_killed_goes_on_with_it(self):
        east, west = self.nodes
        random.seed(3)
        for _ in range(5):
            one, two, address = self.given()
            command = self.begin(east, 2)
            self.until("it is wished", lambda: self.shown(east, 2)["draining"] is not None)
            west.end_daemon()
            two.end()  # nobody is there to see it
            west.peers = []
            west.up()
            time.sleep(random.uniform(0, 0.05))  # it is in the middle of leaving, or has left, or not yet begun
            try:
                west.end_daemon()
            except (OSError, ValueError):
                pass  # it has ended by itself
            self.assertEqual(one.read(address), "of-two")
            if os.path.exists(f"{west.home}/context"):
                west.run("up", "--pool", self.pool, "--node", "2", "--provider", self.provider)
            self.expect_drained(command, 2)
            self.assertEqual(one.read(address), "of-two")
            one.end()
            east.peers = []
            if west.is_up():  # it had left before it was asked for again, and has come anew
                west.run("down", "--force")
            self.expect_nothing_left(east)
            west.run("down", "--force")
            west.up()
            self.assertIsNone(self.shown(east, 2)["draining"])  # that was wished of another life

    def test_what_cannot_be_drained_is_told(self):
        east, west = self.nodes
        self.expect(1, self.drain(east, 5), "node 5 is nobody")
        self.expect(1, self.drain(east, 99), "the pool has nodes 1 to 8")
        self.expect(2, self.drain(east, "two"))
        west.take_down()
        self.expect(1, self.drain(east, 2), "node 2 is nobody")
        self.expect(0, self.drain(east, 1), "node 1 is drained")
        self.assertFalse(os.path.exists(f"{east.home}/context"))


if __name__ == "__main__":
    main()
