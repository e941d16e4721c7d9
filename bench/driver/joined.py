"""A context for the allocator `aep-joined`: a daemon of the driver's own, on a tmpfs like the pool's.

Used by run.py. Crash rule: the daemon dies with the driver; its files go with the place.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import time

from driver import pool


class JoinedContext:
    """A context manager; `socket` is what a client needs, or empty with the reason in `missing`."""

    def __init__(self, build, pool_size, wanted):
        self._build, self._size, self._wanted = build, pool_size, wanted
        self.socket = ""
        self.missing = ""

    def __enter__(self):
        if not self._wanted:
            return self
        daemon = os.path.join(self._build, "tools", "aepd")
        if not os.path.exists(daemon):
            self.missing = f"{os.path.relpath(daemon)} is not built"
            return self
        self._place = pool.PoolPlace(self._size)
        self._place.__enter__()
        folder = os.path.dirname(self._place.path)
        socket = os.path.join(folder, "socket")
        self._daemon = subprocess.Popen(
            [daemon, "--context", "bench", "--socket", socket, "--directory", os.path.join(folder, "context"),
             "--pool-size", str(self._place.size * 3 // 4), "--log-level", "error"],
            preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL))
        end = time.monotonic() + 10
        while not os.path.exists(socket) and self._daemon.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        if os.path.exists(socket):
            self.socket = socket
        else:
            self.missing = "its daemon does not start"
        return self

    def __exit__(self, *_):
        if not hasattr(self, "_daemon"):
            return
        if self.socket:
            subprocess.run([os.path.join(self._build, "tools", "aep"), "down", "--force", "--context", "bench",
                            "--socket", self.socket], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._daemon.wait(10)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
        shutil.rmtree(os.path.join(os.path.dirname(self._place.path), "context"), ignore_errors=True)
        self._place.__exit__()
