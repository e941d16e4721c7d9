#!/usr/bin/env python3
"""Tests of what pacemaker has to do with a context: the resource agent packaging/ocf/aep, and fencing by it.

Called by ctest: agent.py TOOLS_DIR NODE_CLIENT [unittest arguments]. Needs no cluster. Leaves nothing behind.
"""

import os
import shutil
import subprocess
import sys
import unittest
import xml.etree.ElementTree

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, f"{TESTS}/node")

from node_test import AEP, NodeTest, main  # noqa: E402

AGENT = f"{os.path.dirname(TESTS)}/packaging/ocf/aep"
DTD = "/usr/share/resource-agents/ra-api-1.dtd"
SUCCESS, GENERIC, UNIMPLEMENTED, CONFIGURED, NOT_RUNNING = 0, 1, 3, 6, 7


class Agent(NodeTest):
    def setUp(self):
        super().setUp()
        # The command line as the agent calls it, in this test's places.
        self.program = f"{self.home}/aep"
        with open(self.program, "w", encoding="ascii") as file:
            where = " ".join(self.where)
            file.write(f'#!/bin/sh\ncommand=$1\nshift\nexec {os.path.abspath(AEP)} "$command" {where} "$@"\n')
        os.chmod(self.program, 0o700)
        self.pool = f"{self.home}/pool"

    def act(self, action, **parameters):
        given = {"context": "default", "pool": self.pool, "aep": self.program,
                 "options": "--pool-size 64M --provider none --node 1", **parameters}
        env = dict(os.environ, **{f"OCF_RESKEY_{name}": value for name, value in given.items()})
        return subprocess.run([AGENT, action], env=env, capture_output=True, text=True, timeout=60, check=False)

    def expect(self, status, action, **parameters):
        done = self.act(action, **parameters)
        self.assertEqual(done.returncode, status, action + done.stdout + done.stderr)

    def test_starts_watches_and_stops_a_context(self):
        self.expect(NOT_RUNNING, "monitor")
        self.expect(SUCCESS, "stop")
        for _ in range(2):
            self.expect(SUCCESS, "start")
            self.expect(SUCCESS, "monitor")
        client = self.client()
        self.expect(GENERIC, "stop")  # programs live: nothing is taken from them
        client.end()
        self.good("recover")
        self.expect(SUCCESS, "stop")
        self.expect(NOT_RUNNING, "monitor")

    def test_a_poisoned_context_has_failed_and_goes_by_force(self):
        self.expect(SUCCESS, "start")
        client = self.client()
        client.ask("inside 1")
        client.end()
        self.good("recover")
        self.assertEqual(self.aep("status").returncode, 3)
        self.expect(GENERIC, "monitor")
        self.expect(SUCCESS, "stop")
        self.expect(NOT_RUNNING, "monitor")

    def test_what_it_cannot_do_is_said_as_pacemaker_wants_it(self):
        self.expect(CONFIGURED, "start", pool="")
        self.expect(CONFIGURED, "validate-all", pool="")
        self.expect(5, "validate-all", aep=f"{self.home}/none")
        self.expect(SUCCESS, "validate-all")
        self.expect(UNIMPLEMENTED, "promote")
        self.expect(GENERIC, "start", options="--node 1")  # there is no pool

    def test_its_metadata_is_what_the_interface_asks_for(self):
        text = self.act("meta-data").stdout
        actions = {a.get("name") for a in xml.etree.ElementTree.fromstring(text).iter("action")}
        self.assertEqual(actions, {"start", "stop", "monitor", "meta-data", "validate-all"})
        if shutil.which("xmllint") is None or not os.path.exists(DTD):
            raise unittest.SkipTest("no xmllint (libxml2-utils), or no ra-api-1.dtd (resource-agents)")
        checked = subprocess.run(["xmllint", "--noout", "--nonet", "--dtdvalid", DTD, "-"], input=text,
                                 capture_output=True, text=True, check=False)
        self.assertEqual(checked.returncode, 0, checked.stderr)

    def test_pacemaker_reads_its_metadata(self):
        if shutil.which("crm_resource") is None:
            raise unittest.SkipTest("no crm_resource (package pacemaker-cli-utils)")
        if os.geteuid() != 0:
            raise unittest.SkipTest("a mount namespace needs root")
        # Where pacemaker looks for agents, seen by this command alone.
        script = ("mount --make-rprivate / && mount -t tmpfs tmpfs /usr/lib/ocf/resource.d && "
                  f"install -D {AGENT} /usr/lib/ocf/resource.d/aep/aep && crm_resource --show-metadata ocf:aep:aep")
        done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=60,
                              check=False)
        if done.returncode != 0 and ("unshare:" in done.stderr or "mount:" in done.stderr):
            raise unittest.SkipTest(done.stderr)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn('<resource-agent name="aep"', done.stdout)


if __name__ == "__main__":
    main()
