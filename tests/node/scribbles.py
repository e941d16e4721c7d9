#!/usr/bin/env python3
"""Tests of what operators see of a context in which a client writes what it likes: an answer, in time, and no end of the daemon.

Called by ctest: scribbles.py TOOLS_DIR NODE_CLIENT [unittest arguments]. Leaves nothing behind.
"""

import json
import time

from node_test import NodeTest, main

ROUNDS = 12
LONGEST_S = 30  # of one command, on a busy machine; no walk is longer than some seconds
LOOKS = (["status"], ["clients"], ["objects"], ["objects", "--most", "10000"], ["top", "--count", "1"], ["check"])


class Scribbles(NodeTest):
    provider = "rollback"

    def look(self, seed):
        """All that there is to see; each says something, or what is wrong."""
        for command, *words in LOOKS:
            for form in ([], ["--json"]):
                with self.subTest(seed=seed, command=command, form=form):
                    begin = time.monotonic()
                    done = self.aep(command, *words, *form)
                    self.assertLess(time.monotonic() - begin, LONGEST_S)
                    self.assertIn(done.returncode, (0, 1, 3, 4, 5), done.stderr)
                    self.assertTrue(done.stderr == "" or done.stderr.startswith("aep: "), done.stderr)
                    self.assertNotEqual(done.stdout, "")
                    self.assertTrue(done.stdout.isascii())
                    if form:
                        json.loads(done.stdout)
        metrics = self.good("metrics")
        for line in metrics.splitlines():
            if not line.startswith("#"):
                float(line.rpartition(" ")[2])

    def test_what_a_client_scribbles(self):
        for seed in range(1, ROUNDS + 1):
            self.up()
            daemon = self.daemon_pid()
            liar, other = self.client(), self.client()
            for client in (liar, other):
                client.ask("fill 10 64")
                self.assertEqual(client.ask("share"), "0")
            self.look(0)
            self.assertEqual(liar.ask(f"scribbles {seed} {100 << seed % 8}"), "done")
            self.look(seed)
            for client in (liar, other):
                client.end()
            self.assertIn(self.aep("recover").returncode, (0, 1))
            self.look(seed)
            self.assertEqual(self.daemon_pid(), daemon)
            self.good("down", "--force")

    def test_sums_are_of_what_there_can_be(self):
        """Records that make no sense are counted as such, and in no sum."""
        self.up()
        client = self.client()
        self.assertEqual(client.ask("share"), "0")
        self.assertEqual(client.ask("pretends 5"), "done")
        told = self.data("objects")
        self.assertEqual((told["damaged_records"], told["all"], told["returned"]["objects"]), (5, {"objects": 0, "bytes": 0}, 0))
        self.assertEqual(told["largest"], [])
        self.assertIn("5 records make no sense", self.good("objects"))
        client.end()
        self.good("down", "--force")


if __name__ == "__main__":
    main()
