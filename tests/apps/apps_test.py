"""What the tests of the applications share: a program that is run in a context, between nodes, or without us.

Used by the other programs of this folder. Leaves nothing behind.
"""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "sharing"))

from sharing import SharingTest  # noqa: E402
from node_test import TOOLS, Completed, main  # noqa: E402, F401
from nodes_test import NodesTest  # noqa: E402

BUILD = os.path.dirname(TOOLS.rstrip("/"))
AT_MOST_S = 120
WAYS = ("polling", "loop", "blocking")  # of waiting
WAYS_WITHOUT_DESCRIPTOR = ("polling", "blocking")


def run(program, *words, **environment):
    """A finished process, in no context unless it is told one. `flat/NAME` is the program over the flat baseline."""
    path = program.replace("flat/", f"{BUILD}/bench/apps/aep_bench_app_") if "/" in program else f"{BUILD}/apps/{program}"
    return subprocess.run([path, "--json", *map(str, words)], env=dict(os.environ, **(environment or {"AEP_CONTEXT": "none"})),
                          capture_output=True, text=True, timeout=AT_MOST_S, check=False)


def figures(test, *words, **environment):
    done = run(*words, **environment)
    test.assertEqual((done.returncode, done.stderr), (0, ""))
    return json.loads(done.stdout)


def has(peer, program="rpc"):
    """Whether the programs of bench/apps were built, and with that."""
    return os.path.exists(f"{BUILD}/bench/apps/aep_bench_app_{program}") and peer in run(f"flat/{program}", "--help").stdout


def over_a_peer(test, each, program, over, *sizes):
    """All ways of waiting but the one that needs a descriptor, which is refused with what to do."""
    each(test, lambda *words: figures(test, f"flat/{program}", "--over", over, *words), *sizes, ways=WAYS_WITHOUT_DESCRIPTOR)
    loop = run(f"flat/{program}", "--over", over, "--wait", "loop")
    test.assertEqual(loop.returncode, 1)
    test.assertIn("--wait polling or blocking", loop.stderr)


class InContext(Completed, SharingTest):
    """A program over `aep`; afterwards nothing may be left."""

    def figures(self, *words):
        return figures(self, *words, AEP_SOCKET=self.socket, AEP_REQUIRE="1")


class BetweenNodes(NodesTest):
    count = 3

    def figures(self, program, nodes, *words):
        sockets = ",".join(node.socket for node in self.nodes[:nodes])
        return figures(self, program, "--nodes", sockets, *words, AEP_SOCKET=self.nodes[0].socket,
                       AEP_REQUIRE="1")
