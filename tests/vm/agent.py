#!/usr/bin/env python3
"""Does in a machine what a test outside says: runs commands, keeps programs that are told things by lines.

Runs as the one command of kernel/qemu/system.sh; machine.py is the other end of its serial line. A request
and an answer are a line of JSON each. Crash rule: it goes with its machine.
"""

import json
import os
import signal
import subprocess
import sys
import termios
import tty

LONGEST_S = 300  # of any command


class Agent:
    def __init__(self, port):
        self.port = port
        self.programs = []

    def run(self, words, env, text=""):
        done = subprocess.run(words, env={**os.environ, **env}, input=text, capture_output=True, text=True,
                              timeout=LONGEST_S, check=False)
        return {"returncode": done.returncode, "stdout": done.stdout, "stderr": done.stderr}

    def start(self, words, env):
        self.programs.append(subprocess.Popen(words, env={**os.environ, **env}, text=True,
                                              stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return len(self.programs) - 1

    def tell(self, program, line):
        self.programs[program].stdin.write(line + "\n")
        self.programs[program].stdin.flush()

    def hear(self, program):
        return self.programs[program].stdout.readline().rstrip("\n")

    def ask(self, program, line):
        self.tell(program, line)
        return self.hear(program)

    def end(self, program, number=signal.SIGKILL):
        """The program's exit status, and what it said and nobody has heard."""
        one = self.programs[program]
        if number:
            one.send_signal(number)
        rest, _ = one.communicate(timeout=LONGEST_S)
        return {"returncode": one.returncode, "stdout": rest}

    def end_all(self):
        """All programs that still run."""
        for one in self.programs:
            if one.poll() is None:
                one.kill()
                one.communicate(timeout=LONGEST_S)

    def answer(self, line):
        request = json.loads(line)
        what = request.pop("do")
        try:
            return {"answer": getattr(self, what)(**request)}
        except (OSError, subprocess.SubprocessError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def serve(self):
        """Until the other end says that it is over."""
        self.send({"answer": "ready"})
        while (line := self.port.readline()) and line != b"over\n":
            self.send(self.answer(line))

    def send(self, answer):
        self.port.write(json.dumps(answer).encode() + b"\n")
        self.port.flush()


def main():
    with open("/dev/ttyS1", "r+b", buffering=0) as line:
        tty.setraw(line, termios.TCSANOW)
        with open(line.fileno(), "rb", closefd=False) as reads, open(line.fileno(), "wb", closefd=False) as writes:
            agent = Agent(Port(reads, writes))
            agent.serve()


class Port:
    """Both directions of the line, which cannot be sought in."""

    def __init__(self, reads, writes):
        self.readline, self.write, self.flush = reads.readline, writes.write, writes.flush


if __name__ == "__main__":
    sys.exit(main())
