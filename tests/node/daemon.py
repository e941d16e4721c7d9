#!/usr/bin/env python3
"""Tests of daemons that end in every way while clients live.

Called by ctest: daemon.py TOOLS_DIR NODE_CLIENT [unittest arguments]. Leaves nothing behind.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
import unittest

from node_test import AEP, AEPD, LIBRARY, POISONED, TOOLS, NodeTest, main

STACKS, STACKS_END = 4 << 30, 12 << 30  # where the slots' stacks are in the context's file, and their room


class Daemon(NodeTest):
    def test_the_second_says_so(self):
        self.up()
        done = self.run_tool(AEPD, *self.where, "--provider", "none")
        self.assertEqual(done.returncode, 3)
        self.assertIn(f"another daemon serves it already (pid {self.daemon_pid()})", done.stderr)

    def test_a_damaged_context_is_refused(self):
        self.up()
        self.end_daemon(signal.SIGTERM)
        with open(f"{self.home}/context/context", "r+b") as file:
            file.seek(8)
            file.write(struct.pack("<I", 99))
        done = self.aep("up", "--provider", "none")
        self.assertEqual(done.returncode, 1)
        self.assertIn("version is 0x63, expected 0x", done.stderr)
        self.assertIn(f"{self.home}/context/context", done.stderr)

    def test_what_is_performed_is_not_left(self):
        """The signal by which workers give others their turn ends no process that performs."""
        self.good("up", "--provider", "rollback")
        daemon = self.daemon_pid()
        performers, ignores = [], False
        end = time.monotonic() + 20
        while not ignores and time.monotonic() < end:
            with open(f"/proc/{daemon}/task/{daemon}/children", encoding="ascii") as children:
                performers = children.read().split()
            for performer in performers:
                with open(f"/proc/{performer}/status", encoding="ascii", errors="replace") as status:
                    mask = next(line for line in status if line.startswith("SigIgn:")).split()[1]
                ignores = int(mask, 16) >> (signal.SIGUSR2 - 1) & 1 == 1
        self.assertTrue(ignores)
        os.kill(int(performers[0]), signal.SIGUSR2)
        dying = self.client()
        dying.ask("fill 10 64")
        dying.end()
        self.good("recover")
        with open(f"/proc/{daemon}/task/{daemon}/children", encoding="ascii") as children:
            self.assertEqual(children.read().split(), performers)

    def performers(self):
        daemon = self.daemon_pid()
        with open(f"/proc/{daemon}/task/{daemon}/children", encoding="ascii") as children:
            return [int(pid) for pid in children.read().split()]

    def until_poisoned(self):
        while "poisoned" not in self.aep("status").stdout:
            self.aep("recover")

    def test_performers_that_a_client_misleads_at_their_start_are_given_up(self):
        """They would be started for ever, and what the dead hold would never be given back."""
        self.good("up", "--provider", "rollback", "--pool-size", "64M")
        client = self.client()
        client.ask("share")
        with open(f"{self.home}/context/pool", "r+b") as pool:
            pool.write(bytes(8))
        while not (performers := self.performers()):
            pass
        with contextlib.suppress(ProcessLookupError):  # it may have seen that by itself by now
            self.end_stranger(performers[0], signal.SIGKILL)
        self.good("recover")
        client.end()
        self.until_poisoned()
        log = self.log()
        self.assertIn("what it shares with clients is not as the daemon made it", log)
        self.assertIn("the host's operations are given up", log)
        self.assertRegex(self.aep("status").stdout, "of the daemon's own, for tester .* cannot be performed")
        self.assertEqual(self.performers(), [])
        self.good("down")
        self.assertEqual(os.listdir(self.home), [])

    def test_constants_that_a_client_overwrites_mislead_nobody(self):
        """Performers have them from the daemon."""
        self.good("up", "--provider", "rollback", "--pool-size", "64M")
        client = self.client()
        client.ask("share")
        with open(f"{self.home}/context/context", "r+b") as context:
            context.write(os.urandom(256))
        while not (performers := self.performers()):
            pass
        self.end_stranger(performers[0], signal.SIGKILL)
        client.end()
        while self.data("clients"):
            self.good("recover")
        self.assertEqual(self.data("status")["state"], "live")
        self.good("down")

    def test_down_works_while_nobody_performs(self):
        """What the system lacks may be there tomorrow: nothing is poisoned, and nobody has to wait."""
        build = os.path.dirname(TOOLS.rstrip("/"))
        own = f"{self.home}/own"
        for place in ["tools", "aep-lib/completer"]:
            os.makedirs(f"{own}/{place}")
        shutil.copy(AEPD, f"{own}/tools")
        with open(f"{own}/aep-lib/completer/aep-completer", "w", encoding="ascii") as script:
            script.write("#!/bin/sh\nexit 1\n")
        os.chmod(script.name, 0o700)
        done = self.run_tool(f"{own}/tools/aepd", *self.where, "--daemonize", "--provider", "rollback", "--pool-size", "64M",
                             "--image", f"{build}/aep-lib/image/aep-image")
        self.assertEqual(done.returncode, 0, done.stderr)
        client = self.client()
        client.ask("share")
        client.end()
        while self.log().count("is dead: exit status 1") < 7:
            self.good("recover")
        self.assertEqual(self.data("status")["state"], "live")
        self.assertEqual(len(self.data("clients")), 1)
        self.good("down")
        self.assertEqual(os.listdir(self.home), ["own"])

    def test_other_nodes_are_told_the_name_that_a_client_keeps(self):
        """A thread of it dies alone, which was giving it another one: that is undone, and was told."""
        self.good("up", "--provider", "rollback", "--pool-size", "64M", "--node", "1", "--pool", f"{self.home}/pool")
        client = self.client()
        self.assertEqual(client.ask("named old"), "0")
        self.assertEqual(client.ask("told"), "old")
        self.assertEqual(client.ask("renames new"), "new")
        while self.data("status")["recovery"]["undone"] == 0:
            self.good("recover")
        self.assertEqual(client.ask("told"), "old")
        self.assertEqual(client.ask("named new"), "0")
        self.assertEqual(client.ask("told"), "new")
        client.end()
        self.assertEqual(self.data("status")["state"], "live")

    def test_who_comes_finds_the_names_of_the_dead_free(self):
        """Those who died while no daemon ran are taken back first, by whoever performs that, and needs no right."""
        self.good("up", "--provider", "rollback", "--pool-size", "64M")
        for _ in range(5):
            dying = [self.client() for _ in range(8)]
            for number, client in enumerate(dying):
                self.assertEqual(client.ask(f"named n{number}"), "0")
            self.end_daemon(signal.SIGKILL)
            for client in dying:
                client.end()
            with self.newcomer("rollback") as newcomer:
                for number in range(8):
                    self.assertEqual(newcomer.ask(f"named n{number}"), "0")
            self.good("up", "--provider", "rollback")
        while self.data("clients"):
            self.good("recover")

    def test_clients_outlive_it(self):
        for number in [signal.SIGTERM, signal.SIGKILL]:
            self.up()
            living, dying = self.client(), self.client()
            living.ask("fill 10 64")
            dying.ask("fill 10 64")
            self.end_daemon(number)
            self.assertEqual(self.aep("status").returncode, 2)
            self.assertEqual(living.ask("fill 10 64"), str(10 * 1024))
            dying.end()
            self.assertIn("clients live", self.aep("down").stderr)
            self.up()
            self.good("recover")
            self.assertEqual([row["pid"] for row in self.data("clients")], [living.process.pid])
            self.assertEqual(self.data("check"), [])
            self.assertEqual(living.ask("fill 10 64"), str(10 * 1024))
            living.end()
            self.good("down")

    @unittest.skipUnless(os.geteuid() == 0, "only root can be another user")
    def test_a_process_of_another_user_that_a_client_names_is_not_watched(self):
        """What it is when it dies would be told to this context, and the daemon may look at it where the client may not."""
        self.up()
        client = self.client()
        with subprocess.Popen(["/bin/cat"], user=65534, stdin=subprocess.PIPE) as stranger:
            with open(f"/proc/{stranger.pid}/stat", encoding="ascii") as stat:
                began = stat.read().split()[21]
            client.ask(f"passes {stranger.pid} {began}")
            self.end_daemon(signal.SIGKILL)
            self.up()
            said = f"client 1: its operations are not protected: process {stranger.pid} is another user's"
            self.assertIn(said, self.log())
            stranger.stdin.close()
        client.end()
        self.good("recover")
        self.assertEqual(self.data("clients"), [])

    def test_leftovers_of_a_killed_one_are_removed(self):
        self.up()
        self.end_daemon(signal.SIGKILL)
        self.assertIn("its files are removed", self.good("down"))
        self.assertEqual(os.listdir(self.home), [])

    def test_a_killed_one_leaves_its_socket_to_the_next(self):
        self.up()
        self.end_daemon(signal.SIGKILL)
        self.assertTrue(os.path.exists(self.socket))
        self.assertIn("is up", self.up())

    @contextlib.contextmanager
    def stopped_daemon(self):
        pid = self.daemon_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            yield pid
        finally:
            os.kill(pid, signal.SIGCONT)

    def test_a_stopped_one_is_told_of(self):
        self.up()
        with self.stopped_daemon() as pid:
            for command in [["status"], ["down"], ["down", "--force"], ["check"], ["clients"], ["top"], ["recover"]]:
                done = self.aep(*command, "--timeout", "0.3")
                self.assertEqual(done.returncode, 1, command)
                self.assertIn(f"the daemon (pid {pid}) of context default does not answer", done.stderr)
                self.assertIn("it is stopped (state T)", done.stderr)
            self.assertIn("it is stopped (state T)", self.aep("doctor", "--timeout", "0.3").stdout)
            # More than may wait to be let in: the connection itself is not taken any more.
            waiting = []
            with self.assertRaises(BlockingIOError):
                while True:
                    waiting.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK))
                    waiting[-1].connect(self.socket)
            self.assertIn(f"(pid {pid})", self.aep("status", "--timeout", "0.3").stderr)
            for connection in waiting:
                connection.close()
        self.good("status")

    def test_a_stopped_one_holds_no_program_up(self):
        self.up()
        env = dict(os.environ, LD_PRELOAD=LIBRARY, AEP_SOCKET=self.socket)
        with self.stopped_daemon() as pid:
            done = self.run_tool("/bin/sh", "-c", "echo $((1+2))", env=env)
            self.assertEqual(done.stdout, "3\n")
            self.assertEqual(done.stderr.count(f"its daemon (pid {pid}) is stopped"), 1, done.stderr)
            done = self.aep("run", "--", "true")
        self.assertEqual(done.returncode, 1)
        self.assertIn("it is stopped", done.stderr)

    def test_under_the_library_itself(self):
        """As /etc/ld.so.preload has it: neither joins the context, nor has its heap where that is."""
        env = dict(os.environ, LD_PRELOAD=LIBRARY, AEP_SOCKET=self.socket, AEP_REQUIRE="1", AEP_STATS="1")
        done = self.aep("up", "--pool-size", "64M", "--provider", "none", env=env)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        with open(f"/proc/{self.daemon_pid()}/maps", encoding="utf-8") as maps:
            self.assertIn("libaepmalloc", maps.read())
        client = self.client()
        client.ask("fill 10 64")
        for command in ["status", "check", "doctor", "clients"]:
            done = self.aep(command, "--json", env=env)
            self.assertEqual(done.stderr, "", command)
        self.assertEqual([row["pid"] for row in json.loads(done.stdout)], [client.process.pid])
        client.end()
        done = self.aep("down", env=env)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_under_ld_so_preload(self):
        """The library is in every process of a mount namespace, whatever its environment says, shells included."""
        etc = f"{self.home}/etc"
        os.mkdir(etc)
        script = f"mount -t tmpfs -o mode=755 tmpfs {etc} && cp -a /etc/. {etc} && echo {LIBRARY} >{etc}/ld.so.preload && " \
                 f"mount --bind {etc} /etc && exec \"$@\""
        there = ["unshare", "--mount", "sh", "-c", script, "sh"]
        if (found := self.run_tool(*there, "true")).returncode != 0:
            self.skipTest(f"needs a mount namespace: {found.stderr}")
        env = dict(os.environ, AEP_SOCKET=self.socket, AEP_REQUIRE="1")

        def under_it(program, *words):
            done = self.run_tool(*there, program, *words, env=env)
            self.assertEqual((done.returncode, done.stderr), (0, ""), words)
            return done.stdout

        for start in [[AEP, "up"], [AEPD, "--daemonize"]]:
            under_it(*start, *self.where, "--pool-size", "64M", "--provider", "rollback")
            with open(f"/proc/{self.daemon_pid()}/maps", encoding="utf-8") as maps:
                self.assertIn("libaepmalloc", maps.read())
            client = self.client()
            client.ask("fill 10 64")
            client.ask("share")
            self.assertIn(f'"pid": {client.process.pid}', under_it(AEP, "clients", *self.where, "--json"))
            # Who is preloaded into joins; the tools and the daemon do not.
            self.assertEqual(under_it("/bin/sh", "-c", "echo $((1+2))"), "3\n")
            client.end()
            while self.data("clients"):
                under_it(AEP, "recover", *self.where)
            self.assertEqual(self.data("status")["state"], "live")
            under_it(AEP, "down", *self.where)

    def test_why_it_does_not_start_is_said(self):
        done = self.aep("up", "--provider", "none", "--image", "/nowhere/image")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nowhere/image", done.stderr)
        self.assertIn("did not start: it cannot serve (see above)\n", done.stderr)  # it had no log yet
        os.mkdir(self.socket)  # found after its log is a file
        done = self.aep("up", "--provider", "none", "--pool-size", "64M", "--log-file", f"{self.home}/log")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"socket {self.socket}: EADDRINUSE", done.stderr)
        self.assertIn(f"its log: {self.home}/log", done.stderr)
        self.assertFalse(os.path.exists(f"{self.home}/context"))
        os.rmdir(self.socket)
        done = self.aep("up", "--provider", "none", "--pool-caches", "wrong")
        self.assertEqual(done.returncode, 1)
        self.assertIn("it does not understand its options", done.stderr)

    def stack_bytes(self):
        """Of all slots' stacks: what has been written to."""
        with open(f"{self.home}/context/context", "rb") as file:
            at, end, total = STACKS, STACKS + STACKS_END, 0
            while True:
                try:
                    at = os.lseek(file.fileno(), at, os.SEEK_DATA)
                except OSError:  # no more
                    return total
                if at >= end:
                    return total
                hole = os.lseek(file.fileno(), at, os.SEEK_HOLE)
                total += hole - at
                at = hole

    def test_a_slot_that_is_free_has_no_memory(self):
        self.up()
        before = self.stack_bytes()
        clients = [self.client() for _ in range(20)]
        for client in clients:
            client.ask("fill 10 64")
        self.assertGreater(self.stack_bytes(), before)
        for client in clients:
            client.end()
        self.good("recover")
        self.assertEqual(self.stack_bytes(), before)

    def test_a_file_that_is_cut_short_ends_it_in_order(self):
        for name in ["context", "pool"]:
            with self.subTest(name):
                self.up()
                os.truncate(f"{self.home}/context/{name}", 0)
                self.aep("status")  # it looks at what is gone, or the next sweep does
                while "was cut short" not in self.log():
                    self.aep("recover")
                self.assertNotEqual(self.aep("down").returncode, 139)
                self.aep("down", "--force")
                self.assertEqual(os.listdir(self.home), [])

    def test_in_the_foreground(self):
        with subprocess.Popen([AEPD, *self.where, "--pool-size", "64M", "--provider", "none"], stderr=subprocess.PIPE,
                              text=True) as daemon:
            line = daemon.stderr.readline()
            while "context default made" not in line:
                line = daemon.stderr.readline()
            self.assertEqual(self.data("status")["pid"], daemon.pid)
            daemon.send_signal(signal.SIGINT)
            self.assertEqual(daemon.wait(), 0)
        self.assertTrue(os.path.exists(f"{self.home}/context/context"))
        self.assertFalse(os.path.exists(self.socket))

    def test_the_service_manager_is_told_that_its_loop_goes_round(self):
        """By the loop: not while the daemon is stopped."""
        path = f"{self.home}/notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            manager.settimeout(30)
            env = dict(os.environ, NOTIFY_SOCKET=path, WATCHDOG_USEC="300000")
            with subprocess.Popen([AEPD, *self.where, "--pool-size", "64M", "--provider", "none"], env=env,
                                  stderr=subprocess.DEVNULL) as daemon:
                said = [manager.recv(100) for _ in range(5)]
                self.assertEqual(set(said), {b"READY=1", b"WATCHDOG=1"})
                self.assertEqual(said.count(b"READY=1"), 1)
                daemon.send_signal(signal.SIGTERM)
        # Not of ours, if it watches another process.
        env["WATCHDOG_PID"] = "1"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            os.unlink(path)
            manager.bind(path)
            manager.setblocking(False)
            with subprocess.Popen([AEPD, *self.where, "--provider", "none"], env=env,
                                  stderr=subprocess.DEVNULL) as daemon:
                while self.aep("status").returncode != 0:
                    pass
                for _ in range(3):
                    self.good("recover")
                said = []
                with contextlib.suppress(BlockingIOError):
                    while True:
                        said.append(manager.recv(100))
                self.assertEqual(said, [b"READY=1"])
                daemon.send_signal(signal.SIGTERM)

    def test_a_pool_elsewhere(self):
        self.up("--pool", f"{self.home}/pool")
        client = self.client()
        client.ask("fill 100 64")
        client.end()
        self.good("down")
        self.assertEqual(os.listdir(self.home), ["pool"])

    def test_who_waits_for_what_a_dead_one_holds_goes_on(self):
        self.up()
        client, waiting = self.client(), self.client()
        self.assertEqual(client.ask("stuck"), "going")
        client.until_it_waits()  # inside: what is held from outside is given back by the host at any time
        waiting.begin("share")
        waiting.until_it_waits()
        client.end()
        self.good("recover")
        self.assertIn("poisoned", self.aep("status").stdout)
        self.assertEqual(int(waiting.answer()), POISONED)


if __name__ == "__main__":
    main()
