#!/usr/bin/env python3
"""What operators see: top's keys on a terminal, metrics once and over HTTP, the rules and panels that are made of them.

Called by ctest: monitoring.py TOOLS_DIR NODE_CLIENT [unittest arguments]. Leaves nothing behind.
"""

import contextlib
import http.client
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import time

from node_test import AEP, NodeTest, main
from prometheus_client.parser import text_string_to_metric_families

MONITORING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../packaging/monitoring")
PATIENCE_S = 60


class Terminal:
    """A program on a terminal of its own, and what it has written there."""

    def __init__(self, words):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", LINES="40", COLUMNS="200")
            os.execv(words[0], words)
        self.text = ""

    def until(self, pattern):
        """Reads until that is found in what has come since the last call."""
        end = time.monotonic() + PATIENCE_S
        while not re.search(pattern, self.text):
            assert time.monotonic() < end, f"no {pattern} in {self.text!r}"
            if select.select([self.fd], [], [], 1)[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:  # it has ended
                    break
        found = re.search(pattern, self.text)
        assert found, f"no {pattern} in {self.text!r}"
        self.text = self.text[found.end():]

    def press(self, keys):
        os.write(self.fd, keys.encode())

    def end(self):
        """Its exit status, when it has ended by itself."""
        try:
            while os.read(self.fd, 65536):
                pass
        except OSError:
            pass
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return status


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Monitoring(NodeTest):
    def samples(self, text):
        """{(name, label, ...): value}, the context left out."""
        found = {}
        for family in text_string_to_metric_families(text):
            for s in family.samples:
                labels = dict(s.labels)
                self.assertEqual(labels.pop("context"), "default")
                found[(s.name, *labels.values())] = s.value
        return found

    def get(self, connection, path="/metrics", method="GET"):
        with contextlib.closing(connection):
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def serve(self, where, connect):
        """`aep metrics --listen WHERE`, when it listens."""
        server = subprocess.Popen([AEP, "metrics", *self.where, "--listen", where], stderr=subprocess.PIPE, text=True)
        self.addCleanup(server.stderr.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return server, self.get(connect())
            except (ConnectionRefusedError, FileNotFoundError):
                self.assertIsNone(server.poll(), server.stderr.read() if server.poll() is not None else "")
                self.assertLess(time.monotonic(), end)

    def test_what_can_be_had_is_the_least(self):
        self.pool_size = "8T"  # more than any machine here has
        self.up()
        pool = self.data("status")["pool"]
        self.assertLess(pool["usable_bytes"], pool["free_bytes"])
        self.assertIn(pool["usable_bound"], ["file system", "cgroup", "machine"])
        self.assertRegex(self.good("status"), rf"can be had \(the {pool['usable_bound']} has no more; [\d.]+ TiB of the pool")

    def test_a_small_pool_is_its_own_limit(self):
        self.up()
        pool = self.data("status")["pool"]
        self.assertEqual((pool["usable_bytes"], pool["usable_bound"]), (pool["free_bytes"], "pool"))
        self.assertNotIn("has no more", self.good("status"))

    def test_clients_as_they_are(self):
        self.up()
        client = self.client()
        client.ask("fill 10 64")
        [row] = self.data("clients")
        with open(f"/proc/{client.process.pid}/status", encoding="ascii") as text:
            [threads] = [line.split()[1] for line in text if line.startswith("Threads:")]
        self.assertEqual(row["threads"], int(threads))
        self.assertEqual(row["parent"], 0)

    def test_rates_are_between_frames(self):
        self.up()
        frames = self.good("top", "--json", "--count", "2", "--interval", "0.05").splitlines()
        self.assertEqual(set(json.loads(frames[0])["rates"].values()), {0.0})
        first, second = self.good("top", "--count", "2", "--interval", "0.05").split("\n\ncontext")
        self.assertIn("a second  from the second look on\n", first)
        self.assertRegex(second, r"a second +0 sent")
        top = subprocess.Popen([AEP, "top", *self.where, "--json", "--count", "2", "--interval", "1"],
                               stdout=subprocess.PIPE, text=True)
        json.loads(top.stdout.readline())  # the first frame has been
        self.client()
        rates = json.loads(top.stdout.readline())["rates"]
        top.communicate()
        self.assertGreater(rates["attached"], 0)

    def test_rates_of_a_look_that_takes_its_time(self):
        self.up()
        client = self.client()
        self.assertNotIn("a second", self.good("status"))
        self.assertIn("a second  0 sent", self.good("status", "--over", "0.1"))
        self.assertEqual(self.data("status", "--over", "0.1")["rates"]["sent"], 0.0)
        self.assertIsNone(self.data("clients")[0].get("operations_a_second"))
        self.assertEqual(self.data("clients", "--over", "0.1")[0]["operations_a_second"], 0.0)
        client.begin("churn")
        self.assertEqual(client.answer(), "going")
        [row] = self.data("clients", "--over", "0.3")
        self.assertGreater(row["operations_a_second"], 100)
        self.assertRegex(self.good("clients", "--over", "0.3"), rf" {client.process.pid} .* [1-9]\d+ +[\d-]+ +[\d-]+ +joined")

    def test_keys_of_top(self):
        self.up()
        for _ in range(2):
            self.client()
        top = Terminal([AEP, "top", *self.where, "--interval", "600"])
        top.until(r"\[m held\]")
        top.press("n")
        top.until(r"\[n name\]")
        top.press("/nobody")
        top.until("names with:(.|\\s)*y_")  # what is there already is not written again
        top.press("\r")
        top.press("\x1b")
        top.until("tester")
        top.press("q")
        self.assertEqual(top.end(), 0)

    def test_top_puts_the_terminal_right_when_its_daemon_ends(self):
        self.up()
        top = Terminal([AEP, "top", *self.where, "--interval", "0.2"])
        top.until(r"\[m held\]")
        self.good("down")
        top.until(r"the daemon of context default has ended")
        self.assertEqual(top.end(), 1)

    def test_sorting_and_filters_of_frames(self):
        self.up()
        small, large = self.client(), self.client()
        small.ask("fill 1 64")
        large.ask("fill 20000 1024")
        def order(*words):
            frame = self.good("top", "--json", "--count", "1", *words)
            return [c["pid"] for c in json.loads(frame)["clients"]]
        self.assertEqual(order(), [large.process.pid, small.process.pid])
        self.assertEqual(order("--sort", "client"), [small.process.pid, large.process.pid])
        self.assertEqual(order("--filter", "nobody"), [])
        self.assertEqual(self.aep("top", "--sort", "luck").returncode, 2)

    def test_metrics_once(self):
        self.up("--client-limit", "32M")
        client = self.client()
        client.ask("fill 100 64")
        seen = self.samples(self.good("metrics"))
        self.assertEqual(seen[("aep_up",)], 1)
        self.assertEqual(seen[("aep_state", "live")], 1)
        self.assertEqual(seen[("aep_state", "poisoned")], 0)
        self.assertEqual(seen[("aep_clients", "live")], 1)
        self.assertEqual(seen[("aep_pool_bytes",)], self.data("status")["pool"]["bytes"])
        self.assertEqual(seen[("aep_client_limit_bytes", "1", str(client.process.pid), "tester")], 32 << 20)
        client.end()
        self.good("recover")
        self.assertEqual(self.samples(self.good("metrics"))[("aep_recovered_clients_total",)], 1)

    def test_metrics_at_a_port(self):
        self.up()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        def connect():
            return http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        server, (code, text) = self.serve(str(port), connect)
        self.assertEqual(code, 200)
        self.assertEqual(self.samples(text)[("aep_up",)], 1)
        self.assertEqual(self.get(connect(), "/")[0], 404)
        self.assertEqual(self.get(connect(), method="POST")[0], 405)
        self.good("down")
        self.assertEqual(self.samples(self.get(connect())[1]), {("aep_up",): 0})
        again = self.aep("metrics", "--listen", str(port))
        self.assertEqual(again.returncode, 1)
        self.assertIn("EADDRINUSE", again.stderr)
        server.terminate()
        self.assertEqual(server.wait(), 0)

    def test_metrics_at_a_path(self):
        self.up()
        path = f"{self.home}/metrics"
        for number in [signal.SIGKILL, signal.SIGTERM]:  # the second finds what the first left
            server, (code, text) = self.serve(path, lambda: UnixConnection(path))
            self.assertEqual((code, self.samples(text)[("aep_up",)]), (200, 1))
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode) & 0o077, 0)
            server.send_signal(number)
            server.wait()
        self.assertFalse(os.path.exists(path))

    def test_places_that_are_none(self):
        self.up()
        with open(f"{self.home}/file", "w", encoding="ascii") as file:
            file.write("mine")
        for where, code in [("nonsense", 2), ("localhost:1:2", 2), ("70000", 2), ("/" + "x" * 200, 2),
                            ("/no/such/dir/s", 1), (f"{self.home}/file", 1)]:
            done = self.aep("metrics", "--listen", where)
            self.assertEqual(done.returncode, code, where)
            self.assertIn(f"--listen {where}", done.stderr)
        with open(f"{self.home}/file", encoding="ascii") as file:
            self.assertEqual(file.read(), "mine")

    def test_rules_and_panels_name_what_there_is(self):
        self.up("--node", "1", "--pool", f"{self.home}/shared")
        self.client()
        text = self.good("metrics")
        names = {s.name for family in text_string_to_metric_families(text) for s in family.samples}
        for file in ["alerts.yml", "dashboard.json"]:
            with open(f"{MONITORING}/{file}", encoding="utf-8") as rules:
                used = set(re.findall(r"\baep_[a-z_]+", rules.read()))
            self.assertGreater(len(used), 5, file)
            self.assertEqual(used - names, set(), file)

    def test_states_of_nodes_are_shown_as_the_rules_test_has_them(self):
        with open(f"{MONITORING}/dashboard.json", encoding="utf-8") as file:
            [panel] = [p for p in json.load(file)["panels"] if p["title"] == "Nodes of the pool"]
        [target] = panel["targets"]
        with open(f"{MONITORING}/alerts_test.yml", encoding="utf-8") as tests:
            self.assertEqual(tests.read().count(f"'{target['expr']}'".replace("$context", "web")), 4)
        [mapping] = panel["fieldConfig"]["defaults"]["mappings"]
        self.assertEqual([state["text"] for _, state in sorted(mapping["options"].items())],
                         ["live", "suspect", "fenced", "dead"])

    def test_promtool_agrees(self):
        promtool = shutil.which("promtool")
        if promtool is None:
            self.skipTest("no promtool: Debian's package prometheus")
        self.up()
        self.client()
        metrics = self.good("metrics")
        done = self.run_tool(promtool, "check", "metrics", input=metrics)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))
        for words in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]]:
            done = self.run_tool(promtool, *words, cwd=MONITORING)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    main()
