#!/usr/bin/env python3
"""Tests of topics: what is published once for all who have subscribed.

Called by ctest: topics.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

from sharing import AT_ONCE, MIB, SharingTest

from node_test import main

DROP = 1
BLOCK, DROP_OLDEST, FAIL = 0, 1, 2


class TopicTest(SharingTest):
    def subscriber(self, name, behind=BLOCK, history=0, messages=0, size=0):
        peer = self.peer()
        peer.topic = peer.topen(name, 0, 0)
        self.assertEqual(peer.tsub(peer.topic, behind, history, messages, size), "ok")
        return peer

    def publisher(self, name, messages=0, size=0):
        peer = self.peer()
        peer.topic = peer.topen(name, messages, size)
        return peer


class Topics(TopicTest):
    def test_each_takes_all_in_order(self):
        a = self.publisher("prices")
        subscribers = [self.subscriber("prices") for _ in range(3)]
        self.assertNotEqual(a.topic, "0")
        mine = [a.new(10 + i) for i in range(5)]
        for tag, address in enumerate(mine):
            self.assertEqual(a.tpub(a.topic, address, tag, 0, 0), "ok")
        self.assertEqual(a.refs(mine[0]), "2")
        for s in subscribers:
            self.assertEqual([s.ttake(s.topic, 0) for _ in range(6)],
                             [f"{address} {a.id} {tag} 0" for tag, address in enumerate(mine)] + ["EAGAIN"])
        self.assertEqual(a.refs(mine[0]), "5")
        self.assertEqual(a.ttake(a.topic, 0), "EINVAL")  # it has not subscribed
        self.expect_sound()
        self.expect_nothing_left()

    def test_who_waits_is_woken_with_all_others(self):
        a = self.publisher("t")
        subscribers = [self.subscriber("t") for _ in range(3)]
        for s in subscribers:
            s.begin("ttake", s.topic, -1)
        for s in subscribers:
            s.until_it_sleeps()
        address = a.new(40)
        self.assertEqual(a.tpub(a.topic, address, 7, 0, DROP), "ok")
        for s in subscribers:
            self.assertEqual(s.end_within(AT_ONCE), f"{address} {a.id} 7 0")
            self.assertEqual(s.free(address), "ok")
        self.assertEqual(subscribers[0].ttake(subscribers[0].topic, 20), "ETIMEDOUT")
        self.expect_sound()
        self.expect_nothing_left()

    def test_streams_of_each_kind(self):
        """One is waited for, another one misses what it likes."""
        a = self.publisher("numbers", 32)
        blocks, drops = self.subscriber("numbers"), self.subscriber("numbers", DROP_OLDEST, 0, 4)
        count = 20_000
        blocks.begin("ttakenumbers", blocks.topic, count)
        drops.begin("ttakenumbers", drops.topic, count)
        self.assertEqual(a.tnumbers(a.topic, count), "ok")
        self.assertEqual(blocks.end_within(AT_ONCE), f"{count} 0 in order")
        taken, missed, *order = drops.end_within(AT_ONCE).split()
        self.assertEqual((int(taken) + int(missed), order), (count, ["in", "order"]))
        self.expect_sound()
        self.expect_nothing_left()

    def test_one_who_is_behind_blocks_until_he_takes_leaves_or_dies(self):
        a = self.publisher("t")
        address = a.new(40)

        def blocked(ends):
            s = self.subscriber("t", BLOCK, 0, 2)
            for _ in range(2):
                self.assertEqual(a.tpub(a.topic, address, 0, 0, 0), "ok")
            self.assertEqual(a.tpub(a.topic, address, 0, 0, 0), "EAGAIN")
            self.assertEqual(a.tpub(a.topic, address, 0, 20, 0), "ETIMEDOUT")
            self.assertEqual(a.tpub(a.topic, f"{int(address, 16) + 16:x}", 0, -1, 0), "EINVAL")  # told at once
            a.begin("tpub", a.topic, address, 0, -1, 0)
            a.until_it_sleeps()
            ends(s)
            self.assertEqual(a.end_within(AT_ONCE), "ok")
            s.end()
            self.recover_the_dead()

        blocked(lambda s: self.assertEqual(s.ttake(s.topic, 0).split()[3], "0"))
        blocked(lambda s: self.assertEqual(s.tleave(s.topic), "ok"))
        blocked(lambda s: self.assertEqual(s.tclose(s.topic), "ok"))
        blocked(lambda s: self.assertEqual(s.detach(), "ok"))

        def dies(s):
            s.end()
            self.recover_the_dead()
        blocked(dies)
        self.expect_sound()
        self.expect_nothing_left()

    def test_one_for_whom_it_fails_is_told_of_at_once(self):
        a, s = self.publisher("t"), self.subscriber("t", FAIL, 0, 1)
        address = a.new(40)
        self.assertEqual(a.tpub(a.topic, address, 0, -1, 0), "ok")
        self.assertEqual(a.tpub(a.topic, address, 0, -1, 0), "EAGAIN")
        self.assertEqual(s.ttake(s.topic, 0), f"{address} {a.id} 0 0")
        self.assertEqual(a.tpub(a.topic, address, 0, -1, 0), "ok")
        self.expect_nothing_left()

    def test_bounded_by_bytes(self):
        """Frames for who is slow: neither he nor history fills the pool."""
        a = self.publisher("frames", 0, 24 * MIB)
        blocks, drops = self.subscriber("frames", BLOCK, 0, 0, 10 * MIB), self.subscriber("frames", DROP_OLDEST)
        for _ in range(10):
            self.assertEqual(a.tpub(a.topic, a.new(MIB), 0, 0, DROP), "ok")
        self.assertEqual(a.tpub(a.topic, a.new(MIB), 0, 0, DROP), "EAGAIN")
        self.assertEqual(blocks.tclose(blocks.topic), "ok")
        for i in range(500):
            self.assertEqual(a.tpub(a.topic, a.new(MIB), i, 0, DROP), "ok", i)
        first = drops.ttake(drops.topic, 0).split()
        self.assertGreater(int(first[3]), 450)  # frames of a MiB and a little
        self.expect_sound()
        self.expect_nothing_left()

    def test_history_for_who_comes_late(self):
        a = self.publisher("t", 3)
        mine = [a.new(40) for _ in range(5)]
        for address in mine:
            self.assertEqual(a.tpub(a.topic, address, 0, 0, 0), "ok")
        self.assertEqual(a.refs(mine[0]), "1")
        for wanted, there in ((0, 0), (2, 2), (100, 3)):
            s = self.subscriber("t", BLOCK, wanted)
            for address in mine[5 - there:]:
                self.assertEqual(s.ttake(s.topic, 0), f"{address} {a.id} 0 0")
            self.assertEqual(s.ttake(s.topic, 0), "EAGAIN")
            s.end()
            self.recover_the_dead()
        self.expect_sound()
        self.expect_nothing_left()

    def test_what_a_dead_one_published_stays(self):
        a, s = self.publisher("t"), self.subscriber("t")
        for tag in range(3):
            self.assertEqual(a.tpub(a.topic, a.new(1000), tag, 0, DROP), "ok")
        self.end(a)
        self.recover_the_dead()
        self.assertEqual([s.ttake(s.topic, 0).split()[2] for _ in range(3)], ["0", "1", "2"])
        late = self.subscriber("t", BLOCK, 10)
        self.assertEqual(late.ttake(late.topic, 0).split()[2], "0")
        self.expect_sound()
        self.expect_nothing_left()

    def test_threads_that_wait_are_told_when_it_ends(self):
        for how, told in (("close", "EINVAL"), ("leave", "EINVAL"), ("detach", "ENOTCONN")):
            s = self.subscriber("t")
            self.assertEqual(s.tendtake(s.topic, how), told)
        self.expect_sound()
        self.expect_nothing_left()

    def test_there_are_only_so_many(self):
        a = self.peer()
        self.assertEqual(a.topenall("t"), "128 ENOSPC")
        b = self.peer()
        self.assertEqual(b.topen("t5", 0, 0) == "0", False)
        self.assertEqual(b.topen("another", 0, 0), "ENOSPC")
        self.assertEqual(b.topenall("same").split()[1], "ENOSPC")
        self.end(a)
        self.recover_the_dead()
        self.assertNotEqual(b.topen("another", 0, 0), "ENOSPC")
        self.expect_sound()
        self.expect_nothing_left()

    def test_odd_arguments(self):
        a = self.peer()
        self.assertEqual(a.oddtopics(), "ok")
        self.assertEqual(a.detach(), "ok")
        for command in (("topen", "t", 0, 0), ("tsub", 1, 0, 0, 0, 0), ("ttake", 1, 0), ("tleave", 1), ("tclose", 1)):
            self.assertEqual(getattr(a, command[0])(*command[1:]), "ENOTCONN")
        self.expect_nothing_left()

    def test_handles_of_cxx(self):
        a = self.peer()
        self.assertEqual(a.tcxx("cxx", 3), "3 EPROTOTYPE 2")
        self.assertEqual(a.tcxx("cxx", 10), f"{6 + 7 + 8 + 9} EPROTOTYPE 2")
        self.expect_nothing_left()


class TopicsUndone(TopicTest):
    provider = "rollback"

    def test_killed_at_random(self):
        """Publishers and subscribers: whoever is left goes on, and nothing is left of the others."""
        stays = self.subscriber("t", DROP_OLDEST)
        for _ in range(25):
            a, s = self.publisher("t", 16), self.subscriber("t", BLOCK, 5)
            a.begin("tnumbers", a.topic, 10**9)
            s.begin("ttakenumbers", s.topic, 10**9)
            for _ in range(2):
                stays.ttake(stays.topic, -1)
            for peer in (a, s):
                peer.end()
            self.recover_the_dead()
            self.expect_sound()
        self.assertEqual(self.data("status")["state"], "live")
        self.expect_nothing_left()


if __name__ == "__main__":
    main()
