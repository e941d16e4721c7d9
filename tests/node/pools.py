#!/usr/bin/env python3
"""aep pool: making, looking at and removing pools; sizes that people choose.

Called by ctest: pools.py TOOLS_DIR NODE_CLIENT [unittest arguments]. Leaves nothing behind.
"""

import json
import os
import signal

from node_test import AEP, NodeTest, main


class Pools(NodeTest):
    def setUp(self):
        super().setUp()
        self.path = f"{self.home}/pool"

    def pool(self, *words, code=0):
        done = self.run_tool(AEP, "pool", *words)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stderr if code else done.stdout

    def info(self):
        return json.loads(self.pool("info", self.path, "--json"))

    def test_made_looked_at_and_removed(self):
        self.assertIn("64 MiB", self.pool("create", self.path, "--size", "64M"))
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
        facts = self.info()
        self.assertEqual(facts["bytes"], 64 << 20)
        self.assertEqual(facts["free_bytes"], facts["chunk_bytes"])
        self.assertEqual((facts["shared"]["nodes"], facts["nodes"], facts["processes"]), (8, [], 0))
        self.assertIn("is gone", self.pool("destroy", self.path))
        self.assertFalse(os.path.exists(self.path))

    def test_sizes_of_choice_are_what_contexts_find(self):
        self.pool("create", self.path, "--size", "128M", "--nodes", "64", "--objects", "100", "--messages", "16",
                  "--lanes", "4", "--clients", "33")
        self.good("up", "--pool", self.path, "--node", "64", "--provider", "none")
        self.assertEqual(self.data("status")["clients"]["most"], 32)
        shared = self.info()["shared"]
        self.assertEqual([shared[k] for k in ["nodes", "lanes", "objects", "messages", "clients"]],
                         [64, 4, 100, 16, 33])
        [node] = self.info()["nodes"]
        self.assertEqual((node["node"], node["state"]), (64, "live"))

    def test_what_its_nodes_hold_alike_stands_in_it(self):
        self.pool("create", self.path, "--size", "64M", "--lease-ms", "700", "--cluster", "shop", "--coherent", "yes")
        facts = self.info()
        self.assertEqual([facts[k] for k in ["lease_ms", "cluster", "coherent"]], [700, "shop", True])
        self.assertIn("lease 700 ms, cluster shop, caches coherent", self.pool("info", self.path))
        up = ["up", "--pool", self.path, "--node", "3", "--provider", "none"]
        for words, said in [(["--lease-ms", "800"], "its lease is 700 ms, and not --lease-ms 800"),
                            (["--cluster", "other"], "it is of cluster shop, and not --cluster other"),
                            (["--coherent", "no"], "it was made with --coherent yes, and not --coherent no"),
                            (["--cluster", "two words"], "--cluster 'two words': expected"),
                            (["--coherent", "maybe"], "--coherent 'maybe': expected yes or no")]:
            refused = self.aep(*up, *words)
            self.assertEqual(refused.returncode, 1, words)
            self.assertIn(said, refused.stderr)
        self.good(*up, "--lease-ms", "700", "--cluster", "shop", "--coherent", "yes")
        pool = self.data("status")["pool"]
        self.assertEqual([pool[k] for k in ["lease_ms", "cluster", "coherent"]], [700, "shop", True])
        # The first daemon that makes a pool chooses, too; what nobody says is usual.
        other = f"{self.home}/other"
        self.good("down")
        self.good("up", "--pool", other, "--pool-size", "64M", "--cluster", "b", "--provider", "none")
        facts = json.loads(self.pool("info", other, "--json"))
        self.assertEqual([facts[k] for k in ["lease_ms", "cluster", "coherent"]], [3000, "b", True])

    def test_many_nodes_fit_without_choosing_more(self):
        self.pool("create", self.path, "--size", "1G", "--nodes", "64")
        facts = self.info()
        self.assertLess(facts["shared"]["bytes"], facts["bytes"] // 8)
        self.assertEqual(facts["shared"]["nodes"], 64)

    def test_what_does_not_fit_is_told_and_nothing_made(self):
        for words in [["--size", "64M", "--nodes", "64", "--objects", "1048576"], ["--size", "4M"], ["--size", "9T"],
                      ["--size", "64M", "--nodes", "64", "--lanes", "100"]]:
            said = self.pool("create", self.path, *words, code=2)
            self.assertIn(f"pool {self.path}: cannot create it", said)
            self.assertEqual(os.listdir(self.home), [], words)
        for words in [["--nodes", "0"], ["--nodes", "65"], ["--lanes", "1"], ["--size", "many"], ["--messages", "0"]]:
            self.pool("create", self.path, *words, code=2)
            self.assertEqual(os.listdir(self.home), [], words)

    def test_what_is_there_stays(self):
        with open(self.path, "w", encoding="ascii") as file:
            file.write("mine")
        self.assertIn("is there already", self.pool("create", self.path, code=1))
        os.chmod(self.path, 0o600)
        self.assertIn("size is 4 bytes", self.pool("info", self.path, code=2))
        self.assertIn("size is 4 bytes", self.pool("destroy", self.path, "--force", code=2))
        with open(self.path, encoding="ascii") as file:
            self.assertEqual(file.read(), "mine")
        self.assertIn("ENOENT", self.pool("info", f"{self.path}.none", code=1))
        self.assertIn("ENOENT", self.pool("destroy", f"{self.path}.none", code=1))

    def test_who_uses_it_is_seen_and_keeps_it(self):
        self.pool("create", self.path, "--size", "64M")
        self.good("up", "--pool", self.path, "--node", "3", "--provider", "none")
        client = self.client()
        client.ask("fill 100 64")
        facts = self.info()
        [node] = facts["nodes"]
        self.assertEqual((node["node"], node["state"]), (3, "live"))
        self.assertGreaterEqual(node["bytes"], 4 << 20)
        self.assertGreaterEqual(facts["processes"], 1)
        self.assertIn("1 nodes use it", self.pool("destroy", self.path, code=1))
        self.assertTrue(os.path.exists(self.path))
        client.end()
        self.end_daemon(signal.SIGKILL)
        [node] = self.info()["nodes"]
        self.assertEqual(node["state"], "silent")
        self.pool("destroy", self.path, code=1)  # it may be another machine's
        self.pool("destroy", self.path, "--force")
        self.assertFalse(os.path.exists(self.path))


if __name__ == "__main__":
    main()
