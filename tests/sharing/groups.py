#!/usr/bin/env python3
"""Tests of groups: structures that are held by their root, grow, are handed over, and outlive their writer.

Called by ctest: groups.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

import json
import os
import random
import signal
import subprocess

from sharing import AT_ONCE, MIB, PEER, SharingTest
from node_test import TOOLS, Completed, main

EXAMPLES = os.path.join(os.path.dirname(TOOLS.rstrip("/")), "examples")


def list_sum(nodes):
    return f"{nodes} {nodes * (nodes - 1) // 2}"


class GroupTest(SharingTest):
    def list_of(self, peer, nodes, size=40, hint=0):
        """A group whose root is a list, as the two addresses."""
        group = peer.gnew(hint)
        self.assertEqual(peer.gprolong(group, nodes, size), "ok")
        return group, peer.groot(group)

    def pass_root(self, sender, receiver, group, root, by=None):
        self.assertEqual(sender.send(receiver.id, by or root), "ok")
        got = receiver.recv(0, 0).split()
        self.assertEqual((got[0], got[2], got[3]), (root, sender.id, group))

    def sharing(self):
        return self.data("status")["sharing"]


class Groups(GroupTest):
    def test_a_list_is_read_where_it_is(self):
        a, b = self.pair()
        for nodes, size in [(1, 16), (1000, 24), (1000, 5000), (20, 5 * MIB // 10), (6, 5 * MIB)]:
            group, root = self.list_of(a, nodes, size)
            self.pass_root(a, b, group, root)
            self.assertEqual(b.gsum(root), list_sum(nodes))
            self.assertEqual((b.groot(group), b.gof(root), b.gof(group)), (root, group, group))
            self.assertEqual(a.gclose(group), "ok")
            self.assertEqual(a.groot(group), "EINVAL")
            self.expect_sound()
            self.assertEqual(b.gsum(root), list_sum(nodes))
            self.assertEqual(b.drop(root), "ok")
            self.assertEqual(b.groot(group), "EINVAL")
            self.assertEqual(b.drop(root), "EINVAL")
            self.expect_sound()
        self.assertEqual((self.sharing()["groups"], self.sharing()["extents"]), (0, 0))
        self.expect_nothing_left()

    def test_a_handler_on_top_of_a_holder_is_refused(self):
        a = self.peer("a")
        group, _ = self.list_of(a, 10)
        a.begin("ginterrupted", group)
        self.assertEqual(a.end_within(AT_ONCE), "ok")
        self.expect_sound()
        self.expect_nothing_left()

    def test_the_root_and_the_group_are_one_object(self):
        a, b = self.pair()
        group, root = self.list_of(a, 10)
        self.pass_root(a, b, group, root, by=group)
        self.pass_root(a, b, group, root, by=root)
        self.assertEqual((a.refs(root), a.refs(group)), ("3", "3"))
        self.assertEqual((b.ref(root), b.ref(group)), ("ok", "ok"))
        self.assertEqual(b.refs(root), "5")
        self.assertGreaterEqual(int(b.size(root)), 16)
        self.assertGreaterEqual(int(a.size(root)), 16)
        for name, drop in [(root, b.drop), (group, b.drop), (root, b.free), (group, b.free)]:
            self.assertEqual(drop(name), "ok")
        self.assertEqual(b.drop(root), "EINVAL")
        self.assertEqual(a.refs(root), "1")
        self.expect_sound()
        self.assertEqual(a.drop(root), "ok")
        for drop, by_root in [(a.drop, False), (a.free, True), (a.free, False)]:
            self.collect(a)
            self.assertEqual(self.sharing()["objects"], 0)
            group, root = self.list_of(a, 10)
            self.assertEqual(drop(root if by_root else group), "ok")
        self.expect_nothing_left()

    def collect(self, peer):
        """What came back to the peer is freed at its next call."""
        self.assertEqual(peer.recv(0, 0), "EAGAIN")

    def test_blocks_against_a_model(self):
        a = self.peer("a")
        for seed in range(1, 7):
            group = a.gnew(0 if seed % 2 else 300000)
            self.assertEqual(a.gmodel(group, seed, 6000), "ok", seed)
            self.assertEqual(a.gclose(group), "ok")
        group = a.gnew(0)
        self.assertEqual(a.gthreads(group, 4, 3000), "ok")
        self.expect_sound()
        self.expect_nothing_left()

    def test_what_is_freed_is_used_again(self):
        a = self.peer("a")
        group = a.gnew(0)
        for size in [8, 100, 1000, 3000, 50000, 700000]:
            block = a.galloc(group, size)
            self.assertEqual(a.gfree(group, block), "ok")
            self.assertEqual(a.galloc(group, size), block)
        # Small blocks become large ones: joined by the sweep.
        blocks = [a.galloc(group, 1000) for _ in range(3000)]
        before = int(a.gbytes(group))
        for block in blocks:
            self.assertEqual(a.gfree(group, block), "ok")
        for _ in range(3):
            self.assertNotIn(a.galloc(group, 500000), ("ENOMEM", "EINVAL"))
        self.assertEqual(int(a.gbytes(group)), before)
        self.expect_nothing_left()

    def test_what_readers_may_see_stays_until_they_have_gone(self):
        a, b = self.pair()
        group, root = self.list_of(a, 1)
        blocks = [a.galloc(group, 2000) for _ in range(1000)]
        for i, block in enumerate(blocks):
            a.write(block, f"text{i}")
        self.pass_root(a, b, group, root)
        for block in blocks:
            self.assertEqual(a.gfree(group, block), "ok")
            self.assertEqual(a.gfree(group, block), "EINVAL")
        grown = [a.galloc(group, 2000) for _ in range(1000)]
        self.assertFalse(set(grown) & set(blocks))
        self.assertEqual([b.read(x) for x in blocks], [f"text{i}" for i in range(len(blocks))])
        self.assertEqual(b.drop(root), "ok")
        before = int(a.gbytes(group))
        again = [a.galloc(group, 2000) for _ in range(1000 + before // 2000)]
        self.assertTrue(set(blocks) <= set(again))
        self.expect_sound()
        self.expect_nothing_left()

    def test_after_a_fork_there_are_new_groups(self):
        a, b = self.pair()
        for _ in range(3):
            self.assertEqual(a.fork(a.new(10), a.new(10)), "0")
            group, root = self.list_of(a, 3000, 100)
            self.pass_root(a, b, group, root)
            self.assertEqual(a.gprolong(group, 10, 100), "ok")
            self.assertEqual(b.gsum(b.groot(group)), list_sum(3010))
            self.assertEqual(b.drop(root), "ok")
            self.assertEqual(a.gclose(group), "ok")
        self.expect_sound()
        self.expect_nothing_left()

    def test_readers_follow_a_growing_group(self):
        a, b = self.pair()
        group, root = self.list_of(a, 10)
        self.pass_root(a, b, group, root)
        nodes = 10
        for more, size in [(100, 1000), (3, 5 * MIB), (10, MIB), (1000, 8000)]:
            self.assertEqual(a.gprolong(group, more, size), "ok")
            nodes += more
            self.assertEqual(b.groot(group), root)
            self.assertEqual(b.gsum(root), list_sum(nodes))
            self.assertEqual(a.gbytes(group), b.gbytes(group))
        self.assertGreater(self.sharing()["extents"], 5)
        self.expect_sound()
        self.end(a)
        self.expect_sound()
        self.assertEqual(b.gsum(root), list_sum(nodes))
        self.expect_nothing_left()

    def test_the_writer_alone_writes(self):
        a, b = self.pair()
        c = self.peer("c")
        group, root = self.list_of(a, 10)
        block = a.galloc(group, 10)
        self.assertEqual(c.galloc(group, 10), "EINVAL")  # it does not hold it
        self.assertEqual(a.ghand(group, b.id), "EINVAL")
        self.assertEqual(a.ghand(group, 0), "ESRCH")
        self.assertEqual(a.ghand(group, int(b.id) + (1 << 32)), "ESRCH")
        self.pass_root(a, b, group, root)
        for refused in [b.galloc(group, 10), b.galigned(group, 64, 10), b.gfree(group, block), b.gclose(group),
                        b.gsetroot(group, block), b.ghand(group, b.id)]:
            self.assertEqual(refused, "EPERM")
        self.assertEqual(a.ghand(group, b.id), "ok")
        self.assertEqual((a.galloc(group, 10), a.gfree(group, block), a.gclose(group)), ("EPERM",) * 3)
        self.assertEqual(b.gfree(group, block), "ok")
        self.assertEqual(b.gprolong(group, 3000, 1000), "ok")  # extents of both
        self.assertEqual(b.ghand(group, a.id), "ok")
        self.assertEqual(a.gprolong(group, 3000, 1000), "ok")
        self.assertEqual(b.groot(group), root)
        self.assertEqual(b.gsum(root), list_sum(6010))
        self.expect_sound()
        # The last one to hold it owns some of it alone.
        self.assertEqual(a.gclose(group), "ok")
        self.assertEqual(b.galloc(group, 10), "EPERM")
        self.assertEqual(b.drop(group), "ok")
        self.collect(a)
        self.collect(b)
        self.assertEqual(self.sharing()["objects"], 0)
        self.expect_sound()
        self.expect_nothing_left()

    def test_who_drops_its_last_reference_writes_no_more(self):
        a, b = self.pair()
        group, root = self.list_of(a, 10)
        self.pass_root(a, b, group, root)
        self.assertEqual(a.drop(root), "ok")
        self.assertEqual(a.galloc(group, 10), "EINVAL")
        self.assertEqual(b.send(a.id, root), "ok")
        a.recv(0, 0)
        self.assertEqual(a.galloc(group, 10), "EPERM")
        self.expect_sound()
        self.expect_nothing_left()

    def test_roots(self):
        a, b = self.pair()
        group = a.gnew(0)
        self.assertEqual(a.groot(group), "ENOENT")
        first, second = a.galloc(group, 100), a.galloc(group, 200)
        self.assertEqual(a.gof(first), "EINVAL")
        self.assertEqual(a.send(b.id, first), "EINVAL")
        self.assertEqual(a.send(b.id, group), "ok")  # without a root it goes by its own name
        self.assertEqual(b.recv(0, 0).split(), [group, "0", a.id, group])
        self.assertEqual(a.gsetroot(group, first), "EBUSY")
        self.assertEqual(b.drop(group), "ok")
        for root in [first, second, first, first]:
            self.assertEqual(a.gsetroot(group, root), "ok")
            self.assertEqual((a.groot(group), a.gof(root)), (root, group))
            self.assertEqual(a.gfree(group, root), "EBUSY")
        self.assertEqual(a.gof(second), "EINVAL")
        self.assertEqual(a.send(b.id, second), "EINVAL")
        self.assertEqual(a.drop(second), "EINVAL")
        self.assertEqual(a.gsetroot(group, "0"), "ok")
        self.assertEqual(a.groot(group), "ENOENT")
        self.assertEqual(a.gfree(group, first), "ok")
        for bad in [first, group, hex(int(second, 16) + 16), hex(int(second, 16) + 1), "1000", a.galloc(a.gnew(0), 8),
                    a.new(100), "7fffffffe000", "ffffffffffffffff", hex(int(group, 16) + 16)]:
            self.assertEqual(a.gsetroot(group, bad), "EINVAL", bad)
            self.assertEqual(a.gfree(group, bad), "EINVAL", bad)
        self.expect_sound()
        self.expect_nothing_left()

    def test_what_is_no_group(self):
        a, b = self.pair()
        plain, sent = a.new(100), a.new(100)
        self.pass_on(a, b, sent)
        group, root = self.list_of(a, 10)
        for bad in ["0", "1", "1000", plain, sent, root, hex(int(group, 16) + 8), "7fffffffe000",
                    "ffffffffffffffff", "120000000000"]:
            self.assertEqual(a.galloc(bad, 10), "EINVAL", bad)
            self.assertEqual(a.gfree(bad, plain), "EINVAL", bad)
            self.assertEqual(a.groot(bad), "EINVAL", bad)
            self.assertEqual(a.gbytes(bad), "EINVAL", bad)
            self.assertEqual(a.gclose(bad), "EINVAL", bad)
        self.assertEqual(a.gof(plain), "EINVAL")
        self.assertEqual(a.gfree(group, "0"), "ok")
        self.assertEqual(a.galigned(group, 48, 10), "EINVAL")
        self.assertEqual(a.galigned(group, 0, 10), "EINVAL")
        for much in [1 << 40, (1 << 64) - 1, 1 << 33]:
            self.assertEqual(a.galloc(group, much), "ENOMEM", much)
            self.assertEqual(a.gnew(much), "ENOMEM", much)
        self.assertEqual(a.galigned(group, 1 << 62, 10), "ENOMEM")
        self.assertEqual(b.galloc(group, 10), "EINVAL")
        alone = subprocess.run([PEER], env=dict(os.environ, AEP_CONTEXT="none"), text=True,
                               capture_output=True, input="gnew 0\ngalloc 120000000000 1\n", check=True)
        self.assertEqual(alone.stdout.split(), ["ENOTCONN", "ENOTCONN"])
        self.expect_sound()
        self.expect_nothing_left()

    def test_a_full_pool(self):
        a, b = self.pair()
        group, root = self.list_of(a, 10)
        self.pass_root(a, b, group, root)
        self.assertEqual(a.gprolong(group, 1 << 30, 4000), "ENOMEM")
        self.assertGreater(int(a.gbytes(group)), 128 * MIB)
        nodes = int(b.gsum(b.groot(group)).split()[0])
        self.assertGreater(nodes, 128 * MIB // 4020)
        self.expect_sound()
        self.assertEqual(a.gclose(group), "ok")
        self.assertEqual(b.gsum(root), list_sum(nodes))
        self.assertEqual(b.drop(root), "ok")
        self.collect(a)
        again, _ = self.list_of(a, 30000, 4000)
        self.assertGreater(int(a.gbytes(again)), 30000 * 4000)
        self.expect_nothing_left()

    def test_a_group_goes_on_travelling_without_its_writer(self):
        a, b = self.pair()
        c = self.peer("c")
        group, root = self.list_of(a, 5000, 1000)
        self.assertEqual(a.send(b.id, root), "ok")
        self.end(a)
        self.expect_sound()
        self.assertEqual(b.recv(0, 0).split()[3], group)
        self.assertEqual(b.galloc(group, 10), "EPERM")
        self.pass_root(b, c, group, root)
        self.assertEqual(b.drop(root), "ok")
        self.assertEqual(c.gsum(root), list_sum(5000))
        self.assertGreater(self.sharing()["of_dead_owners"], 3)
        self.assertEqual(c.drop(root), "ok")
        self.assertEqual(self.sharing()["objects"], 0)
        self.expect_sound()
        self.expect_nothing_left()

    def test_a_writer_of_memory_that_dead_ones_left(self):
        a, b = self.pair()
        group, root = self.list_of(a, 2000, 1000)
        block = a.galloc(group, 3000)
        self.pass_root(a, b, group, root)
        self.assertEqual(a.ghand(group, b.id), "ok")
        self.end(a)
        self.expect_sound()
        self.assertEqual(b.gfree(group, block), "ok")
        self.assertEqual(b.galloc(group, 3000), block)
        self.assertEqual(b.gprolong(group, 5000, 1000), "ok")
        self.assertEqual(b.gsum(root), list_sum(7000))
        self.expect_sound()
        self.assertEqual(b.gclose(group), "ok")
        self.assertEqual(self.sharing()["objects"], 0)
        self.expect_sound()
        self.expect_nothing_left()

    def example(self, name, waits, sends):
        """Runs both ends of an example; what the one that waits says."""
        program = os.path.join(EXAMPLES, name)
        env = dict(os.environ, AEP_SOCKET=self.socket, AEP_REQUIRE="1")
        with subprocess.Popen([program, *waits], env=env, text=True, stdout=subprocess.PIPE) as waiter:
            self.addCleanup(waiter.kill)
            self.assertEqual(waiter.stdout.readline(), "waiting\n")
            sent = subprocess.run([program, *sends], env=env, text=True, capture_output=True, timeout=60, check=False)
            if sent.returncode != 0:
                waiter.kill()
                self.fail(sent.stderr)
            said = waiter.stdout.read()
        self.assertEqual(waiter.returncode, 0)
        self.expect_nothing_left()
        return said

    def test_the_example_list(self):
        self.assertEqual(self.example("list", ["receive"], ["send", "300000"]),
                         f"300000 nodes, sum {300000 * 299999 // 2}\n")

    def test_the_example_tree(self):
        self.assertEqual(self.example("tree", ["grow", "40000"], ["sow", "60000"]), "100000 nodes, sorted\n")

    def test_the_example_containers(self):
        text = " ".join(f"word{i % 100}-{'x' * (i % 100)}" for i in range(2000))
        said = self.example("containers", ["count"], ["send", text])
        self.assertEqual(sorted(said.split("\n")[:-1]),
                         sorted(f"word{i}-{'x' * i} 20" for i in range(100)))

    def test_the_example_prices(self):
        self.assertEqual(self.example("prices", ["follow"], ["publish", "3000"]), "edition 3001 is ours\n")

    def test_a_fork_ends_what_a_writer_can_do(self):
        a, b = self.pair()
        group, root = self.list_of(a, 100)
        self.pass_root(a, b, group, root)
        self.assertEqual(a.fork(a.new(10), a.new(10)), "0")
        self.assertEqual(a.galloc(group, 10), "EXDEV")
        self.assertEqual(a.ghand(group, b.id), "EXDEV")
        self.assertEqual(a.groot(group), root)
        self.assertEqual(b.gsum(root), list_sum(100))
        self.assertEqual(a.gclose(group), "ok")
        self.assertEqual(b.drop(root), "ok")
        self.expect_sound()
        self.expect_nothing_left()


class GroupDeaths(Completed, GroupTest):
    pool_size = "4G"  # mailboxes full of groups are no reason to die

    def test_a_writer_is_killed_while_its_readers_read(self):
        choice = random.Random(1)
        for _ in range(10):
            a, b = self.peer(), self.peer()
            group, root = self.list_of(a, 1000, choice.choice([24, 1000, 20000]))
            self.pass_root(a, b, group, root)
            a.begin("gprolong", group, 1 << 30, choice.choice([16, 100, 3000]))
            while int(b.gbytes(group)) < (MIB << choice.randrange(4)):
                pass
            self.end(a)
            nodes = int(b.gsum(b.groot(group)).split()[0])
            self.assertGreaterEqual(nodes, 1000)
            self.expect_sound()
            self.assertEqual(b.gsum(root), list_sum(nodes))
            self.assertEqual(b.galloc(group, 1), "EPERM")
            self.assertEqual(b.drop(root), "ok")
            self.end(b)
        self.expect_nothing_left()

    def test_killed_at_random(self):
        seed = random.randrange(1 << 30)
        choice = random.Random(seed)
        with self.subTest(seed=seed):
            peers = [self.peer() for _ in range(4)]
            for i, peer in enumerate(peers):
                peer.gchurn(peers[i - 1].id, choice.randrange(1 << 30))
            for _ in range(100):
                i = choice.randrange(len(peers))
                self.assertIsNone(peers[i].process.poll(), "it died by itself")
                peers[i].end()
                peers[i] = self.peer()
                peers[i].gchurn(choice.choice(peers).id, choice.randrange(1 << 30))
                if choice.random() < 0.1:
                    self.end_daemon(signal.SIGKILL)
                    self.up()
                    found = json.loads(self.aep("check", "--json").stdout)
                    # Four that never rest may leave no moment for a walk; that is said, and nothing else.
                    self.assertEqual([f for f in found if "quiet moment" not in f["what"]], [])
            self.end(*peers)
            while self.data("clients"):
                self.good("recover")
            status = self.data("status")
            self.assertEqual(status["state"], "live", status["poison"])
            self.expect_nothing_left()


if __name__ == "__main__":
    main()
