#!/usr/bin/env python3
"""Tests of groups whose readers stay: what is freed is used again, and a dead writer's group is written on by a reader.

Called by ctest: readers.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

import random

from groups import GroupTest
from sharing import MIB
from node_test import Completed, main

PERIODS = 0xFFFE  # group_readers.hpp: there are so many, round and round


class ReadersTest(GroupTest):
    def board(self, writer, *readers):
        """A group whose contents are replaced as a whole, and who reads it."""
        group = writer.gnew(0)
        self.assertEqual(writer.greplace(group, 1), "ok")
        for reader in readers:
            self.pass_root(writer, reader, group, writer.groot(group))
        return group

    def replace_in_turns(self, writer, group, *watchers):
        """25 MB, and then each reader is run: one that a machine under load leaves in the middle of a look keeps all of it."""
        self.assertEqual(writer.greplace(group, 1000), "ok")
        self.assertEqual({peer.glook() for peer in watchers}, {"looked"})

    def facts(self, peer, group):
        return dict(zip(("bytes", "deferred", "references", "writer"), map(int, peer.gfacts(group).split())))


class Readers(ReadersTest):
    def test_under_lasting_readers_memory_is_used_again(self):
        a, b = self.pair()
        c = self.peer("c")
        group = self.board(a, b, c)
        for peer in (b, c):
            self.assertEqual(peer.gwatch(group), "going")
        for _ in range(20):  # 500 MB in all, and the pool has half of that
            self.replace_in_turns(a, group, b, c)
        self.assertEqual([b.gwatched(), c.gwatched()], ["0 looked", "0 looked"])
        self.assertLess(int(a.gbytes(group)), 128 * MIB)  # at most four turns: two that wait, one each at both ends
        self.assertLessEqual(self.facts(a, group)["deferred"], int(a.gbytes(group)))
        self.expect_sound()
        self.expect_nothing_left()

    def test_readers_that_rest_keep_nothing_and_one_that_looks_keeps_what_it_may_see(self):
        a, b = self.pair()
        c = self.peer("c")
        group = self.board(a, b, c)
        for peer in (b, c):
            self.assertEqual(peer.gquiesce(group), "ok")
        self.assertEqual(a.greplace(group, 2000), "ok")
        small = int(a.gbytes(group))
        self.assertLess(small, MIB)
        # One looks, and goes on for long.
        root = b.groot(group)
        page = b.at(b.at(root))
        seen = b.word(page, 8)
        self.assertEqual(a.greplace(group, 200), "ok")
        self.assertEqual(b.word(page, 8), seen)
        self.assertGreater(self.facts(a, group)["deferred"], 190 * 25000)
        self.assertGreater(int(a.gbytes(group)), 4 * MIB)
        # It has gone: by a message it looks again, and by a death it has ended.
        large = int(a.gbytes(group))
        self.assertEqual(b.gquiesce(group), "ok")
        self.assertEqual(a.greplace(group, 2000), "ok")
        self.assertLess(int(a.gbytes(group)), large + 1)
        self.pass_root(a, b, group, root)
        self.assertEqual(a.greplace(group, 1000), "ok")
        self.assertGreater(int(a.gbytes(group)), large)
        self.end(b)
        self.recover_the_dead()
        large = int(a.gbytes(group))
        self.assertEqual(a.greplace(group, 2000), "ok")
        self.assertEqual(int(a.gbytes(group)), large)
        # Who comes after one that rested when it died, at its place in the tables, looks until it says otherwise.
        self.assertEqual(c.gquiesce(group), "ok")
        self.end(c)
        self.recover_the_dead()
        places = {int(b.id) & 0xFFFF, int(c.id) & 0xFFFF}
        late = [self.peer(), self.peer()]
        self.assertEqual({int(peer.id) & 0xFFFF for peer in late}, places)
        for peer in late:
            self.pass_root(a, peer, group, root)
        page = late[0].at(late[0].at(root))
        mark = late[0].word(page, 8)
        self.assertEqual(a.greplace(group, 1000), "ok")
        self.assertEqual([peer.word(page, 8) for peer in late], [mark, mark])
        self.expect_sound()
        self.expect_nothing_left()

    def test_periods_come_round_to_nobody_who_looks_for_long(self):
        a, b = self.pair()
        group = self.board(a, b)
        self.assertEqual(b.gquiesce(group), "ok")
        root = b.groot(group)
        page = b.at(b.at(root))
        seen = b.word(page, 8)
        # A writer whose pool is full asks again and again.
        self.assertEqual(a.gvain(group, PERIODS - 1), "ENOMEM")
        self.assertEqual(a.greplace(group, 100), "ok")
        self.assertEqual(b.word(page, 8), seen)
        self.assertEqual(b.gquiesce(group), "ok")
        self.expect_sound()
        self.expect_nothing_left()

    def test_who_does_not_say_when_it_looks_looks_always(self):
        a, b = self.pair()
        c = self.peer("c")
        group = self.board(a, b, c)
        self.assertEqual(b.gquiesce(group), "ok")
        self.assertEqual(a.greplace(group, 200), "ok")
        facts = self.facts(a, group)
        self.assertGreater(facts["deferred"], 190 * 25000)
        self.assertEqual((facts["references"], facts["writer"]), (3, int(a.id)))
        self.assertEqual(c.drop(group), "ok")
        self.assertEqual(a.greplace(group, 2000), "ok")
        self.assertLessEqual(int(a.gbytes(group)), facts["bytes"])
        self.assertEqual(c.gquiesce(group), "EINVAL")
        self.assertEqual(c.gfacts(group), "EINVAL")
        self.assertEqual(a.gquiesce(group), "ok")  # nothing, for its writer
        self.expect_sound()
        self.expect_nothing_left()

    def test_a_dead_writer_s_group_is_taken_over_by_who_holds_it(self):
        a, b = self.pair()
        c = self.peer("c")
        group = self.board(a, b, c)
        self.assertEqual((b.gtake(group), a.gtake(group)), ("EPERM", "ok"))
        self.assertEqual(self.peer("d").gtake(group), "EINVAL")
        self.assertEqual(a.gclose(group), "ok")
        self.assertEqual(self.facts(b, group)["writer"], 0)
        self.assertEqual((b.gtake(group), c.gtake(group), b.gtake(group)), ("ok", "EPERM", "ok"))
        self.assertEqual(b.greplace(group, 3000), "ok")
        self.assertEqual(c.gwhole(c.groot(group)), "whole")
        self.assertEqual(self.facts(c, group)["writer"], int(b.id))
        self.expect_sound()
        self.expect_nothing_left()


class WriterDeaths(Completed, ReadersTest):
    pool_size = "4G"

    def test_a_writer_is_killed_and_who_takes_over_writes_on(self):
        choice = random.Random(2)
        for _ in range(15):
            a, b, c = self.peer(), self.peer(), self.peer()
            group = a.gnew(0)
            self.assertEqual(a.greplace(group, 1), "ok")
            for reader in (b, c):
                self.pass_root(a, reader, group, a.groot(group))
            self.assertEqual(c.gwatch(group), "going")
            self.assertEqual(b.gquiesce(group), "ok")
            a.begin("greplace", group, 1 << 30)
            root = b.groot(group)
            for _ in range(choice.randrange(30)):
                self.assertEqual(b.gwhole(b.groot(group)), "whole")
                self.assertEqual(b.gquiesce(group), "ok")
            self.end(a)
            self.recover_the_dead()
            self.assertEqual(b.gtake(group), "ok")
            self.assertEqual(b.gwhole(root), "whole")
            before = int(b.gbytes(group))  # readers that were not run have kept it
            for _ in range(3):
                self.replace_in_turns(b, group, c)
            self.assertEqual(c.gwatched(), "0 looked")
            self.assertLessEqual(int(b.gbytes(group)), max(before, 128 * MIB))
            self.expect_sound()
            self.end(b, c)
        self.expect_nothing_left()


if __name__ == "__main__":
    main()
