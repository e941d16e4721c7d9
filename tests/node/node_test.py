"""What the tests of the daemon and the command line share: a context of their own, clients, the tools.

Used by commands.py, daemon.py, ebpf.py, full.py, kernel.py, namespaces.py, places.py, protocol.py and ../sharing/sharing.py. Leaves nothing behind.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import world  # noqa: E402

TOOLS, NODE_CLIENT = sys.argv[1:3]
AEP, AEPD = f"{TOOLS}/aep", f"{TOOLS}/aepd"
LIBRARY = os.path.join(os.path.dirname(TOOLS.rstrip("/")), "preload/libaepmalloc.so")
BPFFS = "/sys/fs/bpf"
FUTEX = "202"  # the system call's number
POISONED = 4  # Status::poisoned
ATTACH_BYTES = 56  # of an AskMessage
PATIENCE = 5  # seconds for a daemon that is about to end


class Client:
    """A node_client process: attached, doing what it is told."""

    def __init__(self, path):
        self.process = subprocess.Popen([NODE_CLIENT, path], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.greeting = self.process.stdout.readline().strip()

    def ask(self, line):
        self.begin(line)
        return self.answer()

    def begin(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self):
        return self.process.stdout.readline().strip()

    def until_it_waits(self):
        """Until it sleeps on a futex, which a client does for a lock alone."""
        while True:
            with open(f"/proc/{self.process.pid}/syscall", encoding="ascii") as call:
                if call.read().split()[0] == FUTEX:
                    return

    def end(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def daemons_in(folder):
    """Of contexts whose files are in that folder, as their command lines say."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has ended, or is not ours
            with open(f"/proc/{pid}/cmdline", "rb") as words:
                program, *rest = words.read().split(b"\0")
            if os.path.basename(program) == b"aepd" and any(os.fsencode(folder) in word for word in rest):
                found.append(int(pid))
    return found


def end_daemons_in(test, folder):
    """Those that are on their way out may end; any other is the fault of the test, and ends all the same."""
    left = []
    for pid in daemons_in(folder):
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            if not select.select([handle], [], [], PATIENCE)[0]:
                left.append(pid)
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [])
            os.close(handle)
    test.assertEqual(left, [], "daemons are left behind")


class NodeTest(unittest.TestCase):
    provider = "none"
    pool_size = "64M"

    def setUp(self):
        self.home = tempfile.mkdtemp(prefix="aep-test-", dir="/dev/shm")
        self.socket = f"{self.home}/socket"
        self.where = ["--socket", self.socket, "--directory", f"{self.home}/context"]
        self.clients = []
        # The last one first; wherever the test has failed, also before its end or in tearDown.
        self.addCleanup(shutil.rmtree, self.home)
        self.addCleanup(end_daemons_in, self, self.home)
        self.addCleanup(self.end_clients)

    def end_clients(self):
        for client in self.clients:
            if client.process.returncode is None:
                client.end()

    def tearDown(self):
        self.end_clients()
        done = self.aep("down", "--force")
        if done.returncode != 0 and os.path.exists(f"{self.home}/context"):
            self.fail(done.stderr)

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
        return self.good("up", "--pool-size", self.pool_size, "--provider", self.provider, *words)

    def log(self):
        with open(f"{self.socket}.log", encoding="utf-8") as log:
            return log.read()

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

    @contextlib.contextmanager
    def newcomer(self, provider):
        """The first client of a daemon that begins meanwhile."""
        with subprocess.Popen([AEPD, *self.where, "--provider", provider], stderr=subprocess.DEVNULL) as daemon:
            try:
                client = None
                while client is None or client.greeting.startswith("failed"):  # it does not listen yet
                    client = self.client()
                self.assertRegex(client.greeting, "^client ")
                yield client
                client.end()
            finally:
                daemon.terminate()

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


class ProviderTest(NodeTest):
    """What holds with every provider that completes operations."""

    def churning(self):
        client = self.client()
        self.assertEqual(client.ask("churn"), "going")
        return client

    def until_nobody_is_left(self):
        """Each command is a sweep that takes in what the completer answered meanwhile."""
        while self.data("clients"):
            self.good("recover")

    def expect_sound(self):
        self.until_nobody_is_left()
        status = self.data("status")
        self.assertEqual(status["state"], "live", status["poison"])
        self.assertEqual(status["recovery"]["broken"], 0)
        self.assertEqual(status["sharing"]["objects"], 0)
        self.assertEqual(self.data("check"), [])
        return status["recovery"]

    def kill_real_programs(self, times):
        script = "x = []\nwhile True: x.append(bytearray(len(x) % 5000)); x = x[-2000:]"
        for _ in range(times):
            with subprocess.Popen([AEP, "run", *self.where, "--require", "--", "/usr/bin/python3",
                                   "-c", "print('on', flush=True)\n" + script],
                                  stdout=subprocess.PIPE) as program:
                program.stdout.readline()
                program.kill()
        self.expect_sound()


def own_mounts():
    """A mount namespace that ends with this process, or why there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_mounts = 0x20000
    if os.geteuid() != 0 or libc.unshare(new_mounts) != 0:
        return "only root can mount"
    return mount("--make-rprivate", "/")


def mount(*words):
    """Why not, or None."""
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    return done.stderr if done.returncode != 0 else None


def mount_on_loop(kind, image, size, folder):
    """A new file system of that kind in a file, which has to outlive the mount. Why not, or None."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    tool = shutil.which(f"mkfs.{kind}", path=path)
    if tool is None:
        return f"no mkfs.{kind}"
    with open(image, "wb") as file:
        file.truncate(size)
    made = subprocess.run([tool, "-q", image], capture_output=True, text=True, check=False)
    return made.stderr if made.returncode != 0 else mount("-t", kind, "-o", "loop", image, folder)


def own_bpffs():
    """A bpffs that ends with this process, or why there is none."""
    return own_mounts() or mount("-t", "bpf", "bpf", BPFFS)


class OwnBpffs:
    """For tests with the provider: pins go into a bpffs that ends with this process."""

    @classmethod
    def setUpClass(cls):
        if why := own_bpffs():
            raise unittest.SkipTest(why)


class EbpfTest(OwnBpffs, ProviderTest):
    """A context with the provider, or why there can be none."""

    provider = "ebpf"

    def setUp(self):
        super().setUp()
        done = self.aep("up", "--pool-size", "64M", "--provider", "ebpf", "--verify")
        if done.returncode != 0 and "no provider" in done.stderr:
            self.skipTest(done.stderr)
        self.assertEqual(done.returncode, 0, done.stderr)

    @staticmethod
    def take_pins_away():
        """Programs that nobody else holds end with them."""
        for folder, _, files in os.walk(f"{BPFFS}/aep/{os.geteuid()}", topdown=False):
            for name in files:
                os.unlink(f"{folder}/{name}")
            os.rmdir(folder)


class Completed:
    """For tests whose clients are killed inside operations: eBPF as OwnBpffs has it, or, where that cannot be,
    the provider that needs no right."""

    provider = "ebpf"

    @classmethod
    def setUpClass(cls):
        if own_bpffs():
            cls.provider = "rollback"


def main():
    """The tests of the file that calls it, whose arguments are TOOLS_DIR NODE_CLIENT [unittest arguments]."""
    world.main(3)
