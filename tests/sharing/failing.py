#!/usr/bin/env python3
"""Tests of memory that fails under its users: the pool's file is cut, or the system says that a page is lost.

Called by ctest: failing.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "node"))

from node_test import main  # noqa: E402
from peer import PEER, Peer  # noqa: E402
from sharing import MIB, SharingTest  # noqa: E402

CHUNK = 4 * MIB
HEAP = 0x1200_0000_0000
TOUCHED, NEWS = 4, 5  # BUS_MCEERR_AR, BUS_MCEERR_AO


class HeardPeer(Peer):
    """One whose last words are read."""

    def __init__(self, socket):
        env = dict(os.environ, AEP_SOCKET=socket, AEP_REQUIRE="1")
        self.process = subprocess.Popen([PEER], env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)

    def expect_end(self, test, number, said):
        self.process.stdin.close()
        words = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        test.assertEqual(self.process.wait(), -number, words)
        test.assertRegex(words, said)


class Failing(SharingTest):
    provider = "rollback"

    def heard(self):
        peer = HeardPeer(self.socket)
        self.clients.append(peer)
        self.assertEqual(peer.attach(""), "ok")
        peer.id = peer.self()
        return peer

    def set_size(self, size):
        os.truncate(f"{self.home}/context/pool", size)

    def retired(self):
        self.recover_the_dead()
        self.good("recover")
        return self.data("status")["pool"]["retired_bytes"]

    def test_who_touches_what_is_gone_ends_and_nobody_gets_it_before_it_is_whole(self):
        whole = os.path.getsize(f"{self.home}/context/pool")
        pool = self.data("status")["pool"]
        owner, reader, other = self.peer("a"), self.heard(), self.peer("b")
        kept = owner.new(100)
        owner.write(kept, "kept")
        large = owner.new(9 * MIB)
        for address, receiver in [(large, reader), (large, other), (kept, other)]:
            self.pass_on(owner, receiver, address)
        # From the middle of the object on.
        lost = (int(large, 16) - HEAP) // CHUNK + 1
        self.set_size(whole - pool["bytes"] + lost * CHUNK)
        reader.begin("fill", large, 9 * MIB, 65)
        reader.expect_end(self, signal.SIGBUS, "the memory at 0x[0-9a-f]+ is not there any more")
        self.assertEqual(self.retired(), 0)  # its owner has it yet, and lives
        self.assertIn("got SIGBUS for memory of the pool", self.log())
        self.assertIn("cannot be read", self.log())
        self.assertEqual(other.read(kept), "kept")
        self.assertEqual(other.drop(large), "ok")
        owner.end()
        self.assertEqual(self.retired(), CHUNK)
        self.assertIn("4 MiB retired", self.good("status"))
        self.assertEqual(other.read(kept), "kept")
        self.set_size(whole)
        self.assertEqual(self.retired(), 0)
        self.assertIn("is whole again", self.log())
        self.expect_nothing_left()
        self.until_all_is_free()

    def until_all_is_free(self):
        for _ in range(400):
            pool = self.data("status")["pool"]
            if pool["free_bytes"] == pool["bytes"]:
                return
            self.good("recover")
        self.fail(f"never free: {pool}")

    def test_a_page_of_which_the_machine_tells_ends_a_program_touched_or_not(self):
        for code in (TOUCHED, NEWS):
            with self.subTest(code):
                self.expect_told(code)

    def expect_told(self, code):
        one, two = self.heard(), self.peer("b")
        address = one.new(5000)
        self.pass_on(one, two, address)
        one.begin("buserror", address, code)
        one.expect_end(self, signal.SIGBUS, f"the memory at 0x{address} has failed \\(the machine reports it\\)")
        self.assertEqual(self.retired(), 0)
        # What only a client says is not believed.
        self.assertNotIn("cannot be read", self.log())
        self.assertEqual(two.drop(address), "ok")
        self.expect_nothing_left()

    def test_a_signal_that_is_ignored_or_sent_is_as_ever(self):
        before = signal.signal(signal.SIGBUS, signal.SIG_IGN)
        ignoring = self.heard()
        signal.signal(signal.SIGBUS, before)
        address = ignoring.new(5000)
        ignoring.process.send_signal(signal.SIGBUS)
        self.assertEqual(ignoring.buserror(address, NEWS), "lives")
        self.assertEqual(ignoring.send(ignoring.id, address), "ok")
        usual = self.heard()
        usual.process.send_signal(signal.SIGBUS)
        usual.expect_end(self, signal.SIGBUS, "^$")

    def test_what_a_program_has_set_for_it_happens(self):
        one = self.heard()
        address = one.new(5000)
        self.assertEqual(one.bushandled(address), "handled")
        self.assertEqual(one.send(one.id, address), "ok")
        self.expect_sound()


if __name__ == "__main__":
    main()
