#!/usr/bin/env python3
"""Tests of pools that grow while daemons and clients of several nodes use them (aep pool grow).

Called by ctest: growing.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind. One process: tests/unit/pool_grow.cpp.
"""

import json
import os
import random
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "node"))

from node_test import AEP, main  # noqa: E402
from nodes_test import NodesTest  # noqa: E402

MIB = 1 << 20
LARGE = 8 * MIB


class Growing(NodesTest):
    provider = "rollback"

    def make_pool(self):
        self.pool_tool("create", self.pool, "--size", "64M", "--room", "512M")

    def pool_tool(self, *words, code=0):
        done = subprocess.run([AEP, "pool", *words], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def facts(self):
        return json.loads(self.pool_tool("info", self.pool, "--json").stdout)

    def fill(self, peer):
        """All that can be had, in large blocks."""
        blocks = []
        while (address := peer.new(LARGE)) != "ENOMEM":
            peer.write(address, f"block-{len(blocks)}")
            blocks.append(address)
        return blocks

    def test_clients_that_have_all_of_it_find_more_on_every_node(self):
        a, b = self.nodes[0].peer(), self.nodes[1].peer()
        mine = self.fill(a)
        self.assertEqual(self.fill(b), [])
        before = self.facts()
        grown = json.loads(self.pool_tool("grow", self.pool, "--size", "+64M", "--json").stdout)
        self.assertEqual(grown["bytes"], before["bytes"] + 64 * MIB)
        self.assertEqual(os.stat(self.pool).st_size, grown["bytes"])
        # Nobody was told, nobody joined anew: b first, then a.
        theirs = self.fill(b)
        self.assertGreaterEqual(len(theirs), 4)
        # What lies in the new part goes from node to node as anything else.
        for n, block in enumerate(theirs):
            self.pass_on(b, a, block)
            self.assertEqual(a.read(block), f"block-{n}")
        for n, block in enumerate(mine):
            self.assertEqual(a.read(block), f"block-{n}")
        for node in self.nodes:
            self.until("it has said so", lambda node=node: "has grown by 64 MiB" in node.log())
            pool = node.data("status")["pool"]
            self.assertEqual(pool["room_bytes"] - pool["bytes"], grown["room_bytes"] - grown["bytes"])
        self.assertEqual(self.facts()["bytes"], grown["bytes"])
        self.expect_sound()
        self.expect_nothing_left()

    def test_whoever_dies_while_it_grows_leaves_the_old_size_or_the_new_one(self):
        a, b = self.nodes[0].peer(), self.nodes[1].peer()
        self.assertEqual(a.churn(b.id, 7), "going")
        random.seed(7)
        size = self.facts()["bytes"]
        died = 0
        for _ in range(30):
            new = size + 4 * MIB
            with subprocess.Popen([AEP, "pool", "grow", self.pool, "--size", str(new)],
                                  stdout=subprocess.DEVNULL) as grower:
                try:
                    grower.wait(random.uniform(0, 0.03))
                except subprocess.TimeoutExpired:
                    grower.kill()
                    died += 1
            now = self.facts()["bytes"]
            self.assertIn(now, (size, new))
            size = now
        self.assertGreater(died, 0)
        self.pool_tool("grow", self.pool, "--size", str(size + 4 * MIB))  # nobody holds anything that is in the way
        self.assertEqual(self.facts()["bytes"], size + 4 * MIB)
        a.end()
        b.end()
        self.expect_nothing_left()

    def test_who_comes_later_finds_it_as_large_as_it_is(self):
        self.pool_tool("grow", self.pool, "--size", "128M")
        for node in self.nodes:
            self.assertEqual(node.data("status")["pool"]["bytes"], self.facts()["chunk_bytes"])
        two = self.nodes[1]
        two.take_down()
        two.up()
        peer = two.peer()
        self.assertGreaterEqual(len(self.fill(peer)), 12)
        two.end_daemon()  # a daemon that goes on with its context
        two.up()
        self.expect_nothing_left()

    def test_what_cannot_be_is_told(self):
        for words, said in [(["--size", "1T"], "it was made with room for"), (["--size", "8M"], "it only grows"),
                            (["--size", "+1T"], "it was made with room for")]:
            self.assertIn(said, self.pool_tool("grow", self.pool, *words, code=2).stderr)
        self.pool_tool("grow", self.pool, "--size", "much", code=2)
        self.pool_tool("grow", self.pool, code=2)
        self.assertIn("ENOENT", self.pool_tool("grow", f"{self.pool}.none", "--size", "1G", code=1).stderr)
        self.assertEqual(self.facts()["bytes"], 64 * MIB)


if __name__ == "__main__":
    main()
