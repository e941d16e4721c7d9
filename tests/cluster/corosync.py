#!/usr/bin/env python3
"""Tests of --membership corosync: nodes of one pool whose daemons see each other through corosync, each in a network of its own.

Called by ctest: corosync.py TOOLS_DIR PEER [unittest arguments]; for long: long.py. Leaves nothing behind.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [f"{TESTS}/node", f"{TESTS}/sharing"]

from hosts import Cluster, missing  # noqa: E402
from node_test import AEP, end_daemons_in, main  # noqa: E402
from nodes_test import Node, NodesTest  # noqa: E402

# What cuts a machine off: all of its processes end. The file `refuses` says how often it cannot.
FENCE = """#!/bin/sh
home=$(dirname "$0")
echo "$(date +%s.%N) $*" >>"$home/fenced"
left=$(cat "$home/refuses" 2>/dev/null || echo 0)
if [ "$left" -gt 0 ]; then
    echo $((left - 1)) >"$home/refuses"
    exit 7
fi
for pid in $(cat "$home/$1/context/lock") $(cat "$home/$1/pids"); do
    grep -qszF "$home/$1/" "/proc/$pid/environ" "/proc/$pid/cmdline" || continue # it has ended already
    kill -KILL "$pid" 2>/dev/null
    while grep -qs '^State:.[^ZX]' "/proc/$pid/status"; do :; done
done
"""
WHY_NOT = missing()


def said_at(line):
    """When a daemon has said that: the line begins with it."""
    return time.mktime(time.strptime(line[:19], "%Y-%m-%dT%H:%M:%S")) + float(line[19:23])


class Machine(Node):
    """A context in the network of a host."""

    def up(self, *words):
        host = self.test.cluster.hosts[self.number - 1]
        done = subprocess.run(
            host.inside(AEP, "up", *self.where, "--pool", self.test.pool, "--pool-size", "256M", "--provider",
                        self.test.provider, "--node", "auto", "--membership", "corosync", "--lease-ms",
                        str(self.test.lease_ms), "--fence-command", f"{self.test.home}/fence", *words),
            capture_output=True, text=True, timeout=60, check=False)
        self.test.assertEqual(done.returncode, 0, done.stdout + done.stderr + self.log() + host.log())
        return done.stdout

    def peer(self, name=""):
        peer = super().peer(name)
        with open(f"{self.home}/pids", "a", encoding="ascii") as pids:
            pids.write(f"{peer.process.pid}\n")
        return peer

    def status(self):
        """Whatever its exit status says."""
        return json.loads(self.run("status", "--json").stdout)

    def data(self, command):
        """Of a machine that corosync takes for lost for a moment, too."""
        return self.status() if command == "status" else super().data(command)

    def states(self):
        return {node["node"]: node["state"] for node in self.status()["nodes"]}

    def has_quorum(self):
        return self.status()["membership"]["quorum"]

    def whole_log(self):
        with open(self.log_path, encoding="utf-8") as log:
            return log.read()

    def forget_what_was_fenced(self):
        """The processes have been ended: what is left of them is the test's."""
        for peer in self.peers:
            if peer.process.returncode is None:
                peer.end()
        self.peers = []
        open(f"{self.home}/pids", "w", encoding="ascii").close()

    def come_back(self):
        """As a machine does that boots: with nothing of what its memory held."""
        self.forget_what_was_fenced()
        self.run("down", "--force")
        self.up()


@unittest.skipIf(WHY_NOT, WHY_NOT)
class ClusterTest(NodesTest):
    lease_ms, token_ms = 6000, 1000  # a loaded machine is no fault of the cluster
    provider = "rollback"
    patience_s = 30

    def setUp(self):
        self.home = tempfile.mkdtemp(prefix="aep-test-", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.home, True)
        self.addCleanup(end_daemons_in, self, self.home)
        self.pool = f"{self.home}/pool"
        with open(f"{self.home}/fence", "w", encoding="ascii") as script:
            script.write(FENCE)
        os.chmod(f"{self.home}/fence", 0o700)
        self.cluster = Cluster(self.home, self.count, self.token_ms)
        self.addCleanup(self.cluster.close)
        self.nodes = [Machine(self, n) for n in range(1, self.count + 1)]
        for node in self.nodes:
            node.up()

    def until(self, what, sign):
        deadline = time.monotonic() + self.patience_s
        while not sign():
            if time.monotonic() > deadline:
                said = [n.log() + json.dumps(n.status()["nodes"]) for n in self.nodes if n.is_up()]
                self.fail("\n".join([f"never: {what}", *said, *(h.quorum() + h.log() for h in self.cluster.hosts)]))

    def pass_on(self, sender, receiver, address):
        """Between machines in sight of each other. On a loaded machine corosync may take one for lost for a moment; what a call that
        says so was to do has not been done."""
        self.assertEqual(self.again(lambda: sender.send(receiver.id, address)), "ok")
        got = self.again(lambda: receiver.recv(sender.id, 2000)).split()
        self.assertEqual((got[0], got[2]), (address, sender.id))
        return int(got[1])

    def again(self, call):
        answers = []

        def reached():
            answers.append(call())
            return answers[-1] != "ENETUNREACH"

        self.until("it has quorum again", reached)
        return answers[-1]

    def fenced(self):
        """When each call of the fence command was, and its words."""
        if not os.path.exists(f"{self.home}/fenced"):
            return []
        with open(f"{self.home}/fenced", encoding="ascii") as lines:
            return [(float(line.split()[0]), line.split()[1:]) for line in lines]

    def refuse(self, times):
        with open(f"{self.home}/refuses", "w", encoding="ascii") as file:
            file.write(str(times))

    def begin(self):
        """Traffic between all, and what survivors hold of others: [(holder, address, text)]."""
        peers = self.traffic = {node: node.peer() for node in self.nodes}
        for node in self.nodes:
            other = random.choice([p for n, p in peers.items() if n is not node])
            self.assertEqual(peers[node].churn(other.id, random.getrandbits(32)), "going")
        kept = []
        ends = {node: node.peer() for node in self.nodes}
        for giver in self.nodes:
            for holder in self.nodes:
                if giver is not holder:
                    address, text = ends[giver].new(5000), f"of-{giver.number}-for-{holder.number}"
                    ends[giver].write(address, text)
                    self.pass_on(ends[giver], ends[holder], address)
                    kept.append((holder, ends[holder], address, text))
        self.ends = ends
        return kept

    def expect_kept(self, kept, *living):
        """Nothing is lost that one of the living holds, no block is twice somebody's, and what is checked is sound."""
        for holder, peer, address, text in kept:
            if holder in living:
                self.assertEqual(peer.read(address), text)
        for node in living:  # a check needs a quiet moment
            if node in self.traffic:
                self.traffic.pop(node).end()
        for node in living:
            self.assertEqual(node.data("check"), [], node.log())

    def expect_apart(self, *nodes):
        """Without quorum: nothing crosses nodes, and within the node they go on. Nobody was recovered."""
        for node in nodes:
            self.until(f"node {node.number} has no quorum", lambda node=node: not node.has_quorum())
            status = node.run("status", "--json")
            self.assertEqual((json.loads(status.stdout)["state"], status.returncode), ("suspect", 5))
            peer, other = self.ends[node], next(p for n, p in self.ends.items() if n is not node)
            address = peer.new(100)
            self.assertEqual(peer.send(other.id, address), "ENETUNREACH")
            self.assertEqual(peer.recv(other.id, 0), "ENETUNREACH")
            self.assertEqual(peer.send(peer.id, address), "ok")
            self.assertEqual(peer.recv(0, 2000).split()[0], address)
            self.expect_recovered_nobody(node)

    def expect_recovered_nobody(self, *nodes):
        for node in nodes:
            self.assertNotIn("is dead: recovered", node.whole_log())

    def expect_together(self):
        """All live, all can be reached, and nothing is left when all have gone."""
        self.until("all see all", lambda: all(set(n.states().values()) == {"live"} and len(n.states()) == self.count
                                              and n.has_quorum() for n in self.nodes))
        peers = [node.peer() for node in self.nodes]
        for sender in peers:
            for receiver in peers:
                if sender is not receiver:
                    self.pass_on(sender, receiver, sender.new(100))
        self.expect_nothing_left()

    def expect_fenced(self, *victims):
        """The others cut the victims off, one of them, and recover them."""
        living = [node for node in self.nodes if node not in victims]
        numbers = {node.number for node in living}
        self.until("they are recovered", lambda: all(set(n.states()) == numbers for n in living))
        for victim in victims:
            calls = [words for _, words in self.fenced() if words[0] == str(victim.number)]
            self.assertEqual(calls[-1][2], f"host{victim.number}")
        return living


class Three(ClusterTest):
    count = 3

    def test_a_machine_that_is_cut_off_stops_is_fenced_and_comes_back(self):
        kept = self.begin()
        one, two, three = self.nodes
        self.cluster.split((1, 2), (3,))
        # Both sides look; the one that is alone has stopped before the others act.
        self.expect_apart(three)
        stopped = next(line for line in three.whole_log().splitlines() if "no quorum" in line)
        self.expect_fenced(three)
        [(when, words)] = self.fenced()
        self.assertEqual(words, ["3", "1", "host3"])
        self.assertLess(said_at(stopped), when)
        self.expect_kept(kept, one, two)
        self.cluster.heal()
        self.cluster.hosts[2].wait_for(3)
        three.come_back()
        self.expect_together()

    def test_a_command_that_fails_is_given_again_and_nobody_is_recovered_before(self):
        kept = self.begin()
        one, two, three = self.nodes
        self.refuse(2)
        self.cluster.split((1, 2), (3,))
        self.until("it has failed once", lambda: len(self.fenced()) == 1)
        self.assertEqual(set(one.states()), {1, 2, 3})
        self.expect_fenced(three)
        self.assertGreaterEqual(len(self.fenced()), 3)
        self.assertIn("times so far: exit status 7; it is not recovered", one.whole_log() + two.whole_log())
        self.expect_kept(kept, one, two)

    def test_a_daemon_that_is_killed_is_waited_for(self):
        kept = self.begin()
        one, two, three = self.nodes
        two.end_daemon()
        self.until("it is suspect", lambda: one.states()[2] == "suspect")
        self.pass_on(self.ends[one], self.ends[two], self.ends[one].new(100))  # its clients go on
        two.up()
        self.expect_kept(kept, *self.nodes)
        self.assertEqual(self.fenced(), [])
        self.expect_together()

    def test_a_machine_whose_corosync_is_killed(self):
        kept = self.begin()
        one, two, three = self.nodes
        host = self.cluster.hosts[1]
        host.kill_corosync()
        self.expect_apart(two)
        self.expect_fenced(two)
        self.expect_kept(kept, one, three)
        host.start()
        host.wait_for(3)
        two.come_back()
        self.expect_together()

    def test_what_does_not_go_together_is_refused(self):
        one = self.nodes[0]
        one.take_down()
        inside, up = self.cluster.hosts[0].inside, [AEP, "up", *one.where, "--membership", "corosync"]
        pool = ["--pool-size", "64M", "--provider", "none"]
        for words, why in [
                (["--pool", self.pool, "--node", "2"], "corosync's id of this machine is 1"),
                (["--pool", f"{self.home}/short", "--node", "auto", "--lease-ms", "500", *pool],
                 "are too long for the pool's lease of 500 ms"),
                (["--pool", f"{self.home}/other", "--node", "auto", "--cluster", "other", *pool], "and the pool of other"),
                ([], "is about nodes: give --node auto")]:
            done = subprocess.run(inside(*up, *words), capture_output=True, text=True, timeout=60, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(why, done.stderr)
        self.cluster.hosts[0].kill_corosync()
        done = subprocess.run(inside(*up, "--pool", self.pool, "--node", "auto"), capture_output=True, text=True,
                              timeout=60, check=False)
        self.assertIn("does corosync run here?", done.stderr)


class Flapping(ClusterTest):
    count = 3
    lease_ms = 20000  # all of what happens here is shorter

    def test_links_that_come_and_go_are_no_death(self):
        kept = self.begin()
        three = self.nodes[2]
        for _ in range(4):
            self.cluster.split((1, 2), (3,))
            self.until("it has no quorum", lambda: not three.has_quorum())
            self.cluster.heal()
            self.until("it has quorum", three.has_quorum)
            self.pass_on(self.ends[three], self.ends[self.nodes[0]], self.ends[three].new(100))
        self.expect_kept(kept, *self.nodes)
        self.assertEqual(self.fenced(), [])
        self.expect_together()


class Five(ClusterTest):
    count = 5

    def test_parts_without_quorum_wait_and_one_with_quorum_goes_on(self):
        kept = self.begin()
        self.cluster.split((1, 2), (3, 4), (5,))
        self.expect_apart(*self.nodes)
        until = time.monotonic() + 1.5 * self.lease_ms / 1000  # when one with quorum would have acted
        while time.monotonic() < until:
            self.assertFalse(any(node.has_quorum() for node in self.nodes))
        self.assertEqual(self.fenced(), [])
        self.expect_recovered_nobody(*self.nodes)
        self.cluster.heal()
        self.until("all have quorum", lambda: all(n.has_quorum() for n in self.nodes))
        self.expect_kept(kept, *self.nodes)
        self.cluster.split((1, 2, 3), (4, 5))
        self.expect_apart(*self.nodes[3:])
        living = self.expect_fenced(*self.nodes[3:])
        self.expect_kept(kept, *living)
        self.cluster.heal()
        for host in self.cluster.hosts:
            host.wait_for(5)
        for node in self.nodes[3:]:
            node.come_back()
        self.expect_together()


if __name__ == "__main__":
    main()
