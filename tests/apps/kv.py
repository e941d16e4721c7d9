#!/usr/bin/env python3
"""Tests of apps/kv: replaced, changed and removed values; writers that are killed, whose partitions others take over.

Called by ctest: kv.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

import os
import unittest

from apps_test import BUILD, BetweenNodes, InContext, figures, has, main, run

# Percent of reads, keys, and more.
LOADS = [(95, 300), (0, 300), (50, 300, "--in-place"), (50, 300, "--churn", "--zipf", 0.99), (50, 20, "--bytes", 20_000), (50, 1, "--bytes", 1)]
OPERATIONS = 3000


def each_load(test, call):
    for reads, keys, *more in LOADS:
        with test.subTest(reads=reads, keys=keys, more=more):
            found = call("--reads", reads, "--keys", keys, "--operations", OPERATIONS, "--clients", 3, *more)
            test.assertEqual(found["operations"], 3 * OPERATIONS)
            test.assertEqual(found["found"] > 0, reads > 0)
            test.assertGreaterEqual(found["writes"], 3)


class Kv(InContext):
    def test_every_load(self):
        each_load(self, lambda *words: self.figures("kv", *words))
        self.expect_nothing_left()

    def test_a_partition_whose_writer_is_killed_is_taken_over_with_all_its_values(self):
        for more in ((), ("--in-place",), ("--churn",)):
            with self.subTest(more=more):
                found = self.figures("kv", "--clients", 3, "--keys", 200, "--operations", 500, "--reads", 50, "--kills", 12, *more)
                self.assertGreaterEqual(found["operations"], 3 * 500)
        self.expect_nothing_left()

    def test_memory_of_replaced_values_comes_back_while_readers_stay(self):
        """400 MB of values are written into 256 MiB of pool."""
        self.figures("kv", "--keys", 50, "--bytes", 50_000, "--reads", 0, "--operations", 4000)
        self.expect_nothing_left()


class KvBetweenNodes(BetweenNodes):
    def test_two_and_three_nodes(self):
        for nodes in (2, 3):
            for reads, keys, *more in LOADS[:3]:
                with self.subTest(nodes=nodes, reads=reads, more=more):
                    self.figures("kv", nodes, "--reads", reads, "--keys", keys, "--operations", 1000, "--clients", 3, *more)
        self.expect_nothing_left()


class KvBeside(unittest.TestCase):
    def test_plain_memory_and_sockets(self):
        for over in ("local", "unix", "tcp"):
            each_load(self, lambda *words, over=over: figures(self, "kv", "--over", over, *words))

    def test_long_answers_to_each_other_over_sockets(self):
        for over in ("unix", "tcp"):
            figures(self, "kv", "--over", over, "--clients", 3, "--keys", 2, "--bytes", 3 << 20, "--operations", 40, "--reads", 90)

    @unittest.skipUnless(os.path.exists(f"{BUILD}/bench/apps/aep_bench_app_kv"), "this build has no benchmarks")
    def test_the_baselines(self):
        for over in ("flat", "lightning"):
            each_load(self, lambda *words, over=over: figures(self, "flat/kv", "--over", over, *words))

    @unittest.skipUnless(has("zeromq", "kv"), "this build has no benchmarks over ZeroMQ (libzmq3-dev)")
    def test_zeromq(self):
        each_load(self, lambda *words: figures(self, "flat/kv", "--over", "zeromq", *words))

    @unittest.skipUnless(has("boost", "kv"), "this build has no benchmarks over Boost.Interprocess (libboost-dev)")
    def test_boost(self):
        each_load(self, lambda *words: figures(self, "flat/kv", "--over", "boost", *words))

    @unittest.skipUnless(has("redis", "kv"), "this build has no benchmarks over redis (libhiredis-dev, redis-server)")
    def test_redis(self):
        each_load(self, lambda *words: figures(self, "flat/kv", "--over", "redis", *words))
        gone = run("flat/kv", "--over", "redis", PATH="/nowhere")
        self.assertEqual(gone.returncode, 1)
        self.assertIn("redis-server does not start (Debian package redis-server)", gone.stderr)

    def test_what_is_wrong_is_said(self):
        mortal = run("kv", "--over", "local", "--kills", 1)
        self.assertEqual((mortal.returncode, mortal.stderr),
                         (1, "kv: --kills: this transport does not survive a member's death\n"))
        for words in (("--over", "pigeons"), ("--reads", 101), ("--clients", 0), ("--zipf", -1)):
            self.assertEqual(run("kv", *words).returncode, 2)
        self.assertIn("EXIT STATUS", run("kv", "--help").stdout)


if __name__ == "__main__":
    main()
