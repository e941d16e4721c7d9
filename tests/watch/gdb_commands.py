#!/usr/bin/env python3
"""Tests of gdb's commands, on a process and on a core.

Called by ctest: gdb_commands.py LIBRARY TOOLS_DIR PROGRAM [unittest arguments]. Leaves nothing behind.
"""

import os
import re
import subprocess

from watch_test import LIMIT, PROGRAM, TOOLS, WatchTest, main


class Gdb(WatchTest):
    def gdb(self, *words):
        """What commands say; errors, too."""
        subject, commands = words[0], words[1:]
        told = subprocess.run(["gdb", "-nx", "-q", "-batch", "-ex", f"source {TOOLS}/gdb/aep.py",
                               *(part for one in commands for part in ("-ex", one)), *subject],
                              capture_output=True, text=True, timeout=LIMIT, cwd=self.folder,
                              env={**os.environ, "HOME": self.folder, "DEBUGINFOD_URLS": ""})
        return told.stdout + told.stderr

    def holder(self, **settings):
        """A process that has a small block, a large one and a freed one, and their addresses."""
        process = self.start_watched("hold", **settings)
        addresses = process.stdout.readline().split()
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process, addresses

    def expect_blocks(self, text, small, large, freed):
        self.assertIn(f"{small}: 0 bytes into a live block of 48 bytes at {small}", text)
        self.assertIn(f"{int(small, 16) + 5:#x}: 5 bytes into a live block of 48 bytes at {small}", text)
        self.assertIn(f"{large}: 0 bytes into a live large object of 327680 bytes at {large}", text)
        self.assertIn(f"{int(large, 16) + 200_000:#x}: 200000 bytes into a live large object", text)
        self.assertIn(f"{freed}: 0 bytes into a free block of 704 bytes at {freed}", text)
        self.assertIn("0x10: not in the heap's window", text)
        self.assertRegex(text, r"domain \d+ at 0x\w+: \d+ chunks")
        row = re.search(r"^ +48 +\d+ +(\d+) +\d+$", text, re.M)
        self.assertGreaterEqual(int(row.group(1)), 1)
        self.assertIn("large objects: 1 (320 KiB)", text)

    def commands(self, small, large, freed):
        return (["aep heap"] + [f"aep block {a}" for a in (small, f"{small}+5", large, f"{large}+200000", freed, "16")])

    def test_process(self):
        process, addresses = self.holder()
        text = self.gdb(["-p", str(process.pid)], *self.commands(*addresses), "aep slots", "aep sharing", "aep block")
        self.expect_blocks(text, *addresses)
        self.assertEqual(text.count("the process is in no context"), 2)
        self.assertIn("aep block ADDRESS: of what?", text)

    def test_core(self):
        process, addresses = self.holder()
        self.gdb(["-p", str(process.pid)], f"generate-core-file {self.folder}/core")
        process.kill()
        process.wait()
        self.expect_blocks(self.gdb([PROGRAM, f"{self.folder}/core"], *self.commands(*addresses)), *addresses)

    def test_without_the_library(self):
        self.assertIn("no libaepmalloc.so is loaded here", self.gdb(["/bin/true"], "aep heap"))

    def test_context(self):
        process, addresses = self.holder(**self.context("gdb"))
        text = self.gdb(["-p", str(process.pid)], *self.commands(*addresses), "aep slots", "aep sharing")
        self.expect_blocks(text, *addresses)
        self.assertIn("context gdb\n", text)
        self.assertRegex(text, rf"client 1: live, pid {process.pid}, ")
        self.assertRegex(text, rf"slot \d+: client 1, thread {process.pid}, \d+ operations so far; outside")
        self.assertIn("0 objects, 0 groups among them, 0 of dead owners; 0 holders; 0 sent, 0 received", text)


if __name__ == "__main__":
    main()
