#!/usr/bin/env python3
"""Tests of further mailboxes, of calls, of mailboxes bounded by bytes, and of peers that come and go.

Called by ctest: mailboxes.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

import signal

from sharing import AT_ONCE, MAILBOX, MIB, SharingTest

from node_test import main

DROP = 1


class Mailboxes(SharingTest):
    def test_what_is_for_one_does_not_come_to_another(self):
        a, b = self.pair()
        first, second = b.mopen(), b.mopen()
        self.assertEqual(len({first, second, b.id}), 3)
        address = a.new(40)
        for tag, to in [(1, first), (2, second), (3, b.id), (4, second)]:
            self.assertEqual(a.say(to, address, tag, 0, 0, 0, 0), "ok")
        self.assertEqual([b.hearat(second, 0, 0), b.hearat(second, 0, 0), b.hearat(second, 0, 0)],
                         [f"{address} {a.id} 2", f"{address} {a.id} 4", "EAGAIN"])
        self.assertEqual(b.hearat(first, 0, 0), f"{address} {a.id} 1")
        self.assertEqual(b.hearat(0, 0, 0), f"{address} {a.id} 3")  # DSM_ANY: the first one
        # An answer goes where it is said to.
        self.assertEqual(b.sendas(first, a.id, address, 7, 0, 0), "ok")
        self.assertEqual(a.hearat(0, first, 0), f"{address} {first} 7")
        self.assertEqual(a.mopen() == "0", False)
        for bad in (first, 12345, b.id):  # another's, or none
            self.assertEqual(a.hearat(bad, 0, 0), "EINVAL")
            self.assertEqual(a.sendas(bad, b.id, address, 0, 0, 0), "EINVAL")
            self.assertEqual(a.mclose(bad), "EINVAL")
            self.assertEqual(a.mlimit(bad, 1), "EINVAL")
        self.assertEqual(b.mclose(b.id), "EINVAL")  # that is to detach
        self.expect_sound()
        self.expect_nothing_left()

    def test_a_closed_one_is_nobodys(self):
        a, b = self.pair()
        box = b.mopen()
        address = a.new(100_000)
        for _ in range(MAILBOX):
            self.assertEqual(a.send(box, address), "ok")
        self.assertEqual(a.send(box, address), "EAGAIN")
        a.begin("sendwait", box, address, -1)
        a.until_it_sleeps()
        self.assertEqual(b.mclose(box), "ok")
        self.assertEqual(a.end_within(AT_ONCE), "ESRCH")
        self.assertEqual(a.refs(address), "1")
        self.assertEqual(b.mclose(box), "EINVAL")
        self.assertEqual(b.hearat(box, 0, 0), "EINVAL")
        again = b.mopen()
        self.assertNotEqual(again, box)
        self.assertEqual(a.send(box, address), "ESRCH")
        self.assertEqual(a.send(again, address), "ok")
        self.assertEqual(a.drop(address), "ok")
        self.expect_sound()
        self.expect_nothing_left()

    def test_there_are_so_many(self):
        a, b = self.pair()
        count, why = a.mopenall().split()
        self.assertEqual(why, "ENOSPC")
        self.assertGreaterEqual(int(count), 16)
        self.assertEqual(b.mopen(), "ENOSPC")
        address = b.new(10)
        self.assertEqual(b.call(a.id, address, 0, 0, 0), "ENOSPC")
        self.end(a)
        self.recover_the_dead()
        self.assertNotEqual(b.mopen(), "ENOSPC")
        self.assertEqual(b.detach(), "ok")
        self.expect_sound()
        self.expect_nothing_left()

    def test_who_is_killed_leaves_nothing_in_them(self):
        a, b = self.pair()
        boxes = [b.mopen() for _ in range(5)]
        address = a.new(1000)
        for box in boxes * 3:
            self.assertEqual(a.send(box, address), "ok")
        self.end(b)
        self.recover_the_dead()
        self.assertEqual(a.refs(address), "1")
        self.assertEqual([a.send(box, address) for box in boxes], ["ESRCH"] * 5)
        self.expect_sound()
        self.expect_nothing_left()

    def test_a_producer_without_end_fills_a_mailbox_and_not_the_pool(self):
        a, b = self.pair()
        sent = []
        while True:
            frame = a.new(MIB)
            self.assertNotEqual(frame, "ENOMEM")
            if a.say(b.id, frame, 0, 0, 0, 0, DROP) != "ok":
                break
            sent.append(frame)
        self.assertIn(len(sent), range(50, 65))  # a quarter of 256 MiB
        a.begin("sendwait", b.id, frame, -1)
        a.until_it_sleeps()
        self.assertTrue(b.recv(0, 0).startswith(sent[0]))
        self.assertEqual(a.end_within(AT_ONCE), "ok")
        self.assertEqual(b.mlimit(0, 0), "ok")
        self.assertEqual(a.send(b.id, frame), "ok")  # it counts no more
        self.assertEqual(b.mlimit(0, 10 * MIB), "ok")
        self.assertEqual(a.send(b.id, frame), "EAGAIN")
        small = a.new(500)
        self.assertEqual(a.send(b.id, small), "ok")  # that has nothing of its own to wait for
        self.expect_sound()
        self.expect_nothing_left()


class Calls(SharingTest):
    def test_each_answer_reaches_who_asked(self):
        a, b = self.pair()
        c = self.peer("c")
        threads, times = 8, 500
        b.begin("serve", 2 * threads * times, 3)
        a.begin("callers", b.id, threads, times)
        c.begin("callers", b.id, threads, times)
        self.assertEqual((a.end_of(), c.end_of(), b.end_of()), ("0", "0", "ok"))
        for peer in (a, b, c):
            self.assertEqual(peer.recv(0, 0), "EAGAIN")  # nothing came to the first mailbox; it takes back what came back
        self.assertLessEqual(self.data("status")["sharing"]["objects"], 0)
        self.expect_sound()
        self.expect_nothing_left()

    def test_an_answer_that_comes_too_late_meets_nobody(self):
        a, b = self.pair()
        question = a.new(16)
        self.assertEqual(a.call(b.id, question, 5, 20, 0), "ETIMEDOUT")
        self.assertTrue(b.hearat(0, 0, 0).startswith(f"{question} "))
        self.assertEqual(b.answer(), "ESRCH")
        self.assertEqual(b.drop(question), "ok")
        a.begin("call", b.id, question, 6, -1, DROP)
        self.assertTrue(b.hearat(0, 0, -1).endswith(" 6"))
        self.assertEqual(b.answer(), "ok")
        self.assertTrue(a.end_within(AT_ONCE).endswith(f" {b.id} 6"))
        self.assertEqual(b.answer(), "ESRCH")  # once more
        self.assertEqual(a.drop(question), "EINVAL")
        self.expect_sound()
        self.expect_nothing_left()

    def test_who_dies_is_waited_for_no_more(self):
        a, b = self.pair()
        question = a.new(16)
        for dies in (True, False):
            a.begin("call", b.id, question, 0, -1, 0)
            a.until_it_sleeps()
            if dies:
                self.end(b)
                self.recover_the_dead()
            else:
                self.assertEqual(b.detach(), "ok")
            self.assertEqual(a.end_within(AT_ONCE), "ESRCH")
            b = self.peer("b") if dies else b
        self.assertEqual(a.call(b.id, question, 0, -1, 0), "ESRCH")  # there is nobody
        # And who asked.
        b.attach("b")
        a.begin("call", b.id, question, 0, -1, 0)
        self.assertTrue(b.hearat(0, 0, -1))
        self.end(a)
        self.recover_the_dead()
        self.assertEqual(b.answer(), "ESRCH")
        self.assertEqual(b.drop(question), "ok")
        self.expect_sound()
        self.expect_nothing_left()

    def test_what_is_not_sent_stays(self):
        a, b = self.pair()
        question = a.new(16)
        for _ in range(MAILBOX):
            self.assertEqual(a.send(b.id, question), "ok")
        self.assertEqual(a.call(b.id, question, 0, 0, DROP), "EAGAIN")
        self.assertEqual(a.call(b.id, question, 0, 20, DROP), "ETIMEDOUT")
        self.assertEqual(a.call(12345, question, 0, -1, DROP), "ESRCH")
        self.assertEqual(a.call(b.id, "1000", 0, -1, 0), "EINVAL")
        self.assertEqual(a.refs(question), str(MAILBOX + 1))
        self.expect_sound()
        self.expect_nothing_left()


class CallsInCxx(SharingTest):
    def test_answers_are_values_or_errors(self):
        a, b = self.pair()
        b.begin("grant", 5)
        self.assertEqual(a.callgrant(b.id, 7, 10_000), "70")
        self.assertEqual(a.calldenial(b.id, 7, 10_000), "EPROTOTYPE")
        self.assertEqual(a.callgrant(b.id, 0, 20), "ETIMEDOUT")  # the handler fails
        other = a.new(4)
        self.assertEqual(a.say(b.id, other, 0, int(a.typeof("test.Denial")), 0, 0, DROP), "ok")
        self.assertEqual(a.callgrant(b.id, 3, 10_000), "30")
        self.assertEqual(b.end_of(), "yynny")
        self.assertEqual(a.callgrant(12345, 3, 10_000), "ESRCH")
        self.expect_sound()
        self.expect_nothing_left()

    def test_many_are_under_way_at_once(self):
        a, b = self.pair()
        c = self.peer("c")
        a.begin("asktwo", b.id, c.id, 100_000, 100_000)
        c.begin("grant", 1)
        self.assertEqual(c.end_of(), "y")
        b.begin("grant", 2)
        self.assertEqual((b.end_of(), a.end_of()), ("yy", "30 10 20"))
        # One whose server dies, and one whose time is over.
        a.begin("asktwo", b.id, c.id, 20, 100_000)
        self.assertTrue(c.hearat(0, 0, -1))
        self.end(c)
        self.recover_the_dead()
        said = a.end_of().split()
        self.assertEqual((sorted(said), said.count("ETIMEDOUT")), (["ESRCH", "ETIMEDOUT", "ETIMEDOUT"], 2))
        self.assertEqual([b.hearat(0, 0, 0).split()[2] for _ in range(2)], ["1", "2"])
        self.expect_sound()
        self.expect_nothing_left()


class ReadOnly(SharingTest):
    def faults(self, peer, *command):
        """Ends the peer by a store that it may not make."""
        peer.begin(*command)
        self.assertEqual(peer.process.wait(AT_ONCE), -signal.SIGSEGV)
        self.recover_the_dead()

    def test_a_stray_store_faults_and_changes_nothing(self):
        a, b = self.pair()
        self.assertEqual(b.rdonly(1), "ok")
        address, large = a.new(100), a.new(9 * MIB)
        for sent in (address, large):
            a.write(sent, "theirs")
            self.pass_on(a, b, sent)
            self.assertEqual(b.read(sent), "theirs")
        own = b.new(100)  # what it makes itself is its own, also when it comes back, and chunks that it gets later
        self.pass_on(b, a, own)
        self.pass_on(a, b, own)
        for mine in [own] + [b.new(5 * MIB) for _ in range(3)]:
            self.assertEqual((b.write(mine, "mine"), b.read(mine)), ("mine", "mine"))
            self.assertEqual(b.drop(mine), "ok")
        self.faults(b, "write", address, "x")
        self.assertEqual((a.read(address), a.refs(address)), ("theirs", "1"))
        self.expect_sound()
        self.expect_nothing_left()

    def test_it_can_be_written_again(self):
        a, b = self.pair()
        address = a.new(100)
        self.assertEqual((b.rdonly(1), b.rdonly(1)), ("ok", "ok"))
        self.pass_on(a, b, address)
        self.assertEqual(b.rdonly(0), "ok")
        b.write(address, "both")
        self.assertEqual(a.read(address), "both")
        self.assertEqual((b.rdonly(1), a.rdonly(0)), ("EBUSY", "ok"))
        self.expect_nothing_left()

    def test_who_becomes_the_writer_of_a_group_writes_it(self):
        a, b = self.pair()
        self.assertEqual(b.rdonly(1), "ok")
        group = a.gnew(0)
        self.assertEqual(a.gprolong(group, 10, 40), "ok")
        self.assertEqual(a.send(b.id, group), "ok")
        self.assertTrue(b.recv(0, 0))
        self.assertEqual(b.gprolong(group, 1, 40), "EPERM")
        self.assertEqual(a.ghand(group, b.id), "ok")
        self.assertEqual(b.gprolong(group, 10, 40), "ok")
        self.expect_sound()
        self.expect_nothing_left()


class Peers(SharingTest):
    def test_a_name_is_waited_for(self):
        a = self.peer("a")
        self.assertEqual(a.lookupwait("b", 0), "ENOENT")
        self.assertEqual(a.lookupwait("b", 20), "ETIMEDOUT")
        self.assertEqual(a.lookupwait("a", 0), a.id)
        a.begin("lookupwait", "b", -1)
        a.until_it_sleeps()
        b = self.peer("b")
        self.assertEqual(a.end_within(AT_ONCE), b.id)
        self.expect_nothing_left()

    def test_who_detaches_is_no_peer_and_keeps_what_it_has(self):
        a, b = self.pair()
        held, under_way = a.new(3000), a.new(3000)
        a.write(held, "held")
        self.pass_on(a, b, held)
        self.assertEqual(a.send(b.id, under_way), "ok")
        box = b.mopen()
        own = b.new(100)
        self.pass_on(b, a, own)
        c = self.peer("c")
        c.begin("recv", b.id, -1)
        c.until_it_sleeps()
        self.assertEqual(b.detach(), "ok")
        self.assertEqual(c.end_within(AT_ONCE), "ESRCH")
        self.assertEqual(b.detach(), "ENOTCONN")
        self.assertEqual((a.send(b.id, held), a.send(box, held), a.lookup("b")), ("ESRCH", "ESRCH", "ENOENT"))
        self.assertEqual((b.recv(0, 0), b.send(a.id, held), b.mopen(), b.self()), ("ENOTCONN",) * 3 + ("0",))
        self.assertEqual((a.refs(held), a.refs(under_way)), ("2", "1"))
        self.assertEqual(b.read(held), "held")
        self.assertEqual(c.attach("b"), "ok")  # the name is free
        self.assertEqual(b.attach("b"), "EEXIST")
        self.assertEqual(b.attach("b2"), "ok")
        self.assertEqual(b.self(), b.id)
        self.pass_on(a, b, held)
        self.assertEqual((b.drop(held), b.drop(held), b.drop(own)), ("ok",) * 3)
        self.assertEqual(a.drop(own), "ok")
        self.expect_sound()
        self.expect_nothing_left()

    def test_a_thread_that_waits_is_told_of_a_detach(self):
        a = self.peer("a")
        a.begin("detachbeside")
        self.assertEqual(a.end_within(AT_ONCE), "ENOTCONN")
        self.expect_nothing_left()

    def test_a_descriptor_tells_of_messages_after_a_detach(self):
        a, b = self.pair()
        address = a.new(10)
        self.assertEqual(b.poll(0), "down")
        self.assertEqual(b.detach(), "ok")
        self.assertEqual(b.attach("b"), "ok")
        for _ in range(3):
            self.assertEqual(b.recv(0, 0), "EAGAIN")
            self.assertEqual(a.send(b.id, address), "ok")
            self.assertEqual(b.poll(AT_ONCE * 1000), "up")
            self.assertTrue(b.recv(0, 0).startswith(address))
        self.expect_nothing_left()


if __name__ == "__main__":
    main()
