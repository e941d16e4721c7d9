#!/usr/bin/env python3
"""Tests of what pacemaker has to do with a context, each by itself: the resource agent packaging/ocf/aep, and what asks pacemaker to
fence (tools/corosync/aep-fence-pacemaker.sh). With pacemaker itself: pacemaker.py.

Called by ctest: agent.py TOOLS_DIR NODE_CLIENT [unittest arguments]. Needs no cluster. Leaves nothing behind.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, f"{TESTS}/node")

from node_test import AEP, TOOLS, NodeTest, main  # noqa: E402

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


# What pacemaker 2.1.5 says; {when} is the wall clock's.
EVENT = ('    <fence_event action="{action}" target="host3" client="{client}" origin="host1" status="{status}" delegate="{by}" '
         'completed="{when}Z"/>\n')
HISTORY = """<pacemaker-result api-version="2.25" request="stonith_admin --history host3 --verbose --output-as=xml">
  <list name="fencing history" count="{count}">
{events}  </list>
  <status code="0" message="OK"/>
</pacemaker-result>
"""
# Instead of pacemaker's programs: they say what is in files, and who asks for fencing is written down.
TOOL = {"crm_node": """#!/bin/sh
[ "$*" = --name-for-id=3 ] || exit 64
cat "$0.says" 2>/dev/null && exit 0
echo "Node is not known to cluster" >&2
exit 68
""", "crm_attribute": """#!/bin/sh
[ "$*" = "--type=crm_config --name=stonith-action --query --quiet --default=reboot" ] || exit 64
cat "$0.says"
""", "stonith_admin": """#!/bin/sh
case $* in
"--history host3 --verbose --output-as=xml") cat "$0.says" ;;
*) echo "$*" >>"$0.asked" && exit "$(cat "$0.ends")" ;;
esac
"""}


class FencingByPacemaker(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.mkdtemp(prefix="aep-test-", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.home)
        for name, text in TOOL.items():
            self.write(name, text)
            os.chmod(f"{self.home}/{name}", 0o700)
        self.write("crm_node.says", "host3\n")
        self.write("crm_attribute.says", "reboot\n")
        self.write("stonith_admin.ends", "0")
        self.happened()

    def write(self, name, text):
        with open(f"{self.home}/{name}", "w", encoding="ascii") as file:
            file.write(text)

    def happened(self, *events):
        """What pacemaker reports, the last first: (action, how it ended, so many seconds ago)."""
        told = [EVENT.format(action=action, status=status, client="pacemaker-controld.9915", by="host1",
                             when=time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() - ago)))
                for action, status, ago in events]
        self.write("stonith_admin.says", HISTORY.format(count=len(told), events="".join(told)))

    def fence(self, host="host3", seconds=20):
        """Its exit status, and what it has asked stonith_admin for."""
        done = subprocess.run([f"{TOOLS}/aep-fence-pacemaker", "3", "1", host, str(seconds), "60"], capture_output=True, text=True,
                              env=dict(os.environ, PATH=f"{self.home}:{os.environ['PATH']}"), timeout=60, check=False)
        asked = f"{self.home}/stonith_admin.asked"
        if not os.path.exists(asked):
            return done.returncode, None
        with open(asked, encoding="ascii") as lines:
            [line] = lines.read().splitlines()
        os.unlink(asked)
        return done.returncode, line

    def test_what_pacemaker_has_fenced_is_not_fenced_again(self):
        for events in ([("reboot", "success", 5)], [("off", "success", 5)], [("on", "success", 1), ("off", "success", 5)],
                       [("reboot", "failed", 1), ("reboot", "success", 5), ("reboot", "success", 500)]):
            self.happened(*events)
            self.assertEqual(self.fence(), (0, None), events)

    def test_what_it_has_not_fenced_is_asked_for(self):
        asked = "--reboot host3 --tolerance=20s --timeout=60"
        for events in ([], [("reboot", "success", 50)], [("on", "success", 5)], [("reboot", "failed", 5)],
                       [("reboot", "pending", 5)]):
            for status in (0, 1):
                self.write("stonith_admin.ends", str(status))
                self.happened(*events)
                self.assertEqual(self.fence(), (status, asked), events)

    def test_the_cluster_says_which_action_and_which_name(self):
        self.write("crm_attribute.says", "off\n")
        self.assertEqual(self.fence("10.77.0.3"), (0, "--fence host3 --tolerance=20s --timeout=60"))
        os.unlink(f"{self.home}/crm_node.says")  # pacemaker does not know it yet
        self.assertEqual(self.fence("host3"), (0, "--fence host3 --tolerance=20s --timeout=60"))


if __name__ == "__main__":
    main()
