#!/usr/bin/env python3
"""Tests of pools in files that are mapped past the page cache (fsdax, famfs, virtiofs): memory that may be other machines', too.

Called by ctest: dax_files.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind. told_dax says of files on tmpfs that they are such;
a real file system on persistent memory: tests/vm/cxl_test.py.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "node"))

from node_test import AEP, LIBRARY, end_daemons_in, main, mount_on_loop, own_mounts  # noqa: E402
from nodes_test import Node, NodesTest  # noqa: E402
from peer import PEER  # noqa: E402

MIB = 1 << 20
SIZE = 64 * MIB
COHERENT = ("--coherent", "yes")


class OfMachines(Node):
    """A context on a pool that is there."""

    def up(self, *words):
        return self.good("up", "--pool", self.test.pool, "--provider", self.test.provider, "--node", str(self.number), *words)


class DaxFiles(NodesTest):
    provider = "rollback"

    def setUp(self):
        self.home = tempfile.mkdtemp(prefix="aep-test-", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.home)
        self.addCleanup(end_daemons_in, self, self.home)
        self.free = f"{self.home}/dax"  # a file system of the usual kind
        self.fixed = f"{self.free}/fixed"  # and one whose files are made by its own tool, as they will be
        os.makedirs(self.fixed)
        self.pool = f"{self.fixed}/pool"
        self.nodes = []

    def up(self, *numbers):
        self.nodes = [OfMachines(self, n) for n in numbers]
        for node in self.nodes:
            node.up()
        return self.nodes

    def tool(self, *words, code=0):
        done = subprocess.run([AEP, "pool", *words], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stderr if code else done.stdout

    def facts(self, path=None):
        return json.loads(self.tool("info", path or self.pool, "--json"))

    def write(self, begin, end, path=None):
        """Zeros, as whoever makes such a file does."""
        with open(path or self.pool, "ab", opener=lambda p, flags: os.open(p, flags & ~os.O_APPEND, 0o600)) as file:
            for at in range(begin, end, MIB):
                os.pwrite(file.fileno(), bytes(MIB), at)

    def poke(self, at, data):
        with open(self.pool, "r+b") as file:
            file.seek(at)
            file.write(data)

    def held(self, path=None):
        return os.stat(path or self.pool).st_blocks * 512

    def test_one_that_is_made_has_all_its_memory_and_says_of_its_caches(self):
        path = f"{self.free}/made"
        self.assertIn("say --coherent yes", self.tool("create", path, "--size", "64M", code=2))
        self.assertEqual(os.listdir(self.free), ["fixed"])
        self.tool("create", path, "--size", "64M", "--room", "96M", *COHERENT)
        facts = self.facts(path)
        self.assertEqual((facts["memory"], facts["persistence"], facts["coherent"]), ("device", "volatile", True))
        self.assertEqual((facts["bytes"], facts["present_bytes"], self.held(path)), (SIZE, SIZE, SIZE))
        self.assertIn("is gone: its memory is cleared", self.tool("destroy", path))
        with open(path, "rb") as file:
            self.assertEqual(file.read().count(0), SIZE)
        self.tool("create", path, *COHERENT)  # as one that was there

    def test_one_that_is_there_must_be_whole_empty_and_its_user_s(self):
        def refused(*words):
            return self.tool("create", self.pool, *COHERENT, *words, code=2)
        self.write(0, 4 * MIB)
        self.assertIn("the file has 4 MiB, expected 8 MiB or more", refused())
        os.truncate(self.pool, SIZE)
        self.assertIn(f"the file has a hole at offset {4 * MIB}, and no memory may be left there", refused())
        self.write(4 * MIB, SIZE)
        self.assertIn("the file has 64 MiB, expected 128 MiB or more", refused("--size", "128M"))
        for at in (0, SIZE - 8):
            self.poke(at, b"photo")
            self.assertIn(f"the first of its data is at offset {at}", refused())
            self.poke(at, bytes(5))
        self.assertIn("say --coherent yes", self.tool("create", self.pool, code=2))
        os.chmod(self.pool, 0o644)
        self.assertIn("mode is 0644, expected 0600", refused())
        os.chmod(self.pool, 0o600)
        self.tool("create", self.pool, *COHERENT)
        self.tool("create", self.pool, *COHERENT)  # who comes later finds it
        self.assertIn("it is one already, with other sizes", self.tool("create", self.pool, "--nodes", "16", *COHERENT, code=1))
        self.assertEqual((self.held(), os.stat(self.pool).st_size), (SIZE, SIZE))
        self.tool("destroy", self.pool)
        self.assertEqual(self.held(), SIZE)
        self.tool("create", self.pool, "--nodes", "16", *COHERENT)

    def test_memory_that_is_only_reserved_is_a_hole(self):
        """On a file system that writes down what has been written: a power cut would make zeros of all the rest."""
        if why := own_mounts() or mount_on_loop("ext4", f"{self.home}/disk", 200 * MIB, self.free):
            self.skipTest(why)
        self.addCleanup(subprocess.run, ["umount", "-l", self.free], check=True)
        reserved, made = f"{self.free}/reserved", f"{self.free}/made"
        with open(reserved, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, SIZE)
        os.chmod(reserved, 0o600)
        self.assertIn("the file has a hole at offset", self.tool("create", reserved, *COHERENT, code=2))
        self.write(0, SIZE, reserved)
        self.tool("create", reserved, *COHERENT)
        self.tool("create", made, "--size", "64M", *COHERENT)
        self.assertEqual(self.facts(made)["persistence"], "persistent")
        self.assertIn("all of its memory at once: ENOSPC", self.tool("create", f"{self.free}/more", "--size", "128M", *COHERENT, code=2))

    def test_processes_and_contexts_that_are_no_nodes_are_refused(self):
        """Their locks would be told to this machine alone."""
        self.write(0, SIZE)
        self.tool("create", self.pool, *COHERENT)
        done = subprocess.run(["/bin/sh", "-c", "echo $((1+2))"], capture_output=True, text=True, timeout=60, check=False,
                              env={**os.environ, "LD_PRELOAD": LIBRARY, "AEP_POOL": self.pool, "AEP_CONTEXT": "none"})
        self.assertEqual((done.returncode, done.stdout), (0, "3\n"))
        self.assertIn("is a DAX file, which other machines may use, too", done.stderr)
        node = OfMachines(self, 1)
        done = node.run("up", "--pool", self.pool)
        self.assertEqual(done.returncode, 1)
        self.assertIn("is a DAX file, which other machines may use, too", done.stderr)

    def test_nodes_share_it_as_they_do_a_device(self):
        self.write(0, SIZE)
        self.tool("create", self.pool, *COHERENT)
        three, one = self.up(3, 1)
        for node in (three, one):
            pool = node.data("status")["pool"]
            # Each has entries that are its own whatever this machine's locks say; lines reach the memory, where the processor can.
            self.assertEqual((pool["node"], pool["written_back"]), (node.number - 1, True))
        a, b = three.peer("a"), one.peer("b")
        address = a.new(5 * MIB)
        a.write(address, "written")
        self.pass_on(a, b, address)
        self.assertEqual(b.read(address), "written")
        b.write(address, "changed")
        self.assertEqual(a.read(address), "changed")
        self.assertEqual(a.churn(b.id, 7), "going")
        three.lose_power()
        self.until("it is recovered", lambda: len(one.data("status")["nodes"]) == 1)
        self.assertEqual(b.read(address), "changed")
        self.assertEqual(b.drop(address), "ok")
        three.up()
        self.pass_on(three.peer(), one.peer(), three.peers[-1].new(100))
        self.expect_nothing_left()
        # Its memory is its own: nothing was ever given back to the file system.
        self.assertEqual(self.held(), SIZE)

    def test_children_get_a_copy(self):
        self.write(0, SIZE)
        self.tool("create", self.pool, *COHERENT)
        [one] = self.up(1)
        program = """if True:
            import os
            kept = [bytes([n % 251]) * 5000 for n in range(500)]
            if os.fork() == 0:
                kept[7] = b"child's"
                os._exit(0 if len(kept) == 500 else 1)
            assert os.wait()[1] == 0
            assert all(k == bytes([n % 251]) * 5000 for n, k in enumerate(kept))
            print("forked")
        """
        done = subprocess.run([AEP, "run", *one.where, "--library", LIBRARY, "--require", "--", "/usr/bin/python3", "-c", program],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("forked\n", "", 0))
        self.expect_nothing_left()

    def test_it_grows_into_memory_that_is_there(self):
        self.write(0, SIZE)
        self.tool("create", self.pool, "--room", "128M", *COHERENT)
        [one] = self.up(1)
        def grow(code):
            return self.tool("grow", self.pool, "--size", "96M", code=code)
        self.assertIn("the file has 64 MiB of memory, expected 96 MiB or more", grow(2))
        os.truncate(self.pool, 96 * MIB)
        self.assertIn("the file has 64 MiB of memory, expected 96 MiB or more", grow(2))
        self.write(SIZE, 96 * MIB)
        self.poke(80 * MIB, b"photo")
        self.assertIn(f"the first of its data is at offset {80 * MIB}", grow(2))
        self.poke(80 * MIB, bytes(5))
        grow(0)
        self.assertEqual(self.facts()["bytes"], 96 * MIB)
        self.until("it has said so", lambda: "has grown by 32 MiB" in one.log())
        peer = one.peer()
        self.assertNotEqual(peer.new(60 * MIB), "ENOMEM")
        self.expect_nothing_left()

    def test_a_pool_that_is_remembered_is_written_back_to_as_before(self):
        self.write(0, SIZE)
        self.tool("create", self.pool, *COHERENT)
        [one] = self.up(1)
        one.end_daemon()
        os.unlink(f"{one.home}/context/context")
        one.good("up", "--provider", self.provider, "--node", "1")
        self.assertTrue(one.data("status")["pool"]["written_back"])


if __name__ == "__main__":
    if "AEP_TEST_DAX" not in os.environ:
        told = f"{os.path.dirname(PEER)}/told_dax"
        os.execve(told, [told, *sys.orig_argv], {**os.environ, "AEP_TEST_DAX": "1"})
    main()
