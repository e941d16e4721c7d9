#!/usr/bin/env python3
"""Tests of apps/rpc: every shape and way of waiting over every transport; clients that are killed.

Called by ctest: rpc.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

import os
import unittest

from apps_test import BUILD, WAYS, BetweenNodes, InContext, figures, has, main, over_a_peer, run

SHAPES = [("object",), ("object", "--bytes", 100_000, "--reuse"), ("list", "--length", 300), ("tree", "--height", 6), ("tree", "--height", 0)]
CALLS = 40


def each_shape(test, call, ways=WAYS):
    """`call` is given the words of a run and returns its figures."""
    for shape in SHAPES:
        for way in ways:
            for clients in (1, 3):
                with test.subTest(shape=shape, way=way, clients=clients):
                    found = call("--shape", *shape, "--wait", way, "--clients", clients, "--calls", CALLS)
                    test.assertEqual(found["calls"], clients * CALLS)
                    test.assertGreater(found["call_us"], 0)


class Rpc(InContext):
    def test_every_shape_and_way_of_waiting(self):
        each_shape(self, lambda *words: self.figures("rpc", *words))
        self.expect_nothing_left()

    def test_a_high_tree(self):
        found = self.figures("rpc", "--shape", "tree", "--height", 16, "--calls", 2)
        self.assertGreater(found["walk_us"], 0)
        self.expect_nothing_left()

    def test_the_server_goes_on_when_clients_are_killed(self):
        for shape in ("object", "tree"):
            for way in WAYS:
                with self.subTest(shape=shape, way=way):
                    found = self.figures("rpc", "--shape", shape, "--clients", 3, "--wait", way, "--calls", CALLS, "--kills", 8)
                    self.assertGreaterEqual(found["calls"], 3 * CALLS)
        self.expect_nothing_left()


class RpcBetweenNodes(BetweenNodes):
    def test_two_and_three_nodes(self):
        for nodes in (2, 3):
            for shape in SHAPES:
                with self.subTest(nodes=nodes, shape=shape):
                    found = self.figures("rpc", nodes, "--shape", *shape, "--clients", 2, "--calls", CALLS)
                    self.assertEqual(found["calls"], 2 * CALLS)
        self.expect_nothing_left()


class RpcBeside(unittest.TestCase):
    def test_plain_memory(self):
        each_shape(self, lambda *words: figures(self, "rpc", "--over", "local", *words))

    def test_unix_sockets(self):
        each_shape(self, lambda *words: figures(self, "rpc", "--over", "unix", *words))

    def test_tcp(self):
        each_shape(self, lambda *words: figures(self, "rpc", "--over", "tcp", *words))

    @unittest.skipUnless(os.path.exists(f"{BUILD}/bench/apps/aep_bench_app_rpc"), "this build has no benchmarks")
    def test_the_flat_baseline(self):
        each_shape(self, lambda *words: figures(self, "flat/rpc", *words))

    @unittest.skipUnless(has("zeromq"), "this build has no benchmarks over ZeroMQ (libzmq3-dev)")
    def test_zeromq(self):
        over_a_peer(self, each_shape, "rpc", "zeromq")

    @unittest.skipUnless(has("boost"), "this build has no benchmarks over Boost.Interprocess (libboost-dev)")
    def test_boost(self):
        over_a_peer(self, each_shape, "rpc", "boost")

    def test_what_is_wrong_is_said(self):
        alone = run("rpc", AEP_CONTEXT="none")
        self.assertEqual(alone.returncode, 1)
        self.assertIn("no client of a context", alone.stderr)
        mortal = run("rpc", "--over", "unix", "--kills", 1)
        self.assertEqual((mortal.returncode, mortal.stderr),
                         (1, "rpc: --kills: this transport does not survive a member's death\n"))
        for words in (("--over", "pigeons"), ("--shape", "cube"), ("--clients", 0), ("--height", 21), ("--bytes", "many")):
            self.assertEqual(run("rpc", *words).returncode, 2)

    def test_help_is_a_page(self):
        shown = run("rpc", "--help")
        self.assertEqual(shown.returncode, 0)
        for part in ("requests and replies by reference", "--wait", "EXAMPLES", "EXIT STATUS"):
            self.assertIn(part, shown.stdout)


if __name__ == "__main__":
    main()
