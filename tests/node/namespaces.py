#!/usr/bin/env python3
"""Tests of the provider `ebpf` with daemons and clients in other namespaces, of other users, and with pins that
somebody takes away.

Called by ctest: namespaces.py TOOLS_DIR NODE_CLIENT [unittest arguments]. Leaves nothing behind.
"""

import contextlib
import os
import shutil
import signal
import subprocess

from node_test import AEP, AEPD, BPFFS, NODE_CLIENT, EbpfTest, main

PINS = f"{BPFFS}/aep/{os.geteuid()}"
NOBODY = 65534


class Elsewhere:
    """A daemon that is not a child of the test alone: a shell around it waits for a line, and takes it down."""

    def __init__(self, before, words, script="", environment=None, provider="ebpf"):
        command = " ".join(words)
        self.shell = subprocess.Popen(
            [*before, "sh", "-c", f"{script} {AEP} up {command} --pool-size 64M --provider {provider} && echo up; read line; "
             f"{AEP} down --force {command}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env=environment)
        self.said = ""
        while (line := self.shell.stdout.readline()) not in ("up\n", ""):
            self.said += line
        self.up = line == "up\n"

    def end(self):
        self.said += self.shell.communicate("\n", timeout=60)[0]


class Namespaces(EbpfTest):
    @contextlib.contextmanager
    def elsewhere(self, *arguments, **more):
        daemon = Elsewhere(*arguments, **more)
        try:
            self.assertTrue(daemon.up, daemon.said)
            yield daemon
        finally:
            daemon.end()

    def expect_protected(self):
        """Somebody dies inside, and is completed."""
        before = self.data("status")["recovery"]["completed"]
        while self.data("status")["recovery"]["completed"] == before:
            self.churning().end()
            self.expect_sound()

    def test_a_daemon_in_another_mount_namespace_unloads_nothing(self):
        before = sorted(os.listdir(PINS))
        # The same path, which leads elsewhere there: at the same place there may be another context, or none.
        for script in ["mount -t tmpfs tmpfs /dev/shm &&", f"mount -t tmpfs tmpfs /dev/shm && mkdir {self.home} &&"]:
            directory = f"{self.home}/context" if "mkdir" in script else "/dev/shm/context"
            words = ["--socket", f"{directory}-socket", "--directory", directory]
            with self.elsewhere(["unshare", "--mount"], words, script=script) as daemon:
                self.assertNotIn("unloaded", daemon.said)
                self.assertLess(set(before), set(os.listdir(PINS)))
                self.expect_protected()
            self.assertEqual(sorted(os.listdir(PINS)), before)
        self.expect_protected()

    def test_a_daemon_of_another_boot_unloads_nothing(self):
        """Numbers of devices and files of a former boot, or of another system that has this bpffs, say nothing."""
        before = sorted(os.listdir(PINS))
        self.end_daemon(signal.SIGKILL)
        os.rename(f"{self.home}/context", f"{self.home}/elsewhere")
        with open(f"{self.home}/boot_id", "w", encoding="ascii") as boot_id:
            boot_id.write("01234567-89ab-cdef-0123-456789abcdef\n")
        words = ["--socket", f"{self.home}/other-socket", "--directory", f"{self.home}/other"]
        script = f"mount --bind {boot_id.name} /proc/sys/kernel/random/boot_id &&"
        with self.elsewhere(["unshare", "--mount"], words, script=script) as daemon:
            self.assertNotIn("unloaded", daemon.said)
            self.assertLess(set(before), set(os.listdir(PINS)))
        self.assertEqual(sorted(os.listdir(PINS)), before)
        with self.elsewhere(["unshare", "--mount"], words) as daemon:
            self.assertIn("1 former contexts' programs are unloaded", daemon.said)
        self.assertEqual(os.listdir(PINS), [])

    def test_a_daemon_in_another_pid_namespace_unloads_nothing(self):
        before = sorted(os.listdir(PINS))
        words = ["--socket", f"{self.home}/other-socket", "--directory", f"{self.home}/other"]
        with self.elsewhere(["unshare", "--pid", "--fork", "--mount-proc"], words):
            self.assertLess(set(before), set(os.listdir(PINS)))
            self.expect_protected()
        self.assertEqual(sorted(os.listdir(PINS)), before)

    def test_clients_that_the_daemon_cannot_see_are_refused(self):
        self.good("down")
        with self.elsewhere(["unshare", "--pid", "--fork", "--mount-proc"], self.where):
            client = self.client()
            self.assertIn("its operations cannot be protected: the daemon cannot see the process: it is in another "
                          "pid namespace", client.greeting)
            client.end()
            self.assertEqual(self.data("clients"), [])

    def test_clients_that_the_daemon_cannot_see_are_protected_with_rollback(self):
        """It watches nobody: several of them, all of whom it knows by the number 0, die inside and next to each other."""
        self.good("down")
        with self.elsewhere(["unshare", "--pid", "--fork", "--mount-proc"], self.where, provider="rollback"):
            self.assertEqual(self.data("status")["provider"], "rollback")
            living = self.client()
            for _ in range(10):
                self.churning().end()
                dying = self.client()
                dying.ask("named old")
                self.assertEqual(dying.ask("stuck"), "going")
                dying.until_it_waits()  # inside, and the lock of sharing is held
                dying.end()
                self.assertEqual(living.ask("named new"), "0")
            while len(self.data("clients")) > 1:
                self.good("recover")
            self.assertEqual([row["pid"] for row in self.data("clients")], [0])
            self.assertEqual(int(living.ask("fill 10 64")), 10 * 1024)
            living.end()
            self.assertGreater(self.expect_sound()["undone"], 9)

    def test_clients_in_a_namespace_below_are_protected(self):
        """The daemon sees them, by other numbers than they have there."""
        words = ["unshare", "--pid", "--fork", "--kill-child", NODE_CLIENT, self.socket]
        for _ in range(10):
            with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
                self.assertIn("client", client.stdout.readline())
                client.stdin.write("churn\n")
                client.stdin.flush()
                self.assertEqual(client.stdout.readline(), "going\n")
                client.kill()
        self.assertGreater(self.expect_sound()["completed"], 0)

    def test_a_daemon_does_not_go_on_in_another_pid_namespace(self):
        """Its clients are watched by numbers that mean others there."""
        client = self.churning()
        self.end_daemon(signal.SIGKILL)
        before = sorted(os.listdir(PINS))
        done = self.run_tool("unshare", "--pid", "--fork", "--mount-proc", AEPD, *self.where, "--provider", "ebpf")
        self.assertEqual(done.returncode, 1)
        self.assertIn("another pid namespace", done.stderr)
        self.assertEqual(sorted(os.listdir(PINS)), before)
        client.end()
        self.up("--verify")
        self.expect_sound()

    def test_pins_that_somebody_removes_are_put_back(self):
        before = sorted(os.listdir(PINS))
        pins = sorted(os.listdir(f"{PINS}/{before[0]}"))
        self.assertEqual(len(pins), 7)
        self.take_pins_away()
        # Nothing is missed meanwhile.
        self.expect_protected()
        while not os.path.exists(f"{PINS}/{before[0]}/identity"):
            self.good("recover")
        self.assertEqual(sorted(os.listdir(f"{PINS}/{before[0]}")), pins)
        self.assertIn("pinned again", self.log())
        # They are what they were: the next daemon goes on with them.
        client = self.churning()
        self.end_daemon(signal.SIGKILL)
        client.end()
        self.up("--verify")
        self.expect_sound()
        self.assertNotIn("were gone", self.log())

    def test_programs_that_are_gone_are_loaded_anew_and_it_is_said(self):
        client = self.client()
        self.end_daemon(signal.SIGKILL)
        self.take_pins_away()
        done = self.aep("up", "--provider", "ebpf", "--verify")
        self.assertIn("the programs of the context were gone: they are loaded anew", done.stderr + self.log())
        self.assertEqual(client.ask("churn"), "going")  # it is watched again
        client.end()
        self.expect_sound()

    def test_pins_of_others_are_not_used(self):
        self.good("down")
        other = f"{BPFFS}/aep/{os.geteuid()}"
        for spoil, words in [(lambda: os.chown(other, NOBODY, NOBODY), f"belongs to user {NOBODY}"),
                             (lambda: os.chown(f"{BPFFS}/aep", NOBODY, NOBODY), f"belongs to user {NOBODY}"),
                             (lambda: os.chmod(f"{BPFFS}/aep", 0o777), "others may write to it")]:
            os.makedirs(other, exist_ok=True)
            for path, mode in [(f"{BPFFS}/aep", 0o711), (other, 0o700)]:
                os.chown(path, 0, 0)
                os.chmod(path, mode)
            spoil()
            done = self.aep("up", "--pool-size", "64M", "--provider", "ebpf", "--verify")
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(words, done.stderr)
        os.chmod(f"{BPFFS}/aep", 0o711)
        self.up("--verify")
        own = f"{other}/{os.listdir(other)[0]}"
        self.end_daemon(signal.SIGKILL)
        os.chmod(own, 0o755)
        self.assertIn("is open to others", self.aep("up", "--provider", "ebpf").stderr)
        os.chmod(own, 0o700)
        self.up("--verify")

    def expect_powerless(self, lock):
        """The completer of the daemon that has this lock."""
        with open(lock, encoding="ascii") as file:
            daemon = file.read()
        completers = []
        while not completers:  # it is started when the daemon serves
            with open(f"/proc/{daemon}/task/{daemon}/children", encoding="ascii") as children:
                completers = children.read().split()
        completer = completers[0]
        facts = {}
        while facts.get("Seccomp") != "2":  # until it has come to work
            with open(f"/proc/{completer}/status", encoding="ascii") as status:
                facts = dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)
        for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"]:
            self.assertEqual(int(facts[name], 16), 0, name)
        self.assertEqual(facts["NoNewPrivs"], "1")

    def test_root_with_two_capabilities(self):
        """As the unit runs it: too few to give up those that it could never get."""
        self.good("down")
        done = self.run_tool("setpriv", "--bounding-set=-all,+bpf,+perfmon", "--inh-caps=-all", AEPD, *self.where,
                             "--pool-size", "64M", "--provider", "ebpf", "--daemonize", "--verify")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.expect_powerless(f"{self.home}/context/lock")
        self.expect_protected()

    def test_who_performs_the_hosts_operations_is_powerless(self):
        """With rollback nothing is completed, but tables that clients write are walked."""
        self.good("down")
        self.good("up", "--pool-size", "64M", "--provider", "rollback", "--verify")
        self.expect_powerless(f"{self.home}/context/lock")
        self.churning().end()
        self.expect_sound()

    def test_an_ordinary_user_with_two_capabilities(self):
        """As aepd(8) says: a folder of the user's own, CAP_BPF and CAP_PERFMON. Completers have neither."""
        home = f"{self.home}/user"
        os.chmod(self.home, 0o755)
        os.mkdir(home, 0o700)
        os.chown(home, NOBODY, NOBODY)
        as_user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        caps = ["--inh-caps=+bpf,+perfmon", "--ambient-caps=+bpf,+perfmon"]
        words = ["--socket", f"{home}/socket", "--directory", f"{home}/context", "--pool-size", "64M", "--provider",
                 "ebpf", "--daemonize", "--verify"]
        done = self.run_tool(*as_user, *caps, AEPD, *words)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{BPFFS}/aep/{NOBODY}", done.stderr)
        self.assertIn("an administrator makes it", done.stderr)
        os.chmod(BPFFS, 0o711)
        os.mkdir(f"{BPFFS}/aep/{NOBODY}", 0o700)
        os.chown(f"{BPFFS}/aep/{NOBODY}", NOBODY, NOBODY)
        done = self.run_tool(*as_user, *caps, AEPD, *words)
        self.assertEqual(done.returncode, 0, done.stderr)
        where = words[:4]
        self.expect_powerless(f"{home}/context/lock")
        for _ in range(20):
            with subprocess.Popen([*as_user, NODE_CLIENT, f"{home}/socket"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True) as client:
                self.assertIn("client", client.stdout.readline())
                client.stdin.write("churn\n")
                client.stdin.flush()
                self.assertEqual(client.stdout.readline(), "going\n")
                client.kill()
        while self.run_tool(*as_user, AEP, "down", *where).returncode != 0:
            status = self.run_tool(*as_user, AEP, "status", *where)
            self.assertEqual(status.returncode, 0, status.stdout + status.stderr)
        self.assertEqual(os.listdir(f"{BPFFS}/aep/{NOBODY}"), [])
        os.rmdir(f"{BPFFS}/aep/{NOBODY}")
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
