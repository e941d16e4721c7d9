#!/usr/bin/env python3
"""Tests of daemons that end in every way while clients live.

Called by ctest: daemon.py TOOLS_DIR NODE_CLIENT [unittest arguments]. Leaves nothing behind.
"""

import os
import signal
import struct
import subprocess

from node_test import AEPD, POISONED, NodeTest, main


class Daemon(NodeTest):
    def test_the_second_says_so(self):
        self.up()
        done = self.run_tool(AEPD, *self.where, "--provider", "none")
        self.assertEqual(done.returncode, 3)
        self.assertIn(f"another daemon serves it already (pid {self.daemon_pid()})", done.stderr)

    def test_a_damaged_context_is_refused(self):
        self.up()
        self.end_daemon(signal.SIGTERM)
        with open(f"{self.home}/context/context", "r+b") as file:
            file.seek(8)
            file.write(struct.pack("<I", 99))
        done = self.aep("up", "--provider", "none")
        self.assertEqual(done.returncode, 1)
        self.assertIn("version is 0x63, expected 0x", done.stderr)
        self.assertIn(f"{self.home}/context/context", done.stderr)

    def test_clients_outlive_it(self):
        for number in [signal.SIGTERM, signal.SIGKILL]:
            self.up()
            living, dying = self.client(), self.client()
            living.ask("fill 10 64")
            dying.ask("fill 10 64")
            self.end_daemon(number)
            self.assertEqual(self.aep("status").returncode, 2)
            self.assertEqual(living.ask("fill 10 64"), str(10 * 1024))
            dying.end()
            self.assertIn("clients live", self.aep("down").stderr)
            self.up()
            self.good("recover")
            self.assertEqual([row["pid"] for row in self.data("clients")], [living.process.pid])
            self.assertEqual(self.data("check"), [])
            self.assertEqual(living.ask("fill 10 64"), str(10 * 1024))
            living.end()
            self.good("down")

    def test_leftovers_of_a_killed_one_are_removed(self):
        self.up()
        self.end_daemon(signal.SIGKILL)
        self.assertIn("its files are removed", self.good("down"))
        self.assertEqual(os.listdir(self.home), [])

    def test_a_killed_one_leaves_its_socket_to_the_next(self):
        self.up()
        self.end_daemon(signal.SIGKILL)
        self.assertTrue(os.path.exists(self.socket))
        self.assertIn("is up", self.up())

    def test_in_the_foreground(self):
        with subprocess.Popen([AEPD, *self.where, "--pool-size", "64M", "--provider", "none"], stderr=subprocess.PIPE,
                              text=True) as daemon:
            line = daemon.stderr.readline()
            while "context default made" not in line:
                line = daemon.stderr.readline()
            self.assertEqual(self.data("status")["pid"], daemon.pid)
            daemon.send_signal(signal.SIGINT)
            self.assertEqual(daemon.wait(), 0)
        self.assertTrue(os.path.exists(f"{self.home}/context/context"))
        self.assertFalse(os.path.exists(self.socket))

    def test_a_pool_elsewhere(self):
        self.up("--pool", f"{self.home}/pool")
        client = self.client()
        client.ask("fill 100 64")
        client.end()
        self.good("down")
        self.assertEqual(os.listdir(self.home), ["pool"])

    def test_who_waits_for_what_a_dead_one_holds_goes_on(self):
        self.up()
        client, waiting = self.client(), self.client()
        self.assertEqual(client.ask("stuck"), "going")
        waiting.begin("share")
        for each in [client, waiting]:
            each.until_it_waits()
        client.end()
        self.good("recover")
        self.assertIn("poisoned", self.aep("status").stdout)
        self.assertEqual(int(waiting.answer()), POISONED)


if __name__ == "__main__":
    main()
