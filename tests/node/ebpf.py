#!/usr/bin/env python3
"""Tests of the provider `ebpf` with whole processes: clients, daemons and completers are killed.

Called by ctest: ebpf.py TOOLS_DIR NODE_CLIENT [unittest arguments]. Leaves nothing behind.
"""

import contextlib
import os
import signal
import tempfile

from node_test import AEP, AEPD, EbpfTest, end_daemons_in, main

PINS = f"/sys/fs/bpf/aep/{os.geteuid()}"


class Ebpf(EbpfTest):
    def completer(self):
        self.data("status")  # answered when a completer was started, again if it had died
        pid = self.daemon_pid()
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            return int(children.read().split()[0])

    def test_killed_inside_the_operation_completes(self):
        self.assertEqual(self.data("status")["provider"], "ebpf")
        for _ in range(60):
            self.churning().end()
        done = self.expect_sound()
        self.assertEqual(done["clients"], 60)
        self.assertGreater(done["completed"], 0)
        self.good("down")
        self.assertEqual(os.listdir(PINS), [])

    def test_killed_while_no_daemon_runs(self):
        for number in [signal.SIGTERM, signal.SIGKILL] * 5:
            clients = [self.client() for _ in range(4)]
            for client in clients:
                client.ask("churn")
            self.end_daemon(number)
            for client in clients:
                client.end()
            self.up()
            self.expect_sound()

    def test_who_comes_finds_what_the_dead_of_before_had_free(self):
        for _ in range(8):
            clients = [self.client() for _ in range(8)]
            for client in clients:
                client.ask("churn")
            self.end_daemon(signal.SIGKILL)
            for client in clients:
                client.end()
            with self.newcomer("ebpf") as newcomer:
                self.assertEqual([row["pid"] for row in self.data("clients")], [newcomer.process.pid])
            self.up()
            self.expect_sound()

    def test_a_killed_ones_programs_are_unloaded_by_down(self):
        self.end_daemon(signal.SIGKILL)
        self.assertEqual(len(os.listdir(PINS)), 1)
        self.good("down")
        self.assertEqual(os.listdir(PINS), [])

    def test_a_completer_that_is_killed_is_followed_by_another(self):
        for _ in range(10):
            before = self.completer()
            clients = [self.client() for _ in range(4)]
            for client in clients:
                client.ask("churn")
            self.end_stranger(before, signal.SIGKILL)
            for client in clients:
                client.end()
            self.expect_sound()
            self.assertNotEqual(self.completer(), before)

    def stuck(self):
        """Killed inside, behind a lock that nobody frees."""
        client = self.client()
        self.assertEqual(client.ask("stuck"), "going")
        client.until_it_waits()
        client.end()

    def test_an_operation_that_never_ends_is_given_up(self):
        self.good("down")
        done = self.run_tool(AEPD, *self.where, "--pool-size", "64M", "--provider", "ebpf",
                             "--completion-ms", "300", "--daemonize")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.stuck()
        self.until_nobody_is_left()
        with open(f"{self.socket}.log", encoding="utf-8") as log:
            self.assertIn("is given up: it does not end in 300 ms", log.read())
        status = self.data("status")
        self.assertEqual((status["state"], status["recovery"]["undone"]), ("live", 1))
        self.churning().end()  # others go on as ever
        self.until_nobody_is_left()
        self.good("down")
        self.assertEqual(os.listdir(PINS), [])

    def test_an_operation_whose_capture_is_lost_is_undone(self):
        """Its thread is killed when the programs are gone: by whoever comes, also without them."""
        for undone, provider in enumerate(["ebpf", "rollback"], 1):
            client, waiting = self.client(), self.client()
            self.assertEqual(client.ask("stuck"), "going")
            client.until_it_waits()
            waiting.begin("share")
            waiting.until_it_waits()
            self.end_daemon(signal.SIGKILL)
            self.take_pins_away()
            client.end()
            self.good("up", "--provider", provider, "--verify")
            self.assertEqual(waiting.answer(), "0")
            waiting.end()
            status = self.expect_sound()
            self.assertEqual((self.data("status")["provider"], status["undone"]), (provider, undone))
        client = self.client()  # it is a sound context still, with another provider
        self.assertEqual(client.ask("share"), "0")
        client.end()
        self.expect_sound()

    def test_down_works_while_an_operation_does_not_end(self):
        self.stuck()
        done = self.aep("down", "--timeout", "1")  # for so long it waits for them
        self.assertEqual(done.returncode, 1)
        self.assertIn("its last clients' operations are being completed", done.stderr)
        self.good("down", "--force")
        self.assertEqual(os.listdir(PINS), [])

    @contextlib.contextmanager
    def another_context(self):
        """What its daemon says at the start."""
        with tempfile.TemporaryDirectory(prefix="aep-test-", dir="/dev/shm") as other:
            where = ["--socket", f"{other}/socket", "--directory", f"{other}/context"]
            try:
                done = self.run_tool(AEP, "up", *where, "--pool-size", "64M", "--provider", "ebpf")
                self.assertEqual(done.returncode, 0, done.stderr)
                yield done.stderr
                self.assertEqual(self.run_tool(AEP, "down", *where).returncode, 0)
            finally:
                end_daemons_in(self, other)

    def test_programs_of_a_context_whose_files_are_gone_are_unloaded(self):
        before = os.listdir(PINS)
        self.assertEqual(len(before), 1)
        self.end_daemon(signal.SIGKILL)
        os.rename(f"{self.home}/context", f"{self.home}/elsewhere")
        with self.another_context() as said:
            left = os.listdir(PINS)
            self.assertEqual(len(left), 1)
            self.assertNotEqual(left, before)
            self.assertIn("1 former contexts' programs are unloaded", said)

    def test_programs_of_a_context_without_a_daemon_stay(self):
        before = os.listdir(PINS)
        self.end_daemon(signal.SIGKILL)
        with self.another_context():
            self.assertEqual(len(os.listdir(PINS)), 2)
        self.assertEqual(os.listdir(PINS), before)

    def test_programs_of_a_context_with_a_long_path_stay(self):
        """Longer than what the kernel keeps of it."""
        long = f"{self.home}/{'x' * 200}"
        os.mkdir(long)
        where = ["--socket", f"{self.home}/s", "--directory", f"{long}/{'y' * 60}"]
        up = [AEP, "up", *where, "--pool-size", "64M", "--provider", "ebpf"]
        self.assertEqual(self.run_tool(*up).returncode, 0)
        before = sorted(os.listdir(PINS))
        self.assertEqual(len(before), 2)
        with self.another_context() as said:
            self.assertNotIn("unloaded", said)
            self.assertEqual(len(os.listdir(PINS)), 3)
        self.assertEqual(sorted(os.listdir(PINS)), before)
        self.assertEqual(self.run_tool(AEP, "down", *where).returncode, 0)

    def test_real_programs(self):
        self.kill_real_programs(10)


if __name__ == "__main__":
    main()
