#!/usr/bin/env python3
"""Tests of nodes that share a pool on each file system that a pool may lie on, tmpfs being the others': hugetlbfs, ext4, xfs. Made, looked
at, used, grown, removed.

Called by ctest: file_systems.py TOOLS_DIR PEER [unittest arguments]. Needs root, to mount, and huge pages that the system can give, or a
loop device. Leaves nothing behind: mounts end with the process, the number of huge pages is restored. One process: tests/unit/pool_root.cpp.
"""

import fcntl
import json
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "node"))

from node_test import AEP, main, mount, mount_on_loop, own_mounts  # noqa: E402
from nodes_test import NodesTest  # noqa: E402

MIB = 1 << 20
PAGES = 64
OF_SYSTEM = "/sys/kernel/mm/hugepages/hugepages-2048kB"


class OnFileSystem:
    provider = "rollback"
    memory = "file"
    persistence = "persistent"

    def make_pool(self):
        self.folder = f"{self.home}/folder"
        os.mkdir(self.folder)
        if why := self.mount():
            raise unittest.SkipTest(why)
        self.addCleanup(subprocess.run, ["umount", "-l", self.folder], check=True)
        self.pool = f"{self.folder}/pool"
        self.tool("create", self.pool, "--size", "64M", "--room", "128M")

    def tool(self, *words, code=0):
        done = subprocess.run([AEP, "pool", *words], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def facts(self):
        return json.loads(self.tool("info", self.pool, "--json"))

    def held(self):
        return os.stat(self.pool).st_blocks * 512

    def test_made_used_grown_and_removed(self):
        facts = self.facts()
        self.assertEqual((facts["memory"], facts["persistence"], facts["coherent"]), (self.memory, self.persistence, True))
        self.assertEqual(os.stat(self.pool).st_mode & 0o777, 0o600)
        one, two = self.nodes
        self.assertFalse(one.data("status")["pool"]["written_back"])
        a, b = one.peer("a"), two.peer("b")
        for size in (1, 5000, 5 * MIB):
            address = a.new(size)
            text = "w" * min(size - 1, 20)
            a.write(address, text)
            self.pass_on(a, b, address)
            self.assertEqual(b.read(address), text)
            self.assertEqual((a.drop(address), b.drop(address)), ("ok", "ok"))
        kept = a.new(100)
        a.write(kept, "kept")
        self.pass_on(a, b, kept)
        self.assertEqual(a.churn(b.id, 3), "going")
        one.lose_power()
        self.until("it is recovered", lambda: len(two.data("status")["nodes"]) == 1)
        self.assertEqual(b.read(kept), "kept")
        self.assertEqual(b.drop(kept), "ok")
        one.up()
        self.tool("grow", self.pool, "--size", "128M")
        self.until("it has said so", lambda: "has grown by 64 MiB" in two.log())
        self.assertIn("nodes use it", self.tool("destroy", self.pool, code=1))
        self.expect_nothing_left()
        for node in self.nodes:
            node.take_down()
        self.tool("destroy", self.pool)
        self.assertFalse(os.path.exists(self.pool))

    def test_what_is_given_back_is_the_file_system_s_again(self):
        before = self.held()
        peer = self.nodes[0].peer()
        address = peer.new(20 * MIB)
        peer.fill(address, 20 * MIB, 65)
        os.sync()  # a disk's blocks are found when they are written
        self.assertGreaterEqual(self.held(), before + 20 * MIB)
        peer.end()
        self.expect_nothing_left()
        self.assertLess(self.held(), before + 20 * MIB)


class HugePages(OnFileSystem, NodesTest):
    memory = "huge pages"
    persistence = "volatile"

    @classmethod
    def setUpClass(cls):
        """One test at a time has huge pages, as in pool_root.cpp."""
        if why := own_mounts():
            raise unittest.SkipTest(why)
        lock = open(f"{OF_SYSTEM}/nr_hugepages", encoding="ascii")  # pylint: disable=consider-using-with
        cls.addClassCleanup(lock.close)
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = cls.count_of("nr_hugepages")
        cls.addClassCleanup(cls.set_pages, before)
        cls.set_pages(before + max(0, PAGES - cls.count_of("free_hugepages")))
        if cls.count_of("free_hugepages") < PAGES:
            raise unittest.SkipTest(f"the system has no {PAGES} huge pages to give")

    @staticmethod
    def count_of(name):
        with open(f"{OF_SYSTEM}/{name}", encoding="ascii") as file:
            return int(file.read())

    @staticmethod
    def set_pages(count):
        with open(f"{OF_SYSTEM}/nr_hugepages", "w", encoding="ascii") as file:
            file.write(str(count))

    def mount(self):
        return mount("-t", "hugetlbfs", "-o", "pagesize=2M,mode=0700", "none", self.folder)


class OnDisk(OnFileSystem):
    @classmethod
    def setUpClass(cls):
        if why := own_mounts():
            raise unittest.SkipTest(why)

    def mount(self):
        return mount_on_loop(self.kind, f"{self.home}/disk", 400 * MIB, self.folder)


class Ext4(OnDisk, NodesTest):
    kind = "ext4"


class Xfs(OnDisk, NodesTest):
    kind = "xfs"


if __name__ == "__main__":
    main()
