#!/usr/bin/env python3
"""Tests of several messages in one call: dsm_send_many, dsm_recv_many, dsm_free_many.

Called by ctest: many.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

from sharing import AT_ONCE, MAILBOX, SharingTest

from node_test import main
from nodes_test import NodesTest

DROP = 1


def heard(address, sender, tag):
    return f"{address}:{sender.id}:{tag}"


class Many(SharingTest):
    def test_they_come_in_order_and_as_they_were_said(self):
        a, b = self.pair()
        mine = [a.new(10 + i) for i in range(70)]  # more than any call has on its stack
        self.assertEqual(a.saymany(b.id, 5, 0, 0, *mine), "70")
        self.assertEqual(b.hearmany(0, 0, 3).split(), [heard(p, a, 5) for p in mine[:3]])
        self.assertEqual(b.hearmany(a.id, -1, 100).split(), [heard(p, a, 5) for p in mine[3:]])
        self.assertEqual(b.hearmany(0, 0, 100), "EAGAIN")
        self.assertEqual(a.refs(mine[0]), "2")
        self.expect_sound()
        self.expect_nothing_left()

    def test_references_go_with_those_that_were_sent(self):
        a, b = self.pair()
        mine = [a.new(100) for _ in range(20)]
        self.assertEqual(a.saymany(b.id, 0, 0, DROP, *mine), "20")
        self.assertEqual(a.saymany(b.id, 0, 0, DROP, mine[0]), "EINVAL")  # it has none any more
        self.assertEqual(b.takemany(0, 0, 64), "20")
        self.expect_sound()
        self.expect_nothing_left()

    def test_what_there_is_no_room_for_stays(self):
        a, b = self.pair()
        one = a.new(64)
        self.assertEqual(a.saymany(b.id, 0, 0, 0, *[one] * (MAILBOX - 5)), str(MAILBOX - 5))
        rest = [a.new(64) for _ in range(9)]
        self.assertEqual(a.saymany(b.id, 1, 0, DROP, *rest), "5")
        self.assertEqual(a.saymany(b.id, 1, 0, DROP, *rest[5:]), "EAGAIN")
        self.assertEqual(a.refs(rest[5]), "0")  # nobody has seen it
        a.begin("saymany", b.id, 1, -1, DROP, *rest[5:])
        a.until_it_sleeps()
        self.assertEqual(b.takemany(0, 0, MAILBOX - 5), str(MAILBOX - 5))
        sent = int(a.end_within(AT_ONCE))
        self.assertEqual(b.hearmany(0, 0, 100).split(), [heard(p, a, 1) for p in rest[:5 + sent]])
        self.expect_sound()
        self.expect_nothing_left()

    def test_who_waits_is_woken_by_the_first(self):
        a, b = self.pair()
        b.begin("hearmany", 0, -1, 10)
        b.until_it_sleeps()
        mine = [a.new(64) for _ in range(4)]
        self.assertEqual(a.saymany(b.id, 0, 0, 0, *mine), "4")
        got = b.end_within(AT_ONCE).split()
        while len(got) < 4:
            got += b.hearmany(0, -1, 10).split()
        self.assertEqual(got, [heard(p, a, 0) for p in mine])
        self.expect_nothing_left()

    def test_what_cannot_be_sent_ends_it(self):
        a, b = self.pair()
        mine = [a.new(64) for _ in range(3)]
        stray = f"{int(mine[0], 16) + 16:x}"
        self.assertEqual(a.saymany(b.id, 0, 0, 0, mine[0], mine[1], stray, mine[2]), "2")
        self.assertEqual(a.saymany(b.id, 0, 0, 0, stray, mine[2]), "EINVAL")
        self.assertEqual(len(b.hearmany(0, 0, 10).split()), 2)
        self.assertEqual(a.saymany(12345, 0, 0, 0, *mine), "ESRCH")
        self.assertEqual(a.oddmany(), "ok")
        self.end(b)
        self.recover_the_dead()
        self.assertEqual(a.saymany(b.id, 0, 0, 0, *mine), "ESRCH")
        self.expect_sound()
        self.expect_nothing_left()

    def test_references_go_in_order_until_one_is_not_held(self):
        a, b = self.pair()
        mine = [a.new(64) for _ in range(40)]
        fresh = [a.new(64) for _ in range(3)]
        self.assertEqual(a.saymany(b.id, 0, 0, 0, *mine), "40")
        # Such as nobody has seen, such as the other one has, and one twice.
        self.assertEqual(a.dropmany(fresh[0], *mine[:20], fresh[1], mine[20], mine[20], mine[21]), "23")
        self.assertEqual((a.refs(mine[20]), a.refs(mine[21])), ("1", "2"))
        self.assertEqual(a.dropmany(mine[20], mine[21]), "EINVAL")
        self.assertEqual(a.dropmany(*mine[21:], fresh[2]), "20")
        self.assertEqual(len(b.hearmany(0, 0, 64).split()), 40)
        self.assertEqual(b.dropmany(*mine[:39], mine[0], mine[39]), "39")
        self.assertEqual(b.dropmany(mine[39]), "1")
        # All of its own, sent to itself: the last reference frees at once.
        own = [b.new(64) for _ in range(20)]
        self.assertEqual(b.saymany(b.id, 0, 0, DROP, *own), "20")
        self.assertEqual(b.takemany(0, 0, 64), "20")
        self.expect_sound()
        self.expect_nothing_left()

    def test_handles_of_cxx(self):
        a, b = self.pair()
        self.assertEqual((a.givenumbers(b.id, 0), b.sumnumbers(0)), ("0 0", "0 0 0"))
        self.assertEqual(a.givenumbers(b.id, 50), "50 0")
        self.assertEqual(b.sumnumbers(20), f"{sum(range(20))} 20 {20 * 7}")
        self.assertEqual(b.sumnumbers(100), f"{sum(range(20, 50))} 30 {30 * 7}")
        self.assertEqual(b.sumnumbers(100), "0 0 0")
        short = a.new(3)
        self.assertEqual(a.givenumbers(b.id, 2), "2 0")
        self.assertEqual(a.say(b.id, short, 0, 999, 1, 0, 0), "ok")  # another type
        self.assertEqual(a.givenumbers(b.id, 2), "2 0")
        self.assertEqual(b.sumothers(10), "4 EPROTOTYPE")
        self.assertEqual(a.refs(short), "1")
        self.assertEqual(a.givenumbers(b.id, MAILBOX + 8), f"{MAILBOX} 8")
        self.assertEqual(b.takemany(0, 0, MAILBOX), str(MAILBOX))
        self.expect_nothing_left()


class ManyBetweenNodes(NodesTest):
    def test_they_come_in_order(self):
        a, b = (node.peer(name) for node, name in zip(self.nodes, "ab"))
        mine = [a.new(64) for _ in range(20)]
        to = a.lookup("b")
        self.assertEqual(a.saymany(to, 3, -1, DROP, *mine), "20")
        got = []
        while len(got) < 20:
            got += b.hearmany(0, -1, 64).split()
        self.assertEqual([word.split(":")[0] for word in got], mine)
        self.assertEqual({word.split(":")[2] for word in got}, {"3"})
        self.assertEqual(b.dropmany(*mine), "20")  # another node's: each lingers
        self.expect_sound()


if __name__ == "__main__":
    main()
