#!/usr/bin/env python3
"""Tests with pacemaker itself: it starts the nodes' daemons by packaging/ocf/aep, and fences what is lost (--fence pacemaker).

Called by ci/cluster.sh: pacemaker.py TOOLS_DIR PEER [unittest arguments]. Each host is a machine of its own to pacemaker (machines.py), which is
told what to do by pcs, as docs/guide/cluster.md has it. Leaves nothing behind.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [f"{TESTS}/node", f"{TESTS}/sharing"]

import corosync  # noqa: E402
import machines  # noqa: E402
from hosts import Cluster  # noqa: E402
from node_test import AEP, main  # noqa: E402
from peer import Peer  # noqa: E402

AGENT = f"{os.path.dirname(TESTS)}/packaging/ocf/aep"
CONTEXT = "shop"
FENCE = f"#!/bin/sh\nexec /usr/bin/python3 {TESTS}/cluster/fence_machine.py {{home}}\n"
WHY_NOT = machines.missing()


class Node(corosync.Machine):
    """A context that pacemaker has started on a machine, with its files where a context has them by default."""

    def __init__(self, test, number):
        super().__init__(test, number)
        self.host = test.cluster.hosts[number - 1]
        self.where = ["--context", CONTEXT]
        self.socket = f"/run/aep/{CONTEXT}/socket"
        self.log_path = f"{self.host.home}/run/aep/{CONTEXT}/log"

    def run(self, command, *words):
        return subprocess.run(self.host.inside(os.path.abspath(AEP), command, *self.where, *words), capture_output=True,
                              text=True, timeout=60, check=False)

    def peer(self, name=""):
        peer = Peer(self.socket, self.host.inside())
        self.peers.append(peer)
        self.test.assertEqual(peer.attach(name), "ok")
        peer.id = peer.self()
        return peer

    def daemon_pid(self):
        return int(self.host.run("cat", f"/dev/shm/aep-0-{CONTEXT}/lock"))

    def is_up(self):
        return self.host.is_on() and self.run("status").returncode in (0, 5)

    def forget_peers(self):
        for peer in self.peers:
            if peer.process.returncode is None:
                peer.end()
        self.peers = []


@unittest.skipIf(WHY_NOT, WHY_NOT)
class PacemakerTest(corosync.ClusterTest):
    count = 3
    patience_s = 60  # what is waited for is the work of a dozen programs
    named = True  # corosync's configuration names the machines

    def setUp(self):
        self.home = tempfile.mkdtemp(prefix="aep-test-", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.home, True)
        self.pool = f"{self.home}/pool"
        self.install(f"{self.home}/sbin/fence_machine", FENCE.format(home=self.home))
        with open(AGENT, encoding="ascii") as agent:
            self.install(f"{self.home}/ocf/aep/aep", agent.read())
        self.cluster = Cluster(self.home, self.count, self.token_ms, machines.Machine, self.named)
        self.addCleanup(self.cluster.close)
        self.nodes = [Node(self, n) for n in range(1, self.count + 1)]
        for host in self.cluster.hosts:
            host.start_pacemaker()
        for host in self.cluster.hosts:
            host.wait_for_pacemaker(*self.cluster.hosts)
        self.pcs("property", "set", "stonith-enabled=true")
        names = " ".join(host.name for host in self.cluster.hosts)
        self.pcs("stonith", "create", "switch", "fence_machine", f"pcmk_host_list={names}", "pcmk_reboot_retries=1")
        self.pcs("resource", "create", CONTEXT, "ocf:aep:aep", f"context={CONTEXT}", f"pool={self.pool}",
                 f"aep={os.path.abspath(AEP)}", "options=" + " ".join(self.options()), "op", "monitor", "interval=1s",
                 "clone", "interleave=true")
        self.until("contexts are up", self.all_are_up)

    def tearDown(self):
        for node in self.nodes:
            node.forget_peers()

    @staticmethod
    def install(path, text):
        os.makedirs(os.path.dirname(path))
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(path, 0o755)

    def options(self):
        return ["--pool-size", "256M", "--provider", self.provider, "--lease-ms", str(self.lease_ms), "--membership", "corosync",
                "--node", "auto", "--fence", "pacemaker"]

    def host(self):
        """One that is on."""
        return next(host for host in self.cluster.hosts if host.is_on())

    def pcs(self, *words):
        return self.host().run("pcs", *words)

    def started(self):
        """The numbers of the machines where pacemaker says that the context is started."""
        return {int(node.get("name").removeprefix("host")) for resource in self.host().state().iter("resource")
                if resource.get("id") == CONTEXT and resource.get("role") == "Started" and resource.get("failed") == "false"
                for node in resource.iter("node")}

    def all_are_up(self):
        return self.started() == {node.number for node in self.nodes} and all(node.is_up() for node in self.nodes)

    def fenced(self):
        """What pacemaker's agent has done: [(when, action, machine, how it ended)]."""
        with contextlib.suppress(FileNotFoundError), open(f"{self.home}/fenced", encoding="ascii") as lines:
            return [(float(line.split()[0]), *line.split()[1:]) for line in lines]
        return []

    def history(self, name):
        """What pacemaker reports of the fencing of a machine: [(action, status, when it had been completed)]."""
        said = xml.etree.ElementTree.fromstring(self.host().run("stonith_admin", "--history", name, "--output-as=xml"))
        return [(event.get("action"), event.get("status"), event.get("completed")) for event in said.iter("fence_event")]

    def failures(self, node):
        """What pacemaker has seen fail there: [(operation, why)]."""
        return [(failure.get("op_key"), failure.get("exitstatus")) for failure in self.host().state().iter("failure")
                if failure.get("node") == node.host.name]

    def said(self, nodes, text):
        """The lines of their daemons' logs with that text."""
        return [line for node in nodes for line in node.whole_log().splitlines() if text in line]

    def expect_recovered(self, victim):
        """The others recover it once, after pacemaker has reported that it is fenced."""
        living = [node for node in self.nodes if node is not victim]
        self.until("it is recovered", lambda: all(set(n.states()) == {m.number for m in living} for n in living))
        [done] = [when for when, _, name, how in self.fenced() if (name, how) == (victim.host.name, "done")]
        [line] = self.said(living, "is dead: recovered")
        self.assertLess(done, corosync.said_at(line), line)
        self.assertIn("success", [status for _, status, _ in self.history(victim.host.name)])
        return living

    def boot(self, node):
        """It has been switched off, and on again: pacemaker starts there what is to run there."""
        node.host.switch_off()  # what the test has to see ended
        node.forget_peers()
        node.host.start()
        node.host.wait_for(self.count)
        node.host.start_pacemaker()
        node.host.wait_for_pacemaker(*self.cluster.hosts)
        self.until("its context is up", node.is_up)


class Fencing(PacemakerTest):
    def test_a_machine_that_dies_is_recovered_when_pacemaker_has_fenced_it_and_not_before(self):
        kept = self.begin()
        one, two, three = self.nodes
        os.mkfifo(f"{self.home}/holds")
        three.host.switch_off()
        self.until("it is asked for", lambda: self.said((one, two), "is to be cut off: by pacemaker"))
        for node in (one, two):
            self.until("it is suspect", lambda node=node: node.states()[3] == "suspect")
        self.expect_recovered_nobody(one, two)
        self.assertEqual(self.fenced(), [])
        with open(f"{self.home}/holds", "r+b", buffering=0):  # whoever waits goes on
            os.unlink(f"{self.home}/holds")
        self.expect_recovered(three)
        self.assertEqual([what[1:] for what in self.fenced()], [("reboot", "host3", "done")])
        self.expect_kept(kept, one, two)
        self.boot(three)
        self.expect_together()
        # Once more. That the machine was fenced in its former life counts for nothing; that people say so does.
        open(f"{self.home}/refuses", "w", encoding="ascii").close()
        three.host.switch_off()
        self.until("it could not be fenced", lambda: self.said((one, two), "could not be cut off"))
        self.assertEqual(one.states()[3], "suspect")
        self.pcs("stonith", "confirm", "host3", "--force")
        self.until("it is recovered", lambda: set(one.states()) == {1, 2})


class Refused(PacemakerTest):
    named = False  # pacemaker has the names from the machines themselves

    def test_nobody_is_recovered_while_pacemaker_cannot_fence(self):
        kept = self.begin()
        one, two, three = self.nodes
        self.pcs("property", "set", "stonith-action=off")
        open(f"{self.home}/refuses", "w", encoding="ascii").close()
        self.cluster.split((1, 2), (3,))
        self.expect_apart(three)
        self.until("it has failed twice", lambda: self.said((one, two), "could not be cut off, 2 times so far"))
        self.assertEqual({one.states()[3], two.states()[3]}, {"suspect"})
        self.expect_recovered_nobody(one, two)
        os.unlink(f"{self.home}/refuses")
        living = self.expect_recovered(three)
        # What the cluster's property says, with the name that pacemaker has for the machine.
        self.assertEqual({what[1:3] for what in self.fenced()}, {("off", "host3")})
        self.expect_kept(kept, *living)


class Resource(PacemakerTest):
    def test_pacemaker_watches_restarts_stops_and_starts_contexts(self):
        self.expect_described()
        kept = self.begin()
        two = self.nodes[1]
        two.end_daemon()
        self.until("pacemaker has seen it", lambda: self.failures(two) == [(f"{CONTEXT}_monitor_1000", "not running")])
        self.until("it is up again", self.all_are_up)
        self.expect_kept(kept, *self.nodes)
        self.expect_together()
        self.pcs("resource", "disable", f"{CONTEXT}-clone")
        self.until("contexts are down", lambda: self.started() == set() and not any(node.is_up() for node in self.nodes))
        self.pcs("resource", "enable", f"{CONTEXT}-clone")
        self.until("contexts are up", self.all_are_up)
        self.assertEqual(self.fenced(), [])
        # Programs live, so it cannot be stopped: pacemaker fences the machine, and we do not ask for it once more.
        kept = self.begin()
        self.pcs("node", "standby", two.host.name)
        living = self.expect_recovered(two)
        self.assertEqual([what[1:] for what in self.fenced()], [("reboot", two.host.name, "done")])
        self.expect_kept(kept, *living)

    def expect_described(self):
        said = self.pcs("resource", "describe", "ocf:aep:aep")
        for word in ("context", "pool (required)", "options", "monitor:"):
            self.assertIn(word, said)


if __name__ == "__main__":
    main()
