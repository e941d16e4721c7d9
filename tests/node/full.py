#!/usr/bin/env python3
"""Tests of a context whose tmpfs is full: the dead are taken back without new memory, and theirs comes back.

Called by ctest: full.py TOOLS_DIR NODE_CLIENT [unittest arguments]. Leaves nothing behind.
"""

import json
import os
import subprocess
import unittest

from node_test import AEPD, NodeTest, OwnBpffs, main, own_mounts


class Full(NodeTest):
    @classmethod
    def setUpClass(cls):
        if why := own_mounts():
            raise unittest.SkipTest(why)

    def setUp(self):
        super().setUp()
        self.small = f"{self.home}/small"
        os.mkdir(self.small)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48M,mode=700", "tmpfs", self.small], check=True)
        self.where = ["--socket", self.socket, "--directory", f"{self.small}/context"]
        self.addCleanup(subprocess.run, ["umount", "--lazy", self.small], check=True)

    def tearDown(self):
        self.end_clients()
        self.aep("down", "--force")

    def daemon_pid(self):
        return self.data("status")["pid"]

    def begin(self, *words):
        done = self.run_tool(AEPD, "--daemonize", *self.where, "--pool-size", "64M", "--provider", self.provider, *words)
        if done.returncode != 0 and "no provider" in done.stderr:
            self.skipTest(done.stderr)
        self.assertEqual(done.returncode, 0, done.stderr)

    def fill(self):
        """To the last page."""
        with open(f"{self.small}/ballast", "ab", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError:
                pass
        self.assertEqual(self.room(), 0)

    def room(self):
        facts = os.statvfs(self.small)
        return facts.f_bfree * facts.f_bsize

    def kill_all(self):
        for client in self.clients:
            client.end()
        for _ in range(1000):
            if not self.data("clients"):
                return
            self.good("recover")
        self.fail(f"they are not taken back: {self.log()}")

    def die_with_all_full(self):
        """Clients who share and have memory, when there is no more of it."""
        for _ in range(4):
            client = self.client()
            client.ask("share")
            client.ask("fill 30 64")
        self.fill()
        self.kill_all()

    def test_recovery_makes_no_memory(self):
        self.begin("--decay-ms", "3600000")
        self.die_with_all_full()
        self.fill()  # what recovery has given back
        self.assertEqual(json.loads(self.aep("check", "--json").stdout), [], self.log())
        status = self.data("status")
        self.assertEqual(status["state"], "live")
        self.assertEqual(status["memory"]["held_bytes"], 0)
        self.assertGreater(status["memory"]["cached_bytes"], 0)
        self.assertIn("is down", self.good("down"))

    def test_memory_of_the_dead_comes_back(self):
        self.begin("--decay-ms", "1")
        self.die_with_all_full()
        while self.data("status")["memory"]["cached_bytes"] != 0:
            self.good("recover")
        self.assertGreater(self.room(), 256 << 10)  # the bitmaps and descriptors of what they had
        self.assertRegex(self.client().greeting, "^client ")


class FullWithEbpf(OwnBpffs, Full):
    provider = "ebpf"


class FullWithRollback(Full):
    provider = "rollback"

    def test_words_that_lead_where_no_memory_is(self):
        """A client says that it has something pinned whose record nobody ever made: it dies, and nobody looks there."""
        self.begin("--node", "1", "--pool", f"{self.small}/pool")
        client = self.client()
        self.assertRegex(client.greeting, "^client ")
        self.assertEqual(client.ask("share"), "0")
        daemon = self.daemon_pid()
        self.assertEqual(client.ask("pins 3000000"), "0")
        self.fill()
        self.kill_all()
        status = self.data("status")
        self.assertEqual((status["pid"], status["state"], status["recovery"]["undone"]), (daemon, "live", 1), self.log())
        self.assertNotIn("cut short", self.log())


if __name__ == "__main__":
    main()
