"""A daemon of the driver's own with a context, and the one that the allocator `aep-joined` joins.

Used by run.py and ../context.py. Crash rule: the daemon dies with the driver; its files lie in a temporary folder.
"""

import contextlib
import ctypes
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

from driver import pool

TIMEOUT_S = 600  # of one run
START_S = 10  # a daemon that does not serve by then does not start

_names = (f"bench-{number}" for number in itertools.count())


class DaemonFailed(Exception):
    """Why there is no daemon."""


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def new_name():
    """For one client: a name stays taken until the daemon has seen the end."""
    return next(_names)


@contextlib.contextmanager
def other_end(words, env):
    """The second process of a run with a peer; it ends when the first one tells it, or is ended when that one failed."""
    server = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
    try:
        server.stdout.readline()
        yield
        server.wait(TIMEOUT_S)
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
        server.stdout.close()


class Daemon:
    """A context manager. `place`: the folder for its folder; it holds the pool. `more`: further options."""

    def __init__(self, build, provider, place="/dev/shm", pool_size="4G", more=()):
        self.build = build
        self._provider, self._place, self._pool_size, self._more = provider, place, str(pool_size), more

    def __enter__(self):
        program = f"{self.build}/tools/aepd"
        if not os.path.exists(program):
            raise DaemonFailed(f"{os.path.relpath(program)} is not built")
        self.folder = tempfile.mkdtemp(prefix="aep-bench-context-", dir=self._place)
        self.socket = os.path.join(self.folder, "socket")
        self.where = ["--context", "bench", "--socket", self.socket]
        self.process = subprocess.Popen(
            [program, *self.where, "--directory", f"{self.folder}/context", "--pool-size", self._pool_size,
             "--provider", self._provider, "--log-level", "error", *self._more], preexec_fn=die_with_parent)
        end = time.monotonic() + START_S
        while not os.path.exists(self.socket):
            if self.process.poll() is not None or time.monotonic() > end:
                self.__exit__()
                raise DaemonFailed(f"its daemon does not start (status {self.process.returncode})")
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.command("down", "--force")
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, *words):
        done = subprocess.run([f"{self.build}/tools/aep", words[0], "--json", *self.where, *words[1:]],
                              capture_output=True, text=True, check=False)
        return json.loads(done.stdout) if done.stdout.strip() else None


class JoinedContext(contextlib.ExitStack):
    """For `aep-joined`, on a tmpfs like the pool's. `socket` is what a client needs, or empty with the reason in
    `missing`."""

    def __init__(self, build, pool_size, wanted):
        super().__init__()
        self.socket = self.missing = ""
        self._build, self._pool_size, self._wanted = build, pool_size, wanted

    def __enter__(self):
        if self._wanted:
            place = self.enter_context(pool.PoolPlace(self._pool_size))
            daemon = Daemon(self._build, "auto", os.path.dirname(place.path), place.size * 3 // 4)
            try:
                self.socket = self.enter_context(daemon).socket
            except DaemonFailed as why:
                self.missing = str(why)
        return self
