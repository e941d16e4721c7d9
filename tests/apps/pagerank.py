#!/usr/bin/env python3
"""Tests of apps/pagerank: graphs of several sizes over every transport, and functions that are killed. Each run
compares every rank with what one alone reckons.

Called by ctest: pagerank.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

import os
import unittest

from apps_test import BUILD, WAYS, InContext, figures, has, main, over_a_peer, run

JOBS = 2


def each_shape(test, call, ways=WAYS):
    for shape in ("--vertices", 8, "--workers", 3), ("--vertices", 3001, "--piece", 64), ("--vertices", 20_000, "--degree", 20):
        for way in ways:
            with test.subTest(shape=shape, way=way):
                found = call("--jobs", JOBS, "--steps", 4, "--wait", way, *shape)
                test.assertEqual(found["jobs"], JOBS)
                test.assertGreater(found["memory_ms"], 0)


class PageRank(InContext):
    def test_graphs_of_every_shape(self):
        each_shape(self, lambda *words: self.figures("pagerank", *words))
        self.expect_nothing_left()

    def test_one_worker_and_one_step(self):
        found = self.figures("pagerank", "--workers", 1, "--steps", 1, "--jobs", JOBS)
        self.assertEqual(found["jobs"], JOBS)
        self.expect_nothing_left()

    def test_functions_that_are_killed_are_replaced(self):
        found = self.figures("pagerank", "--workers", 3, "--jobs", JOBS, "--kills", 15)
        self.assertGreaterEqual(found["jobs"], JOBS)
        self.expect_nothing_left()


class PageRankBeside(unittest.TestCase):
    def test_plain_memory_and_sockets(self):
        for over in ("local", "unix", "tcp"):
            each_shape(self, lambda *words, over=over: figures(self, "pagerank", "--over", over, *words))

    @unittest.skipUnless(os.path.exists(f"{BUILD}/bench/apps/aep_bench_app_pagerank"), "this build has no benchmarks")
    def test_the_flat_baseline(self):
        each_shape(self, lambda *words: figures(self, "flat/pagerank", *words))

    @unittest.skipUnless(has("zeromq"), "this build has no benchmarks over ZeroMQ (libzmq3-dev)")
    def test_zeromq(self):
        over_a_peer(self, each_shape, "pagerank", "zeromq")

    @unittest.skipUnless(has("boost"), "this build has no benchmarks over Boost.Interprocess (libboost-dev)")
    def test_boost(self):
        over_a_peer(self, each_shape, "pagerank", "boost")

    def test_what_is_wrong_is_said(self):
        for words in (("--vertices", 7), ("--workers", 62), ("--steps", 0), ("--over", "pigeons")):
            self.assertEqual(run("pagerank", *words).returncode, 2)
        too_many = run("pagerank", "--over", "local", "--vertices", 8, "--workers", 9)
        self.assertEqual((too_many.returncode, too_many.stderr), (1, "pagerank: pagerank: there are more workers than vertices\n"))
        self.assertIn("EXIT STATUS", run("pagerank", "--help").stdout)


if __name__ == "__main__":
    main()
