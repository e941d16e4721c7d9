"""A context for the programs of one case and one user: its daemon, and what must be true when all of them have ended.

Called by harness.py in mode `joined`. Crash rule: the daemon is a child of the worker, which ends all its descendants;
its files lie in the case's scratch folder in /dev/shm.
"""

import json
import os
import pwd
import shutil
import subprocess

NEEDED = ("tools/aepd", "tools/aep", "aep-lib/image/aep-image", "aep-lib/completer/aep-completer")


def identity(user):
    """The words that make subprocess run a program as `user`; None is the caller."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def give(path, user):
    """Makes `user` the owner of `path`, and returns it."""
    if user:
        shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
    return path


class Context:
    def __init__(self, build, folder, user, pool_size):
        """Copies what the daemon needs to where the user reaches it, and starts it."""
        self.folder = folder
        self.socket = os.path.join(folder, "socket")
        self.pool = os.path.join(folder, "context", "pool")
        programs = os.path.join(folder, "programs")
        for part in NEEDED:
            place = os.path.join(programs, part)
            os.makedirs(os.path.dirname(place), mode=0o755, exist_ok=True)
            shutil.copy(os.path.join(build, part), place)
        self._aep = os.path.join(programs, "tools/aep")
        self._identity = identity(user)
        self._log = os.path.join(folder, "log")
        self._daemon = subprocess.Popen(
            [os.path.join(programs, "tools/aepd"), *self._where(), "--pool-size", pool_size, "--verify",
             "--log-file", self._log],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, **self._identity)
        self.pid = self._daemon.pid
        self.ended = False

    def _where(self):
        return ["--context", "programs", "--socket", self.socket, "--directory", os.path.join(self.folder, "context")]

    def log(self):
        try:
            with open(self._log, encoding="utf-8", errors="replace") as file:
                return file.read()[-1500:]
        except OSError:
            return ""

    def command(self, name, *more):
        """The answer in JSON, or None with the reason in `self.error`."""
        words = [self._aep, name, *more, "--json", "--context", "programs", "--socket", self.socket]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, **self._identity)
        self.error = done.stderr.strip()
        try:
            return json.loads(done.stdout)
        except ValueError:
            return None

    def status(self):
        return self._daemon.poll()

    def answers(self):
        return self._daemon.poll() is None and os.path.exists(self.socket) and self.command("status") is not None

    def dead_clients(self):
        """Those that are not taken back, after another try; false also when the daemon does not answer."""
        return self.command("recover") is not None and self.command("clients")

    def fault_at_end(self):
        """Everybody has ended and is taken back: what is wrong, or None."""
        status = self.command("status")
        if status is None:
            return f"the daemon does not answer: {self.error}\n{self.log()}"
        if status["state"] != "live":
            return f"the context is poisoned: {status['poison']}"
        if status["recovery"]["broken"]:
            return f"the heap of a dead client was broken\n{self.log()}"
        if status["memory"]["held_bytes"]:
            return f"{status['memory']['held_bytes']} bytes belong to nobody"
        findings = self.command("check")
        if findings:
            return f"check: {findings}"
        self.summary = (f"context: {status['clients']['attached']} clients, {status['recovery']['completed']} operations "
                        f"completed after a kill, provider {status['provider']}")
        self.ended = True
        self.command("down")
        return None
