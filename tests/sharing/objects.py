#!/usr/bin/env python3
"""Tests of `aep objects`: who holds what of whom, with dead owners, groups, mailboxes and damaged tables.

Called by ctest: objects.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

import json
import subprocess

from groups import GroupTest
from node_test import AEP, main


class Objects(GroupTest):
    pool_size = "2G"  # some 16 MiB for each of 67 clients

    def objects(self, *options):
        return self.data("objects", *options)

    def of(self, client, told=None):
        return next(c for c in (told or self.objects())["clients"] if c["pid"] == client.process.pid)

    def held_by(self, told):
        """{pid: (references, messages)} of an object."""
        return {h["pid"]: (h["references"], h["messages"]) for h in told["held_by"]}

    def test_nothing_is_shared(self):
        told = self.objects()
        self.assertEqual((told["all"], told["largest"], told["clients"]), ({"objects": 0, "bytes": 0}, [], []))
        self.assertTrue(told["complete"] and told["quiet"])
        self.assertIn("shared         0 objects, 0 B", self.good("objects"))

    def test_owner_holders_and_mailbox(self):
        a, b = self.pair()
        small, large = a.malloc(1000), a.malloc(100_000)
        for address in [small, large]:
            self.pass_on(a, b, address)
        self.assertEqual(a.send(b.id, large), "ok")
        told = self.objects()
        self.assertEqual([o["address"] for o in told["largest"]], [int(large, 16), int(small, 16)])
        first = told["largest"][0]
        self.assertEqual((first["owner"]["pid"], first["owner_is"]), (a.process.pid, "living"))
        self.assertEqual(self.held_by(first), {a.process.pid: (1, 0), b.process.pid: (2, 1)})
        self.assertEqual((first["references"], first["holders"]), (3, 2))
        self.assertGreaterEqual(first["bytes"], 100_000)
        own, others = self.of(a, told), self.of(b, told)
        self.assertEqual((own["attached_as"], own["objects_owned"], own["objects_held"]), ("a", 2, 2))
        self.assertEqual((others["objects_owned"], others["objects_held"], others["messages"]), (0, 2, 1))
        self.assertEqual(others["message_bytes"], first["bytes"])
        self.assertEqual(others["bytes_held"], told["all"]["bytes"])
        row = next(c for c in self.data("clients") if c["pid"] == b.process.pid)
        self.assertEqual((row["attached_as"], row["messages"], row["message_bytes"]), ("b", 1, first["bytes"]))
        self.assertEqual((row["sent"], row["received"]), (0, 2))
        text = self.good("objects", "--most", "1")
        self.assertIn(f"pid {b.process.pid}): 2 references, 1 of them in its mailbox", text)
        self.assertNotIn(f"{int(small, 16):#014x}", text)

    def test_messages_a_second_of_each_client(self):
        a, b = self.pair()
        address = a.malloc(1000)
        with subprocess.Popen([AEP, "clients", *self.where, "--json", "--over", "0.5"], stdout=subprocess.PIPE, text=True) as look:
            while look.poll() is None:
                self.pass_on(a, b, address)
            rows = {row["pid"]: row for row in json.loads(look.stdout.read())}
        sender, receiver = rows[a.process.pid], rows[b.process.pid]
        self.assertGreater(sender["sent_a_second"], 2)
        self.assertEqual(sender["received_a_second"], 0.0)
        self.assertGreater(receiver["received_a_second"], 2)
        self.assertEqual(receiver["sent_a_second"], 0.0)
        self.assertRegex(self.good("clients"), r"op/s +sent/s +recv/s +heap")

    def test_what_the_dead_leave(self):
        a, b = self.pair()
        address = a.malloc(50_000)
        self.pass_on(a, b, address)
        self.end(a)
        told = self.objects()
        self.assertEqual(told["of_dead_owners"], told["all"])
        self.assertEqual(told["largest"][0]["owner_is"], "dead")
        self.assertEqual(self.held_by(told["largest"][0]), {b.process.pid: (1, 0)})
        self.assertIn("owner dead", self.good("objects"))
        self.assertEqual(b.drop(address), "ok")
        self.assertEqual(self.objects()["all"]["objects"], 0)

    def test_a_group_is_one_object(self):
        a, b = self.pair()
        group, root = self.list_of(a, 100, 5000)
        self.pass_root(a, b, group, root)
        told = self.objects()
        self.assertEqual((told["groups"], told["all"]["objects"]), (1, 1))
        one = told["largest"][0]
        self.assertTrue(one["group"])
        self.assertGreater(one["extents"], 1)
        self.assertEqual(one["bytes"], told["all"]["bytes"])
        self.assertGreaterEqual(one["bytes"], 100 * 5000)
        self.assertEqual(one["writer"], one["owner"]["client"])
        self.assertEqual(self.held_by(one), {a.process.pid: (1, 0), b.process.pid: (1, 0)})

    def test_what_is_kept_for_readers(self):
        a, b = self.pair()
        group, root = self.list_of(a, 3, 500)
        self.pass_root(a, b, group, root)
        told = self.objects()
        self.assertEqual((told["deferred"], told["largest"][0]["deferred_bytes"]), ({"objects": 0, "bytes": 0}, 0))
        self.assertNotIn("kept for readers\n", self.good("objects").partition("The largest")[2])
        self.assertEqual(a.greplace(group, 20), "ok")
        facts = dict(zip(("bytes", "deferred"), map(int, a.gfacts(group).split())))
        self.assertGreater(facts["deferred"], 0)
        told = self.objects()
        self.assertEqual(told["deferred"], {"objects": 1, "bytes": facts["deferred"]})
        self.assertEqual(told["largest"][0]["deferred_bytes"], facts["deferred"])
        self.assertRegex(self.good("objects"), r"deferred +1 objects, .* of groups: freed by their writers, kept for readers")
        self.assertRegex(self.good("objects"), r"group of \d+ extents, owner .*, .* of it freed and kept for readers")

    def test_a_group_that_says_nonsense_of_itself(self):
        """Its memory is its holders' to write."""
        a, b = self.pair()
        group, root = self.list_of(a, 3, 500)
        self.pass_root(a, b, group, root)
        for place in range(0, 512, 8):  # of its header
            self.assertEqual(b.put(f"{int(group, 16) + place:#x}", 2**64 - 1), "ok")
        [one] = self.objects()["largest"]
        self.assertEqual(one["deferred_bytes"], one["bytes"])

    def test_more_hold_it_than_are_listed(self):
        """Each is counted once, also one that has references and messages."""
        a = self.peer("a")
        address = a.malloc(5000)
        others = [self.peer() for _ in range(66)]
        for peer in others:
            self.pass_on(a, peer, address)
            self.assertEqual(a.send(peer.id, address), "ok")
        [one] = self.objects()["largest"]
        self.assertEqual((one["holders"], len(one["held_by"]), one["references"]), (67, 64, 1 + 2 * 66))
        self.assertEqual({(h["references"], h["messages"]) for h in one["held_by"]}, {(1, 0), (2, 1)})
        self.assertIn("and 3 clients more", self.good("objects"))

    def test_how_many_are_named(self):
        a, b = self.pair()
        for size in range(1, 31):
            self.pass_on(a, b, a.malloc(size * 1000))
        self.assertEqual(len(self.objects()["largest"]), 20)
        self.assertEqual(len(self.objects("--most", "100")["largest"]), 30)
        self.assertEqual(self.objects("--most", "0")["largest"], [])
        sizes = [o["bytes"] for o in self.objects()["largest"]]
        self.assertEqual(sizes, sorted(sizes, reverse=True))
        self.assertEqual(self.aep("objects", "--most", "10001").returncode, 2)


if __name__ == "__main__":
    main()
