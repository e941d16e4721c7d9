"""The process tree, read from /proc: find and end what a test has started, by pid and never by name.

Called by conftest.py and harness.py. The controller and its workers are child subreapers, so a program that daemonises
stays below them and is found here. Crash rule: holds no state.
"""

import ctypes
import os
import signal
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option, argument):
    if _libc.prctl(option, argument, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def become_subreaper():
    """Orphans among our descendants become our children."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent():
    """Get SIGTERM when the parent goes, so that its end is ours too."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _stat(pid):
    """State letter and parent of a process, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[1])
    except (OSError, IndexError):
        return None


def gone(pid):
    """True for a process that has ended, reaped or not."""
    stat = _stat(pid)
    return stat is None or stat[0] in "ZX"


def executable(pid):
    """Base name of the file a process executes, or None."""
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return None


def _families():
    """The children of every process that has any, zombies included."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = _stat(name)
            if stat:
                found.setdefault(stat[1], []).append(int(name))
    return found


def children(root):
    return _families().get(root, [])


def descendants(root):
    """Pids below `root`, parents first; zombies included."""
    families = _families()
    found = []
    queue = [root]
    while queue:
        below = families.get(queue.pop(), [])
        found += below
        queue += below
    return found


def end_descendants(root, seconds=10, keep=()):
    """Kill and reap everything below `root` (the caller's own pid, or a child about to be reaped), but not the
    processes of `keep` with what they have started."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        kept = {pid for top in keep for pid in [top, *descendants(top)]}
        left = [pid for pid in descendants(root) if pid not in kept and not gone(pid)]
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if root == os.getpid() and not keep:
            _reap()
        if not left:
            return
        time.sleep(0.005)


def _reap():
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return
