#!/usr/bin/env python3
"""Tests of what a sender says of its messages: tags, types and versions; and of how a send waits and lets go.

Called by ctest: labels.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

from sharing import AT_ONCE, MAILBOX, SharingTest

from node_test import main

DROP = 1
ODD = (1 << 64) - 3


class Labels(SharingTest):
    def test_a_label_arrives_as_it_was_said(self):
        a, b = self.pair()
        address = a.new(40)
        for tag, kind, version in [(0, 0, 0), (1, 2, 3), (ODD, ODD - 1, (1 << 32) - 1)]:
            self.assertEqual(a.say(b.id, address, tag, kind, version, 0, 0), "ok")
            self.assertEqual(b.hear(a.id, 0).split(), [address, a.id, str(tag), str(kind), str(version)])
        self.assertEqual(a.send(b.id, address), "ok")  # says nothing
        self.assertEqual(b.hear(0, 0).split(), [address, a.id, "0", "0", "0"])
        # A program that knows less of it, or nothing.
        for size in (0, 8, 24, 40):
            self.assertEqual(a.say(b.id, address, 1, 2, 3, 0, 0), "ok")
            self.assertEqual(b.hearless(0, size), a.id if size else str(0x7777777777777777))
        self.assertEqual(a.say(b.id, address, 1, 2, 3, 0, 0), "ok")
        self.assertTrue(b.recv(0, 0).startswith(address))
        self.assertEqual(a.say(b.id, address, 0, 0, 0, 0, 2), "EINVAL")  # a flag that is none
        self.expect_sound()
        self.expect_nothing_left()

    def test_the_order_and_the_labels_stay_when_one_is_taken_from_between(self):
        a, b = self.pair()
        c = self.peer("c")
        mine, theirs = a.new(16), c.new(16)
        for i in range(MAILBOX - 1):
            self.assertEqual(a.say(b.id, mine, i, i + 1000, i + 2000, 0, 0), "ok")
        self.assertEqual(c.say(b.id, theirs, 1, 2, 3, 0, 0), "ok")
        self.assertEqual(b.hear(c.id, 0).split(), [theirs, c.id, "1", "2", "3"])
        for i in range(MAILBOX - 1):
            self.assertEqual(b.hear(0, 0).split(), [mine, a.id, str(i), str(i + 1000), str(i + 2000)])
        self.expect_sound()
        self.expect_nothing_left()

    def test_what_a_receiver_expects(self):
        a, b = self.pair()
        address = a.new(40)
        kind = int(a.typeof("shop.Order"))
        self.assertEqual(b.typeof("shop.Order"), str(kind))
        self.assertNotEqual(b.typeof("shop.Offer"), str(kind))
        self.assertEqual(a.say(b.id, address, 0, kind, 4, 0, 0), "ok")
        b.hear(0, 0)
        self.assertEqual([b.fits(kind, 4, 40), b.fits(kind, 5, 40), b.fits(kind + 1, 4, 40), b.fits(kind, 4, 1000)],
                         ["ok", "EPROTOTYPE", "EPROTOTYPE", "EMSGSIZE"])
        self.assertEqual(a.say(b.id, address, 0, 0, 9, 0, 0), "ok")  # it says nothing of its type
        b.hear(0, 0)
        self.assertEqual([b.fits(kind, 4, 40), b.fits(kind, 4, 1000)], ["ok", "EMSGSIZE"])
        self.expect_nothing_left()

    def test_handles_refuse_another_type_or_version(self):
        a, b = self.pair()
        self.assertEqual(a.agree(), "ok")
        for given in ("apple", "later", "pear"):
            for taken in ("apple", "later", "pear"):
                self.assertEqual(a.give(b.id, given, 12), "ok")
                self.assertEqual(b.take(taken), "12 12" if given == taken else "EPROTOTYPE")
        self.assertEqual(b.take("apple"), "none")
        plain = a.new(8)  # of a program in C, which says nothing
        self.assertEqual(a.send(b.id, plain), "ok")
        self.assertTrue(b.take("pear").endswith(" 0"))
        for taken, said in [("apple", "5 7"), ("later", "EPROTOTYPE"), ("pear", "EPROTOTYPE")]:
            self.assertEqual(a.givegroup(b.id, 5), "ok")
            self.assertEqual(b.takegroup(taken), said)
        self.assertEqual(a.drop(plain), "ok")
        self.assertEqual(a.recv(0, 0), "EAGAIN")  # takes back what came back
        self.assertEqual(self.data("status")["sharing"]["objects"], 0)  # what was refused is gone
        self.expect_sound()
        self.expect_nothing_left()

    def test_a_reference_goes_with_the_message(self):
        a, b = self.pair()
        for size in (16, 5000, 3_000_000):
            address = a.new(size)
            a.write(address, "gone")
            self.assertEqual(a.say(b.id, address, 0, 0, 0, 0, DROP), "ok")
            self.assertEqual(a.drop(address), "EINVAL")
            self.assertEqual(b.hear(0, 0).split()[0], address)
            self.assertEqual((b.refs(address), b.read(address)), ("1", "gone"))
            self.assertEqual(b.say(a.id, address, 0, 0, 0, 0, DROP), "ok")  # back, by who received it
            self.assertEqual(b.drop(address), "EINVAL")
            self.assertEqual(a.hear(0, 0).split()[0], address)
            self.assertEqual(a.drop(address), "ok")
        group = a.gnew(0)
        self.assertEqual(a.gprolong(group, 10, 40), "ok")
        self.assertEqual(a.say(b.id, group, 0, 0, 0, 0, DROP), "ok")
        self.assertEqual(a.groot(group), "EINVAL")
        # What is not sent stays.
        address = a.new(10)
        self.assertEqual(a.say(12345, address, 0, 0, 0, 0, DROP), "ESRCH")
        for _ in range(MAILBOX - 1):
            self.assertEqual(a.send(b.id, address), "ok")
        self.assertEqual(a.say(b.id, address, 0, 0, 0, 0, DROP), "EAGAIN")
        self.assertEqual(a.say(b.id, address, 0, 0, 0, 20, DROP), "ETIMEDOUT")
        self.assertEqual(a.refs(address), str(MAILBOX))
        self.assertEqual(a.drop(address), "ok")
        self.expect_sound()
        self.expect_nothing_left()

    def test_what_cannot_be_sent_is_told_at_once(self):
        a, b = self.pair()
        address, received = a.new(100), b.new(10)
        self.pass_on(b, a, received)
        for _ in range(MAILBOX):
            self.assertEqual(a.send(b.id, address), "ok")
        dropped = a.new(50)
        self.assertEqual(a.drop(dropped), "ok")
        self.assertEqual(a.drop(received), "ok")
        for bad in (dropped, received, hex(int(address, 16) + 16), "1000", "ffffffffffffffff"):
            self.assertEqual(a.send(b.id, bad), "EINVAL", bad)
            a.begin("sendwait", b.id, bad, -1)
            self.assertEqual(a.end_within(AT_ONCE), "EINVAL", bad)
        fresh = a.new(10)  # which was never sent is no reason not to wait
        self.assertEqual(a.send(b.id, fresh), "EAGAIN")
        self.assertEqual(a.refs(fresh), "0")
        self.expect_sound()
        self.expect_nothing_left()

    def test_arguments_that_make_no_sense(self):
        a = self.peer("a")
        a.begin("arguments")
        self.assertEqual(a.end_within(AT_ONCE), "ok")
        self.expect_sound()
        self.expect_nothing_left()

    def test_a_handler_prolongs_no_wait(self):
        a, b = self.pair()
        b.begin("interrupted")
        self.assertEqual(b.end_within(AT_ONCE), "none")
        address = a.new(16)
        for _ in range(MAILBOX):
            self.assertEqual(a.send(b.id, address), "ok")
        a.begin("interrupted", b.id, address)
        self.assertEqual(a.end_within(AT_ONCE), "ETIMEDOUT")
        self.expect_sound()
        self.expect_nothing_left()


if __name__ == "__main__":
    main()
