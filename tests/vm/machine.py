"""A machine in QEMU, with this system's programs, memory that others have, and an agent that does what a test says.

Used by machines.py. Crash rule: a machine ends with the test (kernel/qemu/system.sh sees to that).
"""

import json
import os
import signal
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SYSTEM = f"{ROOT}/kernel/qemu/system.sh"
BOOT_S = 240  # without KVM, several at once
ANSWER_S = 320  # longer than the agent's own limit
MACHINE_S = 3000
KILLED = 137  # status of a machine whose QEMU was killed


class Done:
    """A command that has ended, as subprocess.CompletedProcess."""

    def __init__(self, answer):
        self.returncode, self.stdout, self.stderr = (answer[k] for k in ("returncode", "stdout", "stderr"))


class Machine:
    def __init__(self, folder, number, image, memory):
        self.name = f"machine {number}"
        self.path = f"{folder}/{number}"
        self.image, self.memory = image, memory  # as system.sh takes it
        self.system = self.port = self.lines = None

    def boot(self):
        """Begins to boot; wait() waits for the end of that."""
        for left in (f"{self.path}.port", f"{self.path}.pid"):
            if os.path.exists(left):
                os.unlink(left)
        with open(f"{self.path}.console", "a", encoding="utf-8") as console:
            self.system = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", SYSTEM, "--memory", "640M", "--cpus", "1",
                 "--timeout", str(MACHINE_S), *self.memory, "--port", f"{self.path}.port", "--pidfile", f"{self.path}.pid", self.image,
                 "python3", f"{HERE}/agent.py"], stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        # At once: what the agent says while nobody listens is lost.
        deadline = time.monotonic() + BOOT_S
        self.port = socket.socket(socket.AF_UNIX)
        self.port.settimeout(BOOT_S)
        while self.port.connect_ex(f"{self.path}.port") != 0:
            self.must_run()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: no QEMU\n{self.console()}")
            time.sleep(0.1)
        self.lines = self.port.makefile("r", encoding="utf-8")

    def wait(self):
        self.hear()  # ready
        self.port.settimeout(ANSWER_S)

    def must_run(self):
        if self.system.poll() is not None:
            raise RuntimeError(f"{self.name}: ended with status {self.system.returncode}\n{self.console()}")

    def console(self):
        """What the machine said last."""
        with open(f"{self.path}.console", encoding="utf-8", errors="replace") as lines:
            return "".join(lines.readlines()[-40:])

    def hear(self):
        try:
            line = self.lines.readline()
        except TimeoutError:
            line = ""
        if not line:
            raise RuntimeError(f"{self.name}: no answer\n{self.console()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer["answer"]

    def do(self, what, **words):
        self.port.sendall(json.dumps({"do": what, **words}).encode() + b"\n")
        return self.hear()

    def run(self, *words, env=None, text=""):
        return Done(self.do("run", words=words, env=env or {}, text=text))

    def lose_power(self):
        with open(f"{self.path}.pid", encoding="ascii") as pid:
            os.kill(int(pid.read()), signal.SIGKILL)
        self.system.wait(timeout=60)
        self.close()

    def shut_down(self):
        """Its exit status: not 0 if its kernel has complained."""
        if self.port is None:
            return 0
        self.port.sendall(b"over\n")
        status = self.system.wait(timeout=120)
        self.close()
        return status

    def is_up(self):
        return self.port is not None

    def close(self):
        for end in (self.lines, self.port):
            end.close()
        self.lines = self.port = None


class Peer:
    """A peer process (tests/sharing/peer.cpp) in a machine; what is not its own is a command of it."""

    def __init__(self, machine, program):
        self.machine = machine
        self.number = machine.do("start", words=[program], env={"AEP_CONTEXT": "default", "AEP_REQUIRE": "1"})

    def begin(self, *words):
        self.machine.do("tell", program=self.number, line=" ".join(str(w) for w in words))

    def end_of(self):
        return self.machine.do("hear", program=self.number)

    def __getattr__(self, command):
        def ask(*words):
            line = " ".join(str(w) for w in (command, *words))
            return self.machine.do("ask", program=self.number, line=line)
        return ask
