#!/usr/bin/env python3
"""Faults at random on five machines of a cluster, one after another.

Called by ci/cluster.sh: long.py TOOLS_DIR PEER [unittest arguments]; AEP_TEST_ROUNDS says how many, AEP_TEST_SEED which. Leaves nothing behind.
"""

import os
import random

from corosync import ClusterTest
from node_test import main

ROUNDS = int(os.environ.get("AEP_TEST_ROUNDS", "20"))
SEED = int(os.environ.get("AEP_TEST_SEED", "11"))


class Long(ClusterTest):
    """Faults at random, on five machines, one after another."""

    count = 5

    def test_faults_at_random(self):
        random.seed(SEED)
        for number in range(ROUNDS):
            kept = self.begin()
            victims = random.sample(self.nodes, random.choice((1, 2)))
            others = [node for node in self.nodes if node not in victims]
            how = random.choice(("cut", "apart", "corosync", "daemon"))
            print(f"round {number}: {how} {[v.number for v in victims]}", flush=True)
            if how == "daemon":
                for victim in victims:
                    victim.end_daemon()
                    victim.up()
                self.expect_kept(kept, *self.nodes)
            else:
                # In rounds before they may have recovered others, rightly.
                said = {victim: len(victim.whole_log()) for victim in victims}
                self.refuse(random.choice((0, 0, 1)))
                if how == "corosync":
                    for victim in victims:
                        self.cluster.hosts[victim.number - 1].kill_corosync()
                else:
                    alone = [[v.number] for v in victims] if how == "apart" else [[v.number for v in victims]]
                    self.cluster.split([n.number for n in others], *alone)
                living = self.expect_fenced(*victims)
                for victim in victims:
                    self.assertNotIn("is dead: recovered", victim.whole_log()[said[victim]:],
                                     f"node {victim.number}, which is out of sight")
                self.expect_kept(kept, *living)
                for victim in victims if how == "corosync" else ():
                    self.cluster.hosts[victim.number - 1].start()
                self.cluster.heal()
                for host in self.cluster.hosts:
                    host.wait_for(5)
                for victim in victims:
                    victim.come_back()
            self.expect_together()
            for node in self.nodes:
                node.forget_what_was_fenced()


if __name__ == "__main__":
    main()
