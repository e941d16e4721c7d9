#!/usr/bin/env python3
"""Tests of where contexts and pools lie: places that somebody else made, pools that are not there, devices that are none.

Called by ctest: places.py TOOLS_DIR NODE_CLIENT [unittest arguments]. Leaves nothing behind.
"""

import os
import shutil
import socket
import subprocess
import unittest

from node_test import AEP, AEPD, LIBRARY, NodeTest, main

STRANGER = 65534
NEEDS_ROOT = unittest.skipUnless(os.geteuid() == 0, "only root can be other users")


class Squatted(NodeTest):
    """A user whose places somebody else has made first."""

    def setUp(self):
        super().setUp()
        os.chmod(self.home, 0o755)
        self.user = 1_000_000 + os.getpid()
        # Its own copies: that user need not be able to read our build.
        for program in [AEP, AEPD, LIBRARY]:
            shutil.copy(program, self.home)
        self.env = {"PATH": os.environ["PATH"]}
        self.base = f"/tmp/aep-{self.user}"
        self.context = f"/dev/shm/aep-{self.user}-default"
        for place in [self.base, self.context]:
            self.addCleanup(shutil.rmtree, place, True)

    def as_user(self, *words, **env):
        return self.run_tool(*words, user=self.user, group=self.user, extra_groups=[], cwd="/", env=self.env | env)

    def squat(self, path, mode):
        os.mkdir(path)
        os.chmod(path, mode)
        os.chown(path, STRANGER, STRANGER)

    def listen(self, path):
        """Where nobody answers; whether anybody has come is seen later."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self.addCleanup(listening.close)
        listening.bind(path)
        os.chmod(path, 0o777)
        os.chown(path, STRANGER, STRANGER)
        listening.listen(5)
        return listening

    def expect_nobody_came(self, listening):
        with self.assertRaises(BlockingIOError):
            listening.accept()

    def expect_private(self, done, about):
        """A program that the library serves all the same."""
        self.assertEqual((done.returncode, done.stdout), (0, "3\n"), done.stderr)
        self.assertIn(about, done.stderr)
        self.assertIn("private mode", done.stderr)

    def program(self, **env):
        # Its heap is what joins: a shell's arithmetic allocates, too.
        return self.as_user("/bin/sh", "-c", "echo $((1+2))", LD_PRELOAD=f"{self.home}/libaepmalloc.so", **env)

    @NEEDS_ROOT
    def test_the_directory_of_all_contexts(self):
        for mode in [0o755, 0o700]:
            self.squat(self.base, mode)
            os.mkdir(f"{self.base}/default")
            listening = self.listen(f"{self.base}/default/socket")
            about = f"{self.base} belongs to user {STRANGER}, expected {self.user} or root"
            self.expect_private(self.program(), about)
            done = self.as_user(f"{self.home}/aep", "status")
            self.assertEqual(done.returncode, 1)
            self.assertIn(about, done.stderr)
            done = self.as_user(f"{self.home}/aep", "up", "--provider", "none")
            self.assertEqual(done.returncode, 1)
            self.assertIn(about, done.stderr)
            done = self.as_user(f"{self.home}/aepd", "--provider", "none", "--image", "/nowhere")
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"{self.base}: belongs to user {STRANGER}", done.stderr)
            self.expect_nobody_came(listening)
            shutil.rmtree(self.base)

    @NEEDS_ROOT
    def test_a_socket(self):
        path = f"{self.home}/theirs"
        listening = self.listen(path)
        about = f"{path} belongs to user {STRANGER}, expected"
        self.expect_private(self.program(AEP_SOCKET=path), about)
        done = self.as_user(f"{self.home}/aep", "status", "--socket", path)
        self.assertEqual(done.returncode, 1)
        self.assertIn(about, done.stderr)
        self.expect_nobody_came(listening)

    @NEEDS_ROOT
    def test_a_daemon(self):
        """The socket is the user's own, and who listens there is not."""
        path = f"{self.home}/theirs"
        os.chmod(self.home, 0o777)
        script = (f"import os, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind({path!r});"
                  f"os.chmod({path!r}, 0o777); s.listen(5); print('on', flush=True); input()")
        with subprocess.Popen(["/usr/bin/python3", "-c", script], user=STRANGER, cwd="/", stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as stranger:
            stranger.stdout.readline()
            os.chown(path, self.user, self.user)
            about = f"its daemon (pid {stranger.pid}) belongs to user {STRANGER}, expected {self.user} or root"
            self.expect_private(self.program(AEP_SOCKET=path), about)
            done = self.as_user(f"{self.home}/aep", "down", "--force", "--socket", path)
            self.assertEqual(done.returncode, 1)
            self.assertIn(about, done.stderr)
            stranger.kill()

    @NEEDS_ROOT
    def test_the_directory_of_a_context(self):
        place = self.context
        self.squat(place, 0o777)
        about = f"{place}: belongs to user {STRANGER}, expected {self.user}"
        for words in [["aep", "up"], ["aep", "run", "--library", f"{self.home}/libaepmalloc.so", "--", "true"], ["aep", "down"],
                      ["aepd", "--provider", "none"]]:
            done = self.as_user(f"{self.home}/{words[0]}", *words[1:])
            self.assertEqual(done.returncode, 1, words)
            self.assertIn(about, done.stderr, words)


class Pools(NodeTest):
    def refused(self, *words):
        done = self.aep("up", "--provider", "none", *words)
        self.assertNotEqual(done.returncode, 0, words)
        self.assertFalse(os.path.exists(f"{self.home}/context/context"))
        return done.stderr

    def test_one_that_is_not_there(self):
        pool = f"{self.home}/pool"
        self.assertIn(f"pool {pool}: is not there", self.refused("--pool", pool))
        self.assertFalse(os.path.exists(pool))
        self.good("up", "--provider", "none", "--pool", pool, "--pool-size", "64M")
        self.good("down")
        self.good("up", "--provider", "none", "--pool", pool)

    def test_one_that_is_gone(self):
        pool = f"{self.home}/pool"
        self.good("up", "--provider", "none", "--pool", pool, "--pool-size", "64M")
        self.end_daemon(9)
        os.unlink(pool)
        done = self.aep("up", "--provider", "none")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"pool {pool}: is not there", done.stderr)
        self.assertFalse(os.path.exists(pool))

    def test_one_in_a_directory_that_is_not_there(self):
        said = self.refused("--pool", f"{self.home}/a/b", "--pool-size", "64M")
        self.assertIn(f"directory {self.home}/a/: ENOENT", said)

    def test_a_device_that_is_not_there(self):
        device = f"/dev/dax77.{os.getpid()}"
        os.symlink("/dev", f"{self.home}/devices")
        for spelt in [device, f"/{device}", f"/tmp/..{device}", f"{self.home}/devices/{os.path.basename(device)}"]:
            for size in [[], ["--pool-size", "64M"]]:
                said = self.refused("--pool", spelt, "--node", "1", *size)
                self.assertRegex(said, "is not there|no such device")
                self.assertFalse(os.path.exists(device), spelt)
        for require in ["0", "1"]:
            env = dict(os.environ, LD_PRELOAD=LIBRARY, AEP_POOL=device, AEP_CONTEXT="", AEP_SOCKET="", AEP_REQUIRE=require)
            done = self.run_tool("/bin/sh", "-c", "echo $((1+2))", env=env)
            self.assertIn(f"pool {device}: there is no such device", done.stderr)
            self.assertEqual(done.returncode == 0, require == "0")
            self.assertFalse(os.path.exists(device))

    @unittest.skipUnless(os.geteuid() == 0, "only root can make files in /dev")
    def test_a_file_where_a_device_should_be(self):
        pool, device = f"{self.home}/pool", f"/dev/aep-test-{os.getpid()}"
        self.good("up", "--provider", "none", "--pool", pool, "--pool-size", "64M")
        self.good("down")
        shutil.copy(pool, device)
        self.addCleanup(os.unlink, device)
        self.assertIn("is a file where a DAX device is expected", self.refused("--pool", device))

    def test_a_node_that_is_served(self):
        """Said once, however often it was tried."""
        pool = f"{self.home}/pool"
        self.good("up", "--provider", "none", "--node", "1", "--pool", pool, "--pool-size", "64M")
        other = ["--socket", f"{self.home}/other", "--directory", f"{self.home}/others"]
        done = self.run_tool(AEP, "up", *other, "--provider", "none", "--node", "1", "--pool", pool)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count("node 1 is served by another daemon: give another --node"), 1, done.stderr)
        self.assertFalse(os.path.exists(f"{self.home}/others"))

    def test_a_node_without_a_pool(self):
        self.assertIn("--node: which pool the nodes share is not said", self.refused("--node", "1"))
        where = ["--provider", "none", "--node", "1"]
        self.good("up", *where, "--pool", f"{self.home}/pool", "--pool-size", "64M")
        self.end_daemon(9)
        self.good("up", *where)  # it is remembered


if __name__ == "__main__":
    main()
