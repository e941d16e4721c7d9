#!/usr/bin/env python3
"""Tests of apps/chain: states of all sizes over every transport, between nodes, and functions that are killed.

Called by ctest: chain.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

import os
import unittest

from apps_test import BUILD, WAYS, BetweenNodes, InContext, figures, has, main, over_a_peer, run

ROUNDS = 5


def each_size(test, call, *sizes, ways=WAYS):
    for size in sizes:
        for way in ways:
            with test.subTest(size=size, way=way):
                found = call("--functions", 5, "--rounds", ROUNDS, "--bytes", size, "--wait", way)
                test.assertEqual((found["rounds"], found["begun_again"]), (ROUNDS, 0))


class Chain(InContext):
    def test_states_of_every_size(self):
        each_size(self, lambda *words: self.figures("chain", *words), 32, 1024, 100_001, 16 << 20)
        self.expect_nothing_left()

    def test_forty_functions(self):
        self.assertEqual(self.figures("chain", "--rounds", ROUNDS)["rounds"], ROUNDS)
        self.expect_nothing_left()

    def test_functions_that_are_killed_are_replaced_and_their_round_is_begun_again(self):
        found = self.figures("chain", "--functions", 6, "--rounds", ROUNDS, "--kills", 10)
        self.assertGreaterEqual(found["rounds"], ROUNDS)
        self.expect_nothing_left()


class ChainBetweenNodes(BetweenNodes):
    def test_steps_to_other_nodes(self):
        for nodes, stay in ((2, 1), (2, 2), (3, 1)):
            with self.subTest(nodes=nodes, stay=stay):
                found = self.figures("chain", nodes, "--stay", stay, "--functions", 6, "--rounds", ROUNDS)
                self.assertEqual(found["rounds"], ROUNDS)
        self.expect_nothing_left()


class ChainBeside(unittest.TestCase):
    def test_plain_memory_and_sockets(self):
        for over in ("local", "unix", "tcp"):
            each_size(self, lambda *words, over=over: figures(self, "chain", "--over", over, *words), 32, 1 << 20)

    @unittest.skipUnless(os.path.exists(f"{BUILD}/bench/apps/aep_bench_app_chain"), "this build has no benchmarks")
    def test_the_flat_baseline(self):
        each_size(self, lambda *words: figures(self, "flat/chain", *words), 32, 100_000)
        too_large = run("flat/chain", "--bytes", 1 << 20)
        self.assertEqual(too_large.returncode, 1)
        self.assertIn("flat: it has no objects of more than 128 KiB", too_large.stderr)

    @unittest.skipUnless(has("zeromq"), "this build has no benchmarks over ZeroMQ (libzmq3-dev)")
    def test_zeromq(self):
        over_a_peer(self, each_size, "chain", "zeromq", 32, 1 << 20)

    @unittest.skipUnless(has("boost"), "this build has no benchmarks over Boost.Interprocess (libboost-dev)")
    def test_boost(self):
        over_a_peer(self, each_size, "chain", "boost", 32, 1 << 20)

    def test_what_is_wrong_is_said(self):
        for words in (("--functions", 2), ("--functions", 65), ("--bytes", 1), ("--over", "pigeons")):
            self.assertEqual(run("chain", *words).returncode, 2)
        self.assertIn("EXIT STATUS", run("chain", "--help").stdout)


if __name__ == "__main__":
    main()
