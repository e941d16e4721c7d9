#!/usr/bin/env python3
"""The installed unit as a service manager would run it: its user, capabilities, file system, notification and stop.

Called by ctest: unit.py BUILD_DIR CMAKE [unittest arguments]. Leaves nothing behind. What is emulated: User=,
CapabilityBoundingSet=, AmbientCapabilities=, NoNewPrivileges=, UMask=, ProtectSystem=strict with ReadWritePaths=, Type=notify.
"""

import ctypes
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import world  # noqa: E402

BUILD, CMAKE = sys.argv[1:3]
AS_ROOT = "mount --make-rprivate / && for p in $PATHS; do mount --rbind $p $p; done && mount -o remount,bind,ro / && exec \"$@\""


def read_unit(path):
    """Its settings, with those of its drop-ins; of those that are given twice, the last."""
    settings = {}
    for part in [path, *sorted(glob.glob(f"{path}.d/*.conf"))]:
        with open(part, encoding="ascii") as unit:
            for line in unit:
                name, equals, value = line.strip().partition("=")
                if equals and not name.startswith("#"):
                    settings[name] = value
    return settings


@unittest.skipUnless(os.geteuid() == 0 and shutil.which("setpriv") and shutil.which("unshare"), "needs root, setpriv and unshare")
class Unit(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Mounts of ours end with this process.
        new_mounts = 0x20000
        if ctypes.CDLL(None).unshare(new_mounts) != 0:
            raise unittest.SkipTest("no mount namespace")
        cls.home = tempfile.mkdtemp(prefix="aep-test-", dir="/dev/shm")
        cls.addClassCleanup(shutil.rmtree, cls.home)
        os.chmod(cls.home, 0o755)
        cls.prefix = f"{cls.home}/prefix"
        subprocess.run([CMAKE, "--install", BUILD, "--prefix", cls.prefix], check=True, capture_output=True)
        cls.unit = read_unit(f"{cls.prefix}/lib/systemd/system/aepd@.service")

    def setUp(self):
        self.user = 2_000_000 + os.getpid()
        self.name = f"unit-{os.getpid()}"
        self.env = {"PATH": os.environ["PATH"]}
        for place in [f"/tmp/aep-{self.user}", f"/dev/shm/aep-{self.user}-{self.name}"]:
            self.addCleanup(shutil.rmtree, place, True)

    def start(self, **drop_in):
        """As systemd does; returns when it has said that it is ready."""
        unit = self.unit | drop_in
        self.assertEqual((unit["Type"], unit["NoNewPrivileges"], unit["ProtectSystem"]), ("notify", "yes", "strict"))
        names = [c.removeprefix("CAP_").lower() for c in unit["CapabilityBoundingSet"].split()]
        ambient = [c.removeprefix("CAP_").lower() for c in unit.get("AmbientCapabilities", "").split()]
        grant = "".join(f",+{name}" for name in ambient)
        words = unit["ExecStart"].replace("%i", self.name).replace("$AEPD_OPTIONS", "--pool-size 64M").split()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            path = f"{self.home}/notify"
            notify.bind(path)
            os.chmod(path, 0o666)
            # As in the unit: a minus says that it may be missing.
            writable = [p.lstrip("-") for p in unit["ReadWritePaths"].split() if os.path.exists(p.lstrip("-"))]
            daemon = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", AS_ROOT, "sh", "setpriv", "--reuid", unit["User"], "--regid", unit["User"],
                 "--clear-groups", "--bounding-set", "-all" + "".join(f",+{name}" for name in names), "--inh-caps", f"-all{grant}",
                 "--ambient-caps", f"-all{grant}", "--no-new-privs", *words],
                env=self.env | {"NOTIFY_SOCKET": path, "PATHS": " ".join(writable)}, stderr=subprocess.PIPE, text=True, cwd="/",
                umask=int(unit["UMask"], 8))
            self.addCleanup(daemon.stderr.close)
            self.addCleanup(daemon.wait)
            self.addCleanup(daemon.kill)
            notify.settimeout(30)
            try:
                self.assertEqual(notify.recv(100), b"READY=1")
            except TimeoutError:
                daemon.kill()
                self.fail(daemon.stderr.read())
            finally:
                os.unlink(path)
        return daemon

    def aep(self, *words):
        return subprocess.run([f"{self.prefix}/bin/aep", *words], user=self.user, group=self.user, extra_groups=[], cwd="/",
                              env=self.env, capture_output=True, text=True, check=False, timeout=60)

    def good(self, *words):
        done = self.aep(*words)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def status(self):
        return json.loads(self.good("status", "--context", self.name, "--json"))

    def expect_service(self, daemon, provider):
        """Programs of the user join; a stop keeps the context, and the next daemon goes on with it."""
        self.assertEqual((self.status()["provider"], self.status()["pid"]), (provider, daemon.pid))
        run = ["run", "--context", self.name, "--require", "--", "/bin/sh", "-c", "echo $((1+2)); kill -9 $$"]
        self.assertEqual(self.aep(*run).stdout, "3\n")
        self.good("recover", "--context", self.name)
        self.assertEqual(self.status()["state"], "live")
        daemon.send_signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(), 0)

    def test_as_a_user(self):
        for _ in range(2):
            self.expect_service(self.start(User=str(self.user)), "rollback")
        self.good("down", "--context", self.name)

    def test_as_a_user_with_ebpf(self):
        """With the drop-in's capabilities, and the folder that tmpfiles.d makes, on a bpffs as systemd mounts it."""
        with open(f"{self.prefix}/lib/tmpfiles.d/aep.conf", encoding="ascii") as file:
            lines = [line.lstrip("#") for line in file if line.lstrip("#").startswith(("d ", "z "))]
        made = f"{self.home}/aep.conf"
        with open(made, "w", encoding="ascii") as file:
            file.write("".join(lines).replace("/33 0700 www-data www-data", f"/{self.user} 0700 {self.user} {self.user}"))
        for words in [["mount", "--make-rprivate", "/"], ["mount", "-t", "bpf", "-o", "mode=0700", "bpf", "/sys/fs/bpf"],
                      ["systemd-tmpfiles", "--create", made]]:
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
        for _ in range(2):
            self.expect_service(self.start(User=str(self.user), AmbientCapabilities="CAP_BPF CAP_PERFMON"), "ebpf")
        self.assertEqual(len(os.listdir(f"/sys/fs/bpf/aep/{self.user}")), 1)
        self.good("down", "--context", self.name)  # of whom no daemon runs
        self.assertEqual(os.listdir(f"/sys/fs/bpf/aep/{self.user}"), [])

    def test_a_second_one_is_not_started_again(self):
        first = self.start(User=str(self.user))
        done = self.aep("up", "--context", self.name)
        self.assertIn("is up already", done.stdout.replace("was up", "is up"))
        second = subprocess.run([f"{self.prefix}/sbin/aepd", "--context", self.name], user=self.user, group=self.user, extra_groups=[],
                                env=self.env, cwd="/", capture_output=True, text=True, check=False)
        self.assertIn(str(second.returncode), self.unit["RestartPreventExitStatus"].split())
        first.send_signal(signal.SIGTERM)
        self.assertEqual(first.wait(), 0)
        self.good("down", "--context", self.name)


if __name__ == "__main__":
    world.main(3)
