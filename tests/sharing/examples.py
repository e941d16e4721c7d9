#!/usr/bin/env python3
"""Tests of the examples, as their README shows them.

Called by ctest: examples.py TOOLS_DIR PEER [unittest arguments]. Leaves nothing behind.
"""

import os
import signal
import subprocess

from sharing import SharingTest

from node_test import LIBRARY, Completed, TOOLS, main


class ExamplesTest(SharingTest):
    def setUp(self):
        super().setUp()
        self.env = dict(os.environ, AEP_SOCKET=self.socket, AEP_REQUIRE="1")

    @staticmethod
    def example(name):
        return os.path.join(os.path.dirname(TOOLS.rstrip("/")), "examples", name)

    def begin(self, *words):
        """A program that has said that it waits."""
        started = subprocess.Popen(words, env=self.env, text=True, stdout=subprocess.PIPE)
        self.addCleanup(started.stdout.close)
        self.addCleanup(started.wait)
        self.addCleanup(started.kill)
        self.assertEqual(started.stdout.readline(), "waiting\n")
        return started


class Examples(ExamplesTest):
    def test_hello(self):
        hello = self.example("hello")
        with subprocess.Popen([hello, "receive"], env=self.env, text=True, stdout=subprocess.PIPE) as receiver:
            self.assertEqual(receiver.stdout.readline(), "waiting\n")
            sent = subprocess.run([hello, "send", "good morning"], env=self.env, text=True, capture_output=True, check=True)
            got = receiver.stdout.readline()
            self.assertTrue(got.startswith("good morning (16 bytes at "), got)
            self.assertIn(sent.stdout.split()[-1], got)
        self.assertEqual(receiver.returncode, 0)
        self.expect_nothing_left()

    def test_calls(self):
        calls = self.example("calls")
        server = self.begin(calls, "serve")
        asked = [subprocess.Popen([calls, "ask", "800"], env=self.env, text=True, stdout=subprocess.PIPE) for _ in range(2)]
        for process in asked:
            self.assertEqual(process.communicate()[0], "800 right answers\n")
        server.kill()
        self.expect_nothing_left()

    @staticmethod
    def until_it_reads(process):
        READ = "0"  # the system call's number
        while True:
            with open(f"/proc/{process.pid}/syscall", encoding="ascii") as call:
                if call.read().split()[0] == READ:
                    return

    def test_roster(self):
        """One leaves, and one is killed."""
        roster = self.example("roster")
        watcher = self.begin(roster, "watch", "2")
        joined = {}
        for name in "anna", "ben":
            joined[name] = subprocess.Popen([roster, "join", name, f"I am {name}"], env=self.env, stdin=subprocess.PIPE)
            self.addCleanup(joined[name].kill)
            said = {watcher.stdout.readline() for _ in range(2)}  # which of both is there first nobody says
            self.assertEqual(said, {f"{name} came\n", f'"I am {name}"\n'})
        joined["anna"].stdin.close()
        self.assertEqual(joined["anna"].wait(), 0)
        self.assertEqual(watcher.stdout.readline(), "anna left\n")
        self.until_it_reads(joined["ben"])  # one that is killed within an operation poisons a context without a provider
        joined["ben"].kill()
        joined["ben"].wait()
        joined["ben"].stdin.close()
        self.assertEqual(watcher.stdout.read(), "ben died\n")
        self.assertEqual(watcher.wait(), 0)
        self.expect_nothing_left()

    def test_ticker(self):
        """Each listener gets all of it, or as much as it kept up with; one that comes late what is kept."""
        ticker = self.example("ticker")
        listener, glancer = self.begin(ticker, "listen", "0"), self.begin(ticker, "glance", "0")
        count = 5000
        publisher = subprocess.Popen([ticker, "publish", str(count)], env=self.env, text=True, stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE)
        self.addCleanup(publisher.kill)
        self.assertEqual(publisher.stdout.readline(), f"published {count}\n")
        self.assertEqual(listener.stdout.read().split(",")[:2], [f"{count} prices", " 0 missed"])
        taken, missed = (int(part.split()[0]) for part in glancer.stdout.read().split(",")[:2])
        self.assertEqual(taken + missed, count)
        late = subprocess.run([ticker, "listen", "10"], env=self.env, text=True, capture_output=True, check=True)
        self.assertIn("10 prices, 0 missed", late.stdout)
        publisher.communicate("\n")
        self.assertEqual(publisher.returncode, 0)
        self.assertEqual([listener.wait(), glancer.wait()], [0, 0])
        self.expect_nothing_left()

    def test_batches(self):
        """More batches than the mailbox holds; the producer is gone before the last are read."""
        batches = self.example("batches")
        count = 1500
        with subprocess.Popen([batches, "consume", str(count)], env=self.env, text=True,
                              stdout=subprocess.PIPE) as consumer:
            self.assertEqual(consumer.stdout.readline(), "waiting\n")
            subprocess.run([batches, "produce", str(count)], env=self.env, check=True)
            total = count * 1000
            self.assertEqual(int(consumer.stdout.readline()), total * (total - 1) // 2)
        alone = subprocess.run([batches, "produce", "1"], env=dict(os.environ, AEP_CONTEXT="none"), text=True,
                               capture_output=True, check=False)
        self.assertEqual(alone.returncode, 1)
        self.assertIn("dsm_attach: Transport endpoint is not connected", alone.stderr)
        self.expect_nothing_left()

    def test_rpc_without_a_server(self):
        done = subprocess.run([self.example("rpc"), "call", "1"], env=self.env, text=True, capture_output=True,
                              check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no living client has that name", done.stderr)

    def test_a_preloaded_program_and_an_explicit_one(self):
        reader = self.begin(self.example("reader"), "1000")
        lines = "".join(f"line {i}\n" for i in range(1000))
        done = subprocess.run([self.example("preloaded")], env=dict(self.env, LD_PRELOAD=LIBRARY), text=True,
                              input=lines, capture_output=True, check=True)
        printed = done.stdout.splitlines()
        self.assertEqual(printed[0], "1: line 0")
        self.assertEqual(printed[-1], "1000 sent")
        self.assertEqual(reader.stdout.read().splitlines(), printed[:-1])
        self.assertEqual(reader.wait(), 0)
        self.expect_nothing_left()

    def test_a_preloaded_program_alone(self):
        """Under the preload without a reader, and without the preload."""
        for more in {"LD_PRELOAD": LIBRARY}, {}:
            done = subprocess.run([self.example("preloaded")], env=dict(self.env, **more), text=True, input="one\n",
                                  capture_output=True, check=True)
            self.assertEqual(done.stdout, "1: one\n0 sent\n")


class Calls(Completed, ExamplesTest):
    def test_rpc(self):
        """Four callers at once, and one that is killed in the middle of it."""
        rpc = self.example("rpc")
        server = self.begin(rpc, "serve")
        victim = subprocess.Popen([rpc, "call", "100000000"], env=self.env)
        calls = 2000
        callers = [subprocess.Popen([rpc, "call", str(calls)], env=self.env, text=True, stdout=subprocess.PIPE)
                   for _ in range(4)]
        for i, caller in enumerate(callers):
            self.assertEqual(caller.communicate(timeout=120)[0], f"{calls} calls\n")
            self.assertEqual(caller.returncode, 0)
            if i == 0:
                victim.kill()
                victim.wait()
        server.send_signal(signal.SIGTERM)
        words = server.stdout.read().split()
        self.assertEqual(words[1], "answered")
        self.assertGreaterEqual(int(words[0]), 4 * calls)
        self.assertEqual(server.wait(), 0)
        self.assertEqual(self.data("status")["state"], "live")
        self.expect_nothing_left()


if __name__ == "__main__":
    main()
