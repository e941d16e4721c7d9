#!/usr/bin/env python3
"""Tests of the daemon and the command line as processes: every command and its errors, messages that
are none, daemons that end in every way while clients live.

Called by ctest: cli.py TOOLS_DIR NODE_CLIENT [unittest arguments]. Leaves nothing behind.
"""

import concurrent.futures
import ctypes
import errno
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import unittest

TOOLS, NODE_CLIENT = sys.argv[1:3]
AEP, AEPD = f"{TOOLS}/aep", f"{TOOLS}/aepd"
LIBRARY = os.path.join(os.path.dirname(TOOLS.rstrip("/")), "preload/libaepmalloc.so")
ATTACH_BYTES = 56  # of an AskMessage


class Client:
    """A node_client process: attached, doing what it is told."""

    def __init__(self, path):
        self.process = subprocess.Popen([NODE_CLIENT, path], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.greeting = self.process.stdout.readline().strip()

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class NodeTest(unittest.TestCase):
    provider = "none"

    def setUp(self):
        self.home = tempfile.mkdtemp(prefix="aep-test-", dir="/dev/shm")
        self.socket = f"{self.home}/socket"
        self.where = ["--socket", self.socket, "--directory", f"{self.home}/context"]
        self.clients = []

    def tearDown(self):
        for client in self.clients:
            if client.process.returncode is None:
                client.end()
        done = self.aep("down", "--force")
        if done.returncode != 0 and os.path.exists(f"{self.home}/context"):
            self.fail(done.stderr)
        shutil.rmtree(self.home)

    def run_tool(self, *words, **more):
        return subprocess.run(words, capture_output=True, text=True, timeout=60, **more)

    def aep(self, command, *words, **more):
        return self.run_tool(AEP, command, *self.where, *words, **more)

    def good(self, command, *words, **more):
        done = self.aep(command, *words, **more)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def data(self, command, *words):
        return json.loads(self.good(command, "--json", *words))

    def up(self, *words):
        return self.good("up", "--pool-size", "64M", "--provider", self.provider, *words)

    def daemon_pid(self):
        with open(f"{self.home}/context/lock", encoding="ascii") as lock:
            return int(lock.read())

    def end_daemon(self, number):
        self.end_stranger(self.daemon_pid(), number)

    @staticmethod
    def end_stranger(pid, number):
        """Ends a process that is no child of ours, and returns when it is gone."""
        handle = os.pidfd_open(pid)
        signal.pidfd_send_signal(handle, number)
        select.select([handle], [], [])
        os.close(handle)

    def client(self):
        client = Client(self.socket)
        self.clients.append(client)
        return client

    def connect(self):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(self.socket)
        self.addCleanup(connection.close)
        return connection

    def ask(self, text):
        connection = self.connect()
        connection.send(text)
        parts = []
        while part := connection.recv(1 << 16):
            parts.append(part)
        return b"".join(parts)


class Commands(NodeTest):
    def test_without_a_daemon_each_says_so(self):
        for command in ["status", "clients", "top", "check", "recover", "down"]:
            done = self.aep(command)
            self.assertEqual(done.returncode, 2, command)
            self.assertIn("no daemon serves context default", done.stderr)
            self.assertIn("aep up", done.stderr)

    def test_what_is_not_understood(self):
        for words in [["nonsense"], [], ["top", "--interval", "x"], ["status", "--nonsense"],
                      ["run"], ["status", "--context", "a/b"], ["status", "--socket", "here"]]:
            done = self.run_tool(AEP, *words)
            self.assertEqual(done.returncode, 2, words)
            self.assertNotEqual(done.stderr, "", words)
        for words in [["--pool-size", "many"], ["--provider", "magic"], ["--log-level", "loud"]]:
            done = self.run_tool(AEPD, *words)
            self.assertEqual(done.returncode, 2, words)

    def test_help_is_whole(self):
        text = self.run_tool(AEP, "--help").stdout
        for command in ["run", "up", "down", "status", "clients", "top", "check", "recover",
                        "doctor"]:
            self.assertIn(f"  {command} ", text)
            one = self.run_tool(AEP, command, "--help")
            self.assertEqual(one.returncode, 0)
            self.assertIn("--context", one.stdout)
        self.assertIn("--require-provider", self.run_tool(AEPD, "--help").stdout)
        self.assertRegex(self.run_tool(AEP, "--version").stdout, r"^aep \d+\.\d+")
        self.assertRegex(self.run_tool(AEPD, "--version").stdout, r"^aepd \d+\.\d+")

    def test_up_status_down(self):
        self.assertIn("is up", self.up())
        self.assertIn("was up already", self.up())
        status = self.data("status")
        self.assertEqual(status["state"], "live")
        self.assertEqual(status["provider"], "none")
        self.assertEqual(status["pid"], self.daemon_pid())
        self.assertEqual(status["pool"]["free_bytes"], status["pool"]["bytes"])
        self.assertIn("context   default (live)", self.good("status"))
        for path in ["context", "context/context", "context/pool", "context/lock", "socket"]:
            mode = os.stat(f"{self.home}/{path}").st_mode
            self.assertEqual(mode & 0o077, 0, path)
        self.assertIn("is down", self.good("down"))
        self.assertEqual(os.listdir(self.home), [])

    def test_many_that_start_it_get_one(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            done = list(pool.map(lambda _: self.aep("up", "--json", "--provider", "none"), range(8)))
        self.assertEqual([d.returncode for d in done], [0] * 8, [d.stderr for d in done])
        self.assertEqual(sum(json.loads(d.stdout)["started"] for d in done), 1)

    def test_clients_top_check_recover(self):
        self.up("--client-limit", "32M", "--context-limit", "48M")
        client = self.client()
        self.assertEqual(client.greeting, "client 1")
        client.ask("fill 100 64")
        [row] = self.data("clients")
        self.assertEqual(row["pid"], client.process.pid)
        self.assertEqual(row["state"], "live")
        self.assertEqual(row["limit_bytes"], 32 << 20)
        self.assertGreaterEqual(row["bytes"], 8 << 20)
        self.assertIn("tester", self.good("clients"))
        frames = self.good("top", "--count", "2", "--interval", "0.05")
        self.assertEqual(frames.count("tester"), 2)
        lines = self.good("top", "--count", "2", "--interval", "0.05", "--json").splitlines()
        self.assertEqual(json.loads(lines[1])["clients"][0]["name"], "tester")
        self.assertIn("nothing is wrong", self.good("check"))
        self.assertEqual(self.data("check"), [])
        client.end()
        self.good("recover")
        self.assertEqual(self.data("clients"), [])
        self.assertEqual(self.data("status")["recovery"]["clients"], 1)
        self.assertEqual(self.data("check"), [])
        self.assertEqual(self.data("recover")["clients"], 0)

    def test_down_waits_for_no_client(self):
        self.up()
        client = self.client()
        done = self.aep("down")
        self.assertEqual(done.returncode, 1)
        self.assertIn("clients live", done.stderr)
        self.assertIn("tester", done.stderr)
        self.good("down", "--force")
        self.assertEqual(os.listdir(self.home), [])
        # It keeps what it has, and gets more.
        self.assertEqual(client.ask("fill 100 64"), str(100 * 1024))

    def test_poison_is_shown_everywhere(self):
        self.up()
        client = self.client()
        client.ask("inside 1")
        client.end()
        self.good("recover")
        status = self.aep("status")
        self.assertEqual(status.returncode, 1)
        self.assertIn("poisoned", status.stdout)
        check = self.aep("check")
        self.assertEqual(check.returncode, 1)
        self.assertIn(f"operation 1 of tester (pid {client.process.pid})", check.stdout)
        refused = self.client()
        self.assertIn(f"refused {errno.ENOTRECOVERABLE} the context is poisoned", refused.greeting)
        self.good("down")

    def test_a_thread_that_left_its_operation(self):
        self.up()
        client = self.client()
        slot = client.ask("inside 1")
        self.assertIn(str(errno.ENOTRECOVERABLE), client.ask(f"complete {slot}"))
        self.assertEqual(self.aep("status").returncode, 1)

    def test_doctor(self):
        done = self.aep("doctor", "--json")
        rows = {row["what"]: row for row in json.loads(done.stdout)}
        for what in ["kernel", "btf", "bpffs", "capabilities", "tmpfs", "memory cgroup",
                     "ulimit -v", "library", "daemon", "image"]:
            self.assertIn(what, rows)
        self.assertEqual(done.returncode, int(any(r["health"] == "BAD" for r in rows.values())))
        self.up()
        self.assertIn("provider", self.aep("doctor").stdout)

    def test_run(self):
        done = self.aep("run", "--pool-size", "64M", "--provider", "none", "--", "/usr/bin/env")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("AEP_CONTEXT=default", done.stdout)
        self.assertIn(f"AEP_SOCKET={self.socket}", done.stdout)
        self.assertIn("libaepmalloc.so", done.stdout)
        self.assertEqual(self.data("status")["state"], "live")
        self.assertEqual(self.aep("run", "--", "sh", "-c", "exit 7").returncode, 7)
        missing = self.aep("run", "--", "/nowhere/program")
        self.assertEqual(missing.returncode, 127)
        self.assertIn("ENOENT", missing.stderr)
        again = self.aep("run", "--pool-size", "1G", "--", "true")
        self.assertIn("have no effect", again.stderr)
        self.assertEqual(self.aep("run", "--library", "/nowhere/lib", "--", "true").returncode, 1)

    def test_a_limit_is_no_memory_and_a_line_of_the_log(self):
        self.up("--client-limit", "32M")
        program = "import sys\ntry: bytearray(40 << 20)\nexcept MemoryError: print('no memory')"
        self.assertEqual(self.good("run", "--", "/usr/bin/python3", "-c", program), "no memory\n")
        self.good("recover")
        with open(f"{self.socket}.log", encoding="utf-8") as log:
            self.assertIn("(python3, pid ", line := next(x for x in log if "beyond its limit of 32 MiB" in x), line)

    def test_a_thousand_clients_one_after_another(self):
        self.good("up", "--pool-size", "64M", "--provider", self.provider)
        env = dict(os.environ, LD_PRELOAD=LIBRARY, AEP_SOCKET=self.socket, AEP_REQUIRE="1")
        for _ in range(1000):
            # Says something, so allocates.
            subprocess.run(["/bin/ls", "/proc/self/fd"], env=env, check=True, stdout=subprocess.DEVNULL)
        self.good("recover")
        status = self.data("status")
        self.assertEqual(status["clients"]["attached"], 1000)
        self.assertEqual(self.data("clients"), [])
        self.assertEqual(status["memory"]["held_bytes"], 0)
        self.assertEqual(self.data("check"), [])

    def test_sixty_four_clients_at_once(self):
        self.good("up", "--pool-size", "1G", "--provider", self.provider)
        env = dict(os.environ, LD_PRELOAD=LIBRARY, AEP_SOCKET=self.socket, AEP_REQUIRE="1")
        sort = ["/usr/bin/sort", "-n"]
        programs = [subprocess.Popen(sort, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(64)]
        numbers = [str(i * 7919 % 10007) for i in range(5000)]
        wanted = ("\n".join(sorted(numbers, key=int)) + "\n").encode()
        for program in programs:  # all have read, and wait for the end of their input
            program.stdin.write(("\n".join(numbers) + "\n").encode())
            program.stdin.flush()
        while len(self.data("clients")) < 64:
            pass
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            outputs = list(pool.map(lambda program: program.communicate()[0], programs))
        self.assertEqual([o == wanted for o in outputs], [True] * 64)
        self.good("recover")
        self.assertEqual(self.data("status")["memory"]["held_bytes"], 0)
        self.assertEqual(self.data("check"), [])

    def test_a_provider_that_is_missing(self):
        done = self.aep("up", "--provider", "none", "--require-provider")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no provider", done.stderr)
        self.up()
        with open(f"{self.socket}.log", encoding="utf-8") as log:
            self.assertEqual(log.read().count("no provider"), 1)


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
        self.assertIn("version is 0x63, expected 0x1", done.stderr)
        self.assertIn(f"{self.home}/context/context", done.stderr)

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

    def test_a_pool_elsewhere(self):
        self.up("--pool", f"{self.home}/pool")
        client = self.client()
        client.ask("fill 100 64")
        client.end()
        self.good("down")
        self.assertEqual(os.listdir(self.home), ["pool"])


def mount_bpffs_of_our_own():
    """A mount namespace that ends with this process, or why there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_mounts = 0x20000
    if os.geteuid() != 0 or libc.unshare(new_mounts) != 0:
        return "only root can mount"
    for words in [["--make-rprivate", "/"], ["-t", "bpf", "bpf", "/sys/fs/bpf"]]:
        done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return done.stderr
    return None


class Ebpf(NodeTest):
    provider = "ebpf"

    @classmethod
    def setUpClass(cls):
        if why := mount_bpffs_of_our_own():
            raise unittest.SkipTest(why)

    def setUp(self):
        super().setUp()
        done = self.aep("up", "--pool-size", "64M", "--provider", "ebpf", "--verify")
        if done.returncode != 0 and "no provider" in done.stderr:
            self.skipTest(done.stderr)
        self.assertEqual(done.returncode, 0, done.stderr)

    def completer(self):
        self.data("status")  # answered when a completer was started, again if it had died
        pid = self.daemon_pid()
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            return int(children.read().split()[0])

    def churn_and_kill(self):
        client = self.client()
        self.assertEqual(client.ask("churn"), "going")
        client.end()

    def until_nobody_is_left(self):
        """Each command is a sweep that takes in what the completer answered meanwhile."""
        while self.data("clients"):
            self.good("recover")

    def expect_sound(self):
        self.until_nobody_is_left()
        status = self.data("status")
        self.assertEqual(status["state"], "live", status["poison"])
        self.assertEqual(status["recovery"]["broken"], 0)
        self.assertEqual(self.data("check"), [])
        return status["recovery"]

    def test_killed_inside_the_operation_completes(self):
        self.assertEqual(self.data("status")["provider"], "ebpf")
        for _ in range(60):
            self.churn_and_kill()
        done = self.expect_sound()
        self.assertEqual(done["clients"], 60)
        self.assertGreater(done["completed"], 0)
        self.good("down")
        self.assertEqual(os.listdir("/sys/fs/bpf/aep"), [])

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

    def test_real_programs(self):
        script = "x = []\nwhile True: x.append(bytearray(len(x) % 5000)); x = x[-2000:]"
        for _ in range(10):
            with subprocess.Popen([AEP, "run", *self.where, "--require", "--", "/usr/bin/python3",
                                   "-c", "print('on', flush=True)\n" + script],
                                  stdout=subprocess.PIPE) as program:
                program.stdout.readline()
                program.kill()
        self.expect_sound()


class Protocol(NodeTest):
    def setUp(self):
        super().setUp()
        self.up()

    def tearDown(self):
        self.assertEqual(self.data("check"), [])  # it lives, and nothing is wrong
        super().tearDown()

    def test_messages_that_are_none_end_the_connection(self):
        for text in [b"x", b"\0" * (ATTACH_BYTES - 1), b"\0" * (ATTACH_BYTES + 1), b"\0" * 16384,
                     b"\xff" * ATTACH_BYTES, b"\0" * 20000, os.urandom(300)]:
            if text[:1] == b"{":
                continue
            self.assertEqual(self.ask(text), b"", len(text))

    def test_json_that_is_none_is_answered(self):
        for text in [b"{", b"{}", b'{"command": 7}', b'{"command": "fly"}', b"{" * 5000,
                     b'{"command": "status", "x": ' + b"[" * 3000 + b"]" * 3000 + b"}"]:
            answer = json.loads(self.ask(text))
            if b"status" not in text:
                self.assertFalse(answer["ok"])
                self.assertNotEqual(answer["error"], "")

    def test_an_attach_that_does_not_fit_is_answered(self):
        magic, version = 0x004B534150454100, 1
        message = struct.pack("<QIIQQII16s", magic, version, 1, 1, 2, 0, 0, b"python")
        self.assertEqual(len(message), ATTACH_BYTES)
        connection = self.connect()
        connection.send(message)
        data, descriptors, _, _ = socket.recv_fds(connection, 4096, 8)
        self.assertEqual(descriptors, [])
        error, = struct.unpack_from("<I", data, 12)
        self.assertEqual(error, errno.EPROTO)
        self.assertIn(b"layout hash", data)
        self.assertEqual(connection.recv(1), b"")

    def test_descriptors_that_come_along_are_not_kept(self):
        before = len(os.listdir(f"/proc/{self.daemon_pid()}/fd"))
        for _ in range(20):
            connection = self.connect()
            socket.send_fds(connection, [b"x" * 10], [0, 1, 2])
            self.assertEqual(connection.recv(1), b"")
        self.assertLessEqual(len(os.listdir(f"/proc/{self.daemon_pid()}/fd")), before)

    def test_peers_that_say_nothing_or_read_nothing_hold_nobody_up(self):
        silent = [self.connect() for _ in range(50)]
        deaf = [self.connect() for _ in range(10)]
        for connection in deaf:
            connection.send(b'{"command": "top"}')
        self.assertEqual(self.client().greeting, "client 1")
        for connection in silent + deaf:
            connection.close()

    @unittest.skipUnless(os.geteuid() == 0, "only root can be another user")
    def test_another_user_is_refused(self):
        os.chmod(self.home, 0o755)
        os.chmod(self.socket, 0o666)
        # Run from memory: that user need not be able to read our build.
        script = (f"import socket, struct; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET);"
                  f"s.connect({self.socket!r});"
                  "s.send(struct.pack('<QIIQQII16s', 0x004B534150454100, 1, 1, 1, 2, 0, 0, b'x'));"
                  "print(s.recv(4096))")
        done = self.run_tool("/usr/bin/python3", "-c", script, user=65534, cwd="/")
        self.assertIn("belongs to user 0, the process to user 65534", done.stdout)
        script = script.split("s.send")[0] + "s.send(b'{\"command\": \"down\"}'); print(s.recv(999))"
        done = self.run_tool("/usr/bin/python3", "-c", script, user=65534, cwd="/")
        self.assertIn("belongs to user", done.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
