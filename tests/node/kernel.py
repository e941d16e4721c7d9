#!/usr/bin/env python3
"""Tests of the provider `kernel` with whole processes: clients, daemons and completers are killed.

Called by ctest: kernel.py TOOLS_DIR NODE_CLIENT [unittest arguments]. On a kernel without atomic execution
protection only the choice of a provider can be tested; tests/kernel/provider.sh runs the others on one
that has it. Leaves nothing behind.
"""

import contextlib
import os
import select
import signal
import unittest

from node_test import AEP, AEPD, NodeTest, ProviderTest, main

SETTINGS = "/sys/kernel/mm/aep"
PROTECTED = os.path.exists(SETTINGS) and os.geteuid() == 0


class Choice(NodeTest):
    """On any machine."""

    def test_asked_for_and_missing(self):
        done = self.run_tool(AEPD, *self.where, "--provider", "kernel", "--daemonize")
        if PROTECTED:
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.data("status")["provider"], "kernel")
            return
        self.assertEqual(done.returncode, 1, done.stderr)
        wanted = "CAP_SYS_ADMIN" if os.path.exists(SETTINGS) else "a kernel with atomic execution protection"
        self.assertIn(f"no provider: kernel: {wanted}", done.stderr)

    def test_auto_takes_the_first_that_works(self):
        found = {d["what"]: d["found"] for d in self.data("doctor")}
        works = [name for name in ["kernel", "ebpf"] if found[f"{name} provider"].startswith("nothing")]
        self.aep("up", "--pool-size", "64M", "--provider", "auto")
        self.assertEqual(self.data("status")["provider"], (works + ["rollback"])[0])

    def test_one_that_there_is_not(self):
        done = self.run_tool(AEPD, *self.where, "--provider", "kernal")
        self.assertEqual(done.returncode, 2)
        self.assertIn("kernel", done.stderr)


@unittest.skipUnless(PROTECTED, "needs a kernel with atomic execution protection, and root")
class Kernel(ProviderTest):
    provider = "kernel"

    def setUp(self):
        super().setUp()
        self.up("--verify")

    def completer(self):
        """The daemon's only child."""
        self.data("status")  # answered when a completer was started, again if it had died
        parent = str(self.daemon_pid())
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="ascii") as facts:
                if facts.read().rpartition(")")[2].split()[1] == parent:
                    return int(pid)
        return None

    @staticmethod
    def deferrals():
        with open(f"{SETTINGS}/deferrals", encoding="ascii") as count:
            return int(count.read())

    def test_killed_inside_the_operation_completes(self):
        before = self.deferrals()
        for _ in range(30):
            self.churning().end()
        self.assertEqual(self.expect_sound()["clients"], 30)
        self.assertGreater(self.deferrals(), before)

    def test_killed_while_no_daemon_runs(self):
        for number in [signal.SIGTERM, signal.SIGKILL] * 3:
            clients = [self.churning() for _ in range(4)]
            self.end_daemon(number)
            for client in clients:
                client.end()
            self.up("--verify")
            self.expect_sound()

    def test_the_next_daemon_goes_on_with_the_kernels_context(self):
        """One client of each: both see the same tables, both are protected."""
        first = self.churning()
        self.end_daemon(signal.SIGKILL)
        self.up("--verify")
        second = self.churning()
        for client in [first, second]:
            with open(f"/proc/{client.process.pid}/maps", encoding="ascii") as maps:
                self.assertIn("[aep_shadow]", maps.read())
            client.end()
        self.expect_sound()

    def test_a_completer_that_is_killed_is_followed_by_another(self):
        for _ in range(4):
            before = self.completer()
            self.assertIsNotNone(before)
            client = self.churning()
            self.end_stranger(before, signal.SIGKILL)
            client.end()
            self.expect_sound()
            self.assertNotEqual(self.completer(), before)

    def test_an_operation_beyond_the_grace_period_is_undone(self):
        path = f"{SETTINGS}/grace_period_ms"
        with open(path, encoding="ascii") as setting:
            usual = setting.read()
        client, other = self.client(), self.client()
        self.assertEqual(client.ask("stuck"), "going")
        other.begin("share")
        for each in [client, other]:
            each.until_it_waits()
        try:
            with open(path, "w", encoding="ascii") as setting:
                setting.write("50")
            client.process.kill()
            handle = os.pidfd_open(client.process.pid)
            # It waits for the lock, and uses no processor time: twenty times the period.
            self.assertEqual(select.select([handle], [], [], 60)[0], [handle])
            os.close(handle)
        finally:
            with open(path, "w", encoding="ascii") as setting:
                setting.write(usual)
        self.good("recover")
        # Who waited for the same lock goes on.
        self.assertEqual(int(other.answer()), 0)
        status = self.data("status")
        self.assertEqual((status["state"], status["recovery"]["undone"]), ("live", 1))

    def test_real_programs(self):
        self.kill_real_programs(4)

    def test_a_program_says_the_same_as_without(self):
        words = ["/bin/bash", "-c", "for i in 1 2 3; do echo $(seq $i | sort -r | tr '\\n' ' '); done"]
        with_it = self.run_tool(AEP, "run", *self.where, "--require", "--", *words)
        self.assertEqual((with_it.stdout, with_it.stderr), (self.run_tool(*words).stdout, ""))
        self.expect_sound()


if __name__ == "__main__":
    main()
