"""The driver's own place for pool files: a tmpfs mounted with huge=advise, or a folder in /dev/shm.

Used by run.py. As root it is mounted in a mount namespace of the driver's own, so that it is gone with the
driver however the driver ends.
"""

import ctypes
import mmap
import os
import shutil
import signal
import subprocess
import tempfile

_CLONE_NEWNS = 0x00020000
_GIB = 1 << 30


class PoolPlace:
    """A context manager; `path` is where the next pool file goes, `kind` says what it lies on."""

    def __init__(self, wanted_size):
        self.kind = ""
        self.size = min(wanted_size, max(_memory_available() // 2, 64 << 20))
        self._folder = ""
        self._mounted = False

    @property
    def path(self):
        return os.path.join(self._folder, "pool")

    def __enter__(self):
        # A signal waits until the place is complete, or __exit__ would never be called for it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGHUP, signal.SIGINT))
        try:
            if os.geteuid() == 0:
                self._try_mount()
            if not self._mounted:
                self._use_shm()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self._mounted:
            subprocess.run(["umount", "-l", self._folder], check=False)
            os.rmdir(self._folder)
        elif self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def clear(self):
        """Removes every pool file: each measured process starts with a fresh pool."""
        for entry in os.scandir(self._folder):
            os.unlink(entry.path)

    @staticmethod
    def warm(size):
        """Writes once to `size` bytes of fresh memory in huge pages and gives them back.

        A virtual machine may hand its free huge pages back to its host, and gets each again at the first touch, in some
        milliseconds. Called right before a run that needs many pages, so that none of the allocators pays for that."""
        try:
            with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
                memory.madvise(mmap.MADV_HUGEPAGE)
                for at in range(0, size, 4096):
                    memory[at] = 1
        except (OSError, ValueError):  # a limit on memory: then it stays as it is
            pass

    def _try_mount(self):
        own_namespace = ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) == 0
        if own_namespace:
            own_namespace = _quiet("mount", "--make-rprivate", "/")
        self._folder = tempfile.mkdtemp(prefix="aep-bench-pool-")
        # Room for metadata and for rounding up to huge pages beside the pool's own size.
        options = f"size={self.size + _GIB // 4},mode=0700"
        for huge in (",huge=advise", ""):
            if _quiet("mount", "-t", "tmpfs", "-o", options + huge, "aep-bench", self._folder):
                self._mounted = True
                self.kind = "tmpfs" + (" with huge=advise" if huge else " without huge pages")
                return
        os.rmdir(self._folder)

    def _use_shm(self):
        why = "mounting a tmpfs failed" if os.geteuid() == 0 else "mounting a tmpfs needs root"
        self._folder = tempfile.mkdtemp(prefix="aep-bench-pool-", dir="/dev/shm")
        self.kind = f"/dev/shm without huge pages ({why})"
        facts = os.statvfs(self._folder)
        self.size = min(self.size, facts.f_bavail * facts.f_frsize // 2)


def _quiet(*command):
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def _memory_available():
    with open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 2 * _GIB
