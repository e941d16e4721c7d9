#!/usr/bin/env python3
"""Tests of peers that come and go: what who watches is told, on the descriptor and without it, in and between nodes.

Called by ctest: peers.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

from nodes import NodesTest
from sharing import AT_ONCE, SharingTest

from node_test import Completed, main


class PeersTest(SharingTest):
    def watcher(self):
        """One that has been told of all that are there."""
        peer = self.peer("watcher")
        self.assertEqual(peer.watch(1), "ok")
        self.told(peer)
        return peer

    @staticmethod
    def told(peer):
        """All that there is to tell it."""
        events = []
        while (event := peer.event(0)) != "EAGAIN":
            events.append(event)
        return events

    def expect_told(self, peer, *events):
        self.assertEqual(self.told(peer), list(events))

    def die(self, peer):
        self.end(peer)
        self.recover_the_dead()


class Peers(PeersTest):
    def test_who_is_there_and_who_comes_and_goes(self):
        a, b = self.pair()
        self.assertEqual(a.event(0), "EINVAL")  # it does not watch
        self.assertEqual(a.watch(1), "ok")
        self.expect_told(a, f"came {b.id} b 0")
        c = self.peer()
        self.expect_told(a, f"came {c.id} - 0")
        self.assertEqual(c.attach("c"), "ok")
        self.assertEqual(c.attach("c"), "ok")
        self.expect_told(a, f"renamed {c.id} c 0")
        self.assertEqual(b.detach(), "ok")
        self.expect_told(a, f"left {b.id} b 0")
        self.assertEqual(b.attach("again"), "ok")
        self.expect_told(a, f"came {b.id} again 0")
        self.die(c)
        self.expect_told(a, f"died {c.id} c 0")
        self.assertEqual(b.detach(), "ok")
        self.die(b)  # it takes no part: nothing more is to be told of it
        self.expect_told(a, f"left {b.id} again 0")
        self.assertEqual(a.watch(0), "ok")
        self.assertEqual(a.event(-1), "EINVAL")
        self.expect_sound()
        self.expect_nothing_left()

    def test_who_watches_anew_is_told_all_anew(self):
        a, b = self.pair()
        for _ in range(3):
            self.assertEqual(a.watch(1), "ok")
            self.expect_told(a, f"came {b.id} b 0")

    def test_what_happens_between_two_looks(self):
        a = self.watcher()
        b = self.peer("b")
        first = b.id
        self.expect_told(a, f"came {first} b 0")
        # It leaves and comes again; another name on the way.
        self.assertEqual((b.detach(), b.attach("c"), b.attach("d")), ("ok",) * 3)
        self.expect_told(a, f"left {first} b 0", f"came {first} d 0")
        # Others come and go in its place: that is not silent.
        self.die(b)
        others = []
        for _ in range(3):
            other = self.peer("other")
            others.append(other.id)
            self.die(other)
        last = self.peer("last")
        self.expect_told(a, f"died {first} d 0", f"came {last.id} last 3")
        self.die(last)
        for _ in range(2):
            other = self.peer("other")
            self.die(other)
        self.expect_told(a, f"died {last.id} last 0", f"died {other.id} - 1")
        self.expect_told(a)
        self.expect_sound()

    def test_who_has_gone_is_told_before_who_has_come(self):
        """A name that goes from one to another is never two clients'."""
        a = self.watcher()
        old, new = self.peer("worker"), self.peer("spare")
        self.told(a)
        self.die(old)
        self.assertEqual(new.attach("worker"), "ok")
        early = self.peer("early")  # in the place of the one that died
        self.expect_told(a, f"died {old.id} worker 0", f"came {early.id} early 0", f"renamed {new.id} worker 0")
        self.die(early)
        self.told(a)
        self.die(new)
        late = self.peer("worker")  # in the place of early, before that of new
        self.assertLess(int(late.id) & 0xFFFF, int(new.id) & 0xFFFF)
        self.expect_told(a, f"died {new.id} worker 0", f"came {late.id} worker 0")

    def test_who_waits_is_woken(self):
        a = self.watcher()
        self.assertEqual(a.event(1), "ETIMEDOUT")
        a.begin("event", -1)
        a.until_it_sleeps()
        b = self.peer("b")
        self.assertEqual(a.end_within(AT_ONCE), f"came {b.id} b 0")
        a.begin("event", -1)
        a.until_it_sleeps()
        self.assertEqual(b.detach(), "ok")
        self.assertEqual(a.end_within(AT_ONCE), f"left {b.id} b 0")
        self.assertEqual(b.attach("b"), "ok")
        self.told(a)
        a.begin("event", -1)
        a.until_it_sleeps()
        self.die(b)
        self.assertEqual(a.end_within(AT_ONCE), f"died {b.id} b 0")
        self.assertEqual(a.detachbesideevents(), "ENOTCONN")
        self.assertEqual(a.event(0), "ENOTCONN")

    def test_a_receive_that_waits_ends_for_an_event(self):
        a, b = self.pair()
        self.assertEqual(a.watch(3), "ok")
        self.assertEqual(a.recv(0, 0), "EAGAIN")  # it does not wait
        self.assertEqual(a.recv(0, -1), "ENOMSG")
        self.expect_told(a, f"came {b.id} b 0")
        for waits in (("recv", 0, -1), ("recv", b.id, -1)):
            a.begin(*waits)
            a.until_it_sleeps()
            c = self.peer("c")
            self.assertEqual(a.end_within(AT_ONCE), "ENOMSG")
            self.expect_told(a, f"came {c.id} c 0")
            a.begin(*waits)
            a.until_it_sleeps()
            self.die(c)
            self.assertEqual(a.end_within(AT_ONCE), "ENOMSG")
            self.expect_told(a, f"died {c.id} c 0")
        # What has come is received whatever there is to tell.
        address = b.new(10)
        self.assertEqual(b.detach(), "ok")
        self.assertEqual(b.attach("b"), "ok")
        self.assertEqual(b.send(a.id, address), "ok")
        self.assertTrue(a.recv(0, -1).startswith(address))
        self.assertEqual(a.recv(0, -1), "ENOMSG")
        # Elsewhere nobody is told; nor by default.
        box = a.mopen()
        self.assertEqual(a.hearat(box, 0, 1), "ETIMEDOUT")
        self.assertEqual(a.watch(1), "ok")
        self.assertEqual(a.recv(0, 1), "ETIMEDOUT")
        self.expect_nothing_left()

    def test_what_happens_while_it_takes_no_part(self):
        a = self.watcher()
        self.assertEqual(a.poll(0), "down")
        self.assertEqual(a.detach(), "ok")
        b = self.peer("b")
        self.assertEqual(a.attach("watcher"), "ok")
        self.assertEqual(a.poll(-1), "up")
        self.expect_told(a, f"came {b.id} b 0")
        self.assertEqual(a.poll(0), "down")
        self.die(b)
        self.assertEqual(a.poll(-1), "up")

    def test_on_the_descriptor(self):
        a = self.peer("a")
        self.assertEqual(a.poll(0), "down")
        self.assertEqual(a.watch(1), "ok")
        self.assertEqual(a.poll(-1), "up")  # there may be something to tell
        self.assertEqual((a.event(0), a.poll(0)), ("EAGAIN", "down"))
        for _ in range(10):
            b = self.peer("b")
            self.assertEqual(a.poll(-1), "up")
            self.assertEqual(a.recv(0, 0), "EAGAIN")
            self.assertEqual(a.poll(-1), "up")  # the event waits still
            self.assertEqual(a.event(0), f"came {b.id} b 0")
            self.assertEqual(a.event(0), "EAGAIN")
            self.assertEqual(a.poll(0), "down")
            a.begin("poll", -1)
            address = b.new(10)
            self.assertEqual(b.send(a.id, address), "ok")
            self.assertEqual(a.end_of(), "up")
            self.assertEqual(a.event(0), "EAGAIN")
            self.assertEqual(a.poll(-1), "up")  # the message waits still
            self.assertTrue(a.recv(0, 0).startswith(address))
            self.assertEqual(a.recv(0, 0), "EAGAIN")
            self.assertEqual(a.poll(0), "down")
            a.begin("poll", -1)
            self.die(b)
            self.assertEqual(a.end_of(), "up")
            self.assertEqual(a.event(0), f"died {b.id} b 0")
            self.assertEqual((a.event(0), a.poll(0)), ("EAGAIN", "down"))
        self.assertEqual((a.watch(0), a.event(0)), ("ok", "EINVAL"))
        self.expect_sound()

    def test_it_is_made_after_that(self):
        """The descriptor of who watches already is readable for what there is to tell."""
        a = self.peer("a")
        self.assertEqual(a.watch(1), "ok")
        b = self.peer("b")
        self.assertEqual(a.poll(0), "up")
        self.expect_told(a, f"came {b.id} b 0")
        a.begin("poll", -1)
        self.peer("c")
        self.assertEqual(a.end_of(), "up")

    def test_a_forked_child_does_not_watch(self):
        a = self.watcher()
        self.assertEqual(a.forkevents(), "0")
        self.recover_the_dead()
        self.assertEqual(a.event(0).split()[0], "died")
        self.expect_sound()

    def test_in_cxx(self):
        a, b = self.pair()
        self.assertEqual(a.cxxevent(0), "EINVAL")
        self.assertEqual(a.cxxwatch(), "ok")
        self.assertEqual(a.cxxevent(0), f"came {b.id} b 0")
        self.assertEqual((a.cxxevent(0), a.cxxevent(1)), ("none", "none"))
        self.die(b)
        self.assertEqual(a.cxxevent(1000), f"died {b.id} b 0")
        self.assertEqual(a.detach(), "ok")
        self.assertEqual(a.cxxevent(0), "ENOTCONN")

    def test_arguments(self):
        a, _ = self.pair()
        for flags in (2, 4, 7, 1 << 31):
            self.assertEqual(a.watch(flags), "EINVAL")
        self.assertEqual(a.watch(1), "ok")
        self.assertEqual(a.eventarguments(), "ok")


class Deaths(Completed, PeersTest):
    def test_a_loop_is_told_of_all_who_are_killed(self):
        """As they come, in the middle of what they do, many at once; by the descriptor alone."""
        watchers = [self.peer(), self.peer()]
        deaths = 60
        for watcher in watchers:
            self.assertEqual(watcher.watch(1), "ok")
            watcher.begin("followpeers", deaths)
        for _ in range(deaths // 3):
            victims = [self.peer() for _ in range(3)]
            for victim in victims:
                victim.begin("churn", victims[0].id, 1)
            self.end(*victims)
        for watcher in watchers:
            self.assertEqual(watcher.end_of(), "1")  # the other watcher
        self.assertEqual(self.data("status")["state"], "live")
        self.expect_nothing_left()


class BetweenNodes(NodesTest):
    SOON = AT_ONCE * 1000  # ms

    def recover(self, node, peer):
        peer.end()
        self.until("it is taken back", lambda: all(row["pid"] != peer.process.pid for row in node.data("clients")))

    def test_who_comes_and_goes_on_another_node(self):
        a, b = self.nodes[0].peer("a"), self.nodes[1].peer("b")
        own = self.nodes[0].peer("own")
        self.assertEqual(a.watch(1), "ok")
        self.assertEqual({a.event(0), a.event(0)}, {f"came {own.id} own 0", f"came {b.id} b 0"})
        self.assertEqual(a.event(1), "ETIMEDOUT")
        self.assertEqual(b.attach("c"), "ok")
        self.assertEqual(a.event(0), f"renamed {b.id} c 0")
        self.assertEqual(b.detach(), "ok")
        self.assertEqual(a.event(0), f"left {b.id} c 0")
        a.begin("event", self.SOON)
        a.until_it_sleeps()
        self.assertEqual(b.attach("d"), "ok")
        self.assertEqual(a.end_of(), f"came {b.id} d 0")
        self.recover(self.nodes[1], b)
        self.assertEqual(a.event(0), f"died {b.id} d 0")
        # Two come and go in its place, and are nobody any more; then one comes.
        for _ in range(2):
            self.recover(self.nodes[1], self.nodes[1].peer("other"))
        self.assertEqual(a.event(0), "EAGAIN")
        last = self.nodes[1].peer("last")
        self.assertEqual(a.event(0), f"came {last.id} last 2")
        self.assertEqual(a.event(0), "EAGAIN")
        self.expect_nothing_left()

    def test_on_the_descriptor(self):
        a = self.nodes[0].peer("a")
        self.assertEqual(a.watch(1), "ok")
        self.assertEqual(a.event(0), "EAGAIN")
        self.assertEqual(a.poll(0), "down")
        for _ in range(5):
            a.begin("poll", -1)
            b = self.nodes[1].peer("b")
            self.assertEqual(a.end_of(), "up")
            self.assertEqual(a.event(self.SOON), f"came {b.id} b 0")
            self.assertEqual((a.event(0), a.poll(0)), ("EAGAIN", "down"))
            a.begin("poll", -1)
            self.recover(self.nodes[1], b)
            self.assertEqual(a.end_of(), "up")
            self.assertEqual(a.event(self.SOON), f"died {b.id} b 0")
            self.assertEqual((a.event(0), a.poll(0)), ("EAGAIN", "down"))
        self.expect_nothing_left()

    def test_a_node_that_dies_takes_all_its_peers_with_it(self):
        a = self.nodes[0].peer("a")
        others = [self.nodes[1].peer(name) for name in ("x", "y")]
        self.assertEqual(a.watch(1), "ok")
        self.assertEqual([a.event(0), a.event(0)], [f"came {b.id} {name} 0" for b, name in zip(others, "xy")])
        for recovered_by_others in (True, False):
            self.nodes[1].lose_power()
            if recovered_by_others:
                self.until("node 2 is recovered", lambda: len(self.nodes[0].data("status")["nodes"]) == 1)
                self.assertEqual([a.event(0), a.event(0)], [f"died {b.id} {name} 0" for b, name in zip(others, "xy")])
                self.assertEqual(a.event(0), "EAGAIN")
            self.nodes[1].up()
            again = self.nodes[1].peer("x")
            told = [a.event(0) for _ in range(1 if recovered_by_others else 2)]
            if not recovered_by_others:  # the place of the one that has been told is another node's now
                self.assertEqual(told.pop(0), f"died {others[0].id} x 0")
            self.assertEqual(told, [f"came {again.id} x 0"])
            self.assertEqual(a.event(0), "EAGAIN")
            others = [again]
        self.expect_nothing_left()


if __name__ == "__main__":
    main()
