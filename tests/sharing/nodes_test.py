"""Several contexts on one pool file that stand for machines, each with its own daemon: what tests of them share.

Used by nodes.py and ../vm/machines.py. Leaves nothing behind.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest

from node_test import AEP, NodeTest, end_daemons_in
from peer import Peer


class Node:
    """One context on the pool that stands for a machine."""

    def __init__(self, test, number):
        self.test, self.number = test, number
        self.home = f"{test.home}/{number}"
        self.socket = f"{self.home}/socket"
        self.log_path = f"{self.socket}.log"
        self.where = ["--socket", self.socket, "--directory", f"{self.home}/context"]
        self.peers = []
        os.makedirs(self.home, exist_ok=True)

    def run(self, command, *words):
        return subprocess.run([AEP, command, *self.where, *words], capture_output=True, text=True,
                              timeout=60, check=False)

    def good(self, command, *words):
        done = self.run(command, *words)
        self.test.assertEqual(done.returncode, 0, done.stdout + done.stderr + self.log())
        return done.stdout

    def log(self):
        """What the daemon said last."""
        if not os.path.exists(self.log_path):
            return ""
        with open(self.log_path, encoding="utf-8") as lines:
            return "".join(lines.readlines()[-20:])

    def data(self, command):
        return json.loads(self.good(command, "--json"))

    def up(self, *words):
        return self.good("up", "--pool", self.test.pool, "--pool-size", "256M", "--provider",
                         self.test.provider, "--node", str(self.number), *self.test.words, *words)

    def is_up(self):
        return os.path.exists(self.socket)

    def peer(self, name=""):
        peer = Peer(self.socket)
        self.peers.append(peer)
        self.test.assertEqual(peer.attach(name), "ok")
        peer.id = peer.self()
        return peer

    def daemon_pid(self):
        with open(f"{self.home}/context/lock", encoding="ascii") as lock:
            return int(lock.read())

    def end_daemon(self):
        NodeTest.end_stranger(self.daemon_pid(), signal.SIGKILL)

    def lose_power(self):
        """All of the node ends at once, as far as others can tell."""
        self.end_daemon()
        for peer in self.peers:
            if peer.process.returncode is None:
                peer.end()
        shutil.rmtree(f"{self.home}/context")

    def end_peers(self):
        for peer in self.peers:
            if peer.process.returncode is None:
                peer.end()
        while self.data("clients"):
            self.good("recover")

    def take_down(self):
        for peer in self.peers:
            if peer.process.returncode is None:
                peer.end()
        if os.path.exists(f"{self.home}/context"):
            done = self.run("down", "--force")
            self.test.assertEqual(done.returncode, 0, done.stderr)


class NodesTest(unittest.TestCase):
    provider = "none"
    count = 2
    words = ()

    def setUp(self):
        self.home = tempfile.mkdtemp(prefix="aep-test-", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.home)
        self.addCleanup(end_daemons_in, self, self.home)
        self.pool = f"{self.home}/pool"
        self.make_pool()
        self.nodes = [Node(self, n) for n in range(1, self.count + 1)]
        for node in self.nodes:
            node.up()

    def make_pool(self):
        """Unless the first node is to make one, as usual."""

    def tearDown(self):
        for node in self.nodes:
            node.take_down()

    def until(self, what, sign):
        """What happens by sweeps: asks for them until it has."""
        for _ in range(400):
            if sign():
                return
            for node in self.nodes:
                if node.is_up():
                    node.run("recover")
        states = [node.data("status") for node in self.nodes if node.is_up()]
        self.fail(f"never: {what}\n" + "\n".join(json.dumps(state) for state in states))

    def pass_on(self, sender, receiver, address):
        self.assertEqual(sender.send(receiver.id, address), "ok")
        got = receiver.recv(sender.id, 2000).split()
        self.assertEqual((got[0], got[2]), (address, sender.id))
        return int(got[1])

    def sharing(self, node):
        return node.data("status")["sharing"]

    def expect_sound(self, *nodes):
        for node in nodes or self.nodes:
            self.assertEqual(node.data("check"), [])

    def expect_nothing_left(self, *nodes):
        """No object, no reference, every chunk free."""
        nodes = nodes or self.nodes
        for node in nodes:
            node.end_peers()

        def all_free():
            found = [node.data("status") for node in nodes]
            return all(s["sharing"]["objects"] == 0 and s["memory"]["held_bytes"] == 0
                       and s["memory"]["cached_bytes"] == 0 for s in found) and all(
                           s["pool"]["free_bytes"] == s["pool"]["bytes"] for s in found)

        self.until("the pool is empty", all_free)
        self.expect_sound(*nodes)
