"""A client that does what a test says.

Used by sharing.py and nodes.py. Crash rule: it is there to be killed.
"""

import os
import select
import signal
import subprocess
import sys

PEER = sys.argv[2]
FUTEX = "202"  # the system call's number


class Peer:
    """A peer process; every attribute that is not its own is a command: peer.send(id, address)."""

    def __init__(self, socket, before=()):
        """`before`: words that run it in another place."""
        env = dict(os.environ, AEP_SOCKET=socket, AEP_REQUIRE="1")
        self.process = subprocess.Popen([*before, os.path.abspath(PEER)], env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def begin(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()

    def end_of(self):
        return self.process.stdout.readline().rstrip("\n")

    def end_within(self, seconds):
        """The answer, or None if there is none by then."""
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        return self.end_of() if ready else None

    def until_it_sleeps(self):
        """Until it sleeps on a futex: for a message, for room in a mailbox, or for a lock."""
        while True:
            with open(f"/proc/{self.process.pid}/syscall", encoding="ascii") as call:
                if call.read().split()[0] == FUTEX:
                    return

    def __getattr__(self, command):
        def ask(*words):
            self.begin(command, *words)
            return self.end_of()
        return ask

    def end(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
