"""What ../ipc.py measures: the systems, the rows, and how one run is made.

Crash rule: iox-roudi and the programs end with this process; iox-roudi is asked to, so that it takes its shared memory away.
"""

import contextlib
import ctypes
import dataclasses
import os
import signal
import subprocess
import tempfile
import time

from . import context

KIB, MIB = 1 << 10, 1 << 20
SIZES = (64, KIB, 64 * KIB, MIB, 16 * MIB)
MODES = ("poll", "sleep")
# What is told of a run, and how many processes it has.
PATTERNS = {"stream": ("rate", 2), "window": ("rate", 2), "reply": ("p50_ns", 2), "to-4": ("rate", 5), "from-4": ("rate", 5)}
OURS, LIMIT = "aep", "raw"
OURS_MANY = "aep_many"  # several messages a call
ALL_OURS = {OURS, OURS_MANY}
TIMEOUT_S = 60  # of a run that takes less than one
CLIENTS_S = 10  # a dead client is taken back by then
READY = "RouDi is ready for clients"


def size_name(size):
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


@dataclasses.dataclass(frozen=True)
class System:
    name: str
    label: str
    package: str = ""  # of Debian, that it is built with
    runs: str = ""  # a program that it needs
    sleeps: bool = True
    alone: bool = False  # the limit: see `cannot`
    many: bool = False  # in a call

    @property
    def program(self):
        return "aep_bench_ipc_" + self.name

    def cannot(self, row):
        """Why the row has nothing of it, or ""."""
        if row.mode == "sleep" and not self.sleeps:
            return "nobody can sleep there"
        if self.alone and (row.size != SIZES[0] or row.pattern not in ("stream", "reply")):
            return "measured as a limit of two other rows"
        if self.many and (row.size > KIB or row.pattern not in ("stream", "from-4")):
            return "many go in a call where they are small and nobody answers"
        return ""


SYSTEMS = (
    System(OURS, "ours"),
    System(OURS_MANY, "ours, 32 a call", many=True),
    System("iceoryx", "iceoryx", "libiceoryx-posh-dev", "iox-roudi"),
    System("message_queue", "Boost message_queue", "libboost-dev"),
    System("spsc_queue", "Boost spsc_queue", "libboost-dev", sleeps=False),
    System("zeromq", "ZeroMQ, ipc://", "libzmq3-dev"),
    System("pipe", "pipe"),
    System("seqpacket", "socket, SEQPACKET"),
    System("dgram", "socket, DGRAM"),
    System(LIMIT, "a cache line", sleeps=False, alone=True),
)


@dataclasses.dataclass(frozen=True)
class Row:
    pattern: str
    size: int
    mode: str

    @property
    def name(self):
        return f"{self.pattern}/{self.size}/{self.mode}"

    def cannot(self, processors):
        """Who polls for what another one does that cannot run measures the scheduler."""
        processes = PATTERNS[self.pattern][1]
        if self.mode == "poll" and processors < processes:
            return f"{processes} processes poll, there are {processors} processors"
        return ""


def rows():
    return [Row(pattern, size, mode) for pattern in PATTERNS for mode in MODES for size in SIZES]


class Roudi(contextlib.ExitStack):
    """An iox-roudi of our own, with memory for the sizes. `missing`: why there is none."""

    def __init__(self, wanted):
        super().__init__()
        self.missing = ""
        self._wanted = wanted

    def __enter__(self):
        if self._wanted:
            folder = self.enter_context(tempfile.TemporaryDirectory(prefix="aep-bench-"))
            config = os.path.join(folder, "roudi.toml")
            with open(config, "w", encoding="utf-8") as file:
                file.write(self._config())
            try:
                self._start(config)
            except FileNotFoundError:
                self.missing = "no iox-roudi: Debian package iceoryx is missing"
        return self

    @staticmethod
    def _config():
        """Twice what can be under way of each size: 64 MiB, 4 messages at least and 256 at most."""
        lines = ["[general]", "version = 1", "[[segment]]"]
        for size in SIZES:
            count = 2 * min(max(64 * MIB // size, 4), 256) + 16 if size < MIB else max(64 * MIB // size, 4) + 16
            lines += ["[[segment.mempool]]", f"size = {size}", f"count = {count}"]
        return "\n".join(lines) + "\n"

    def _start(self, config):
        def end_with_parent():
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)

        process = subprocess.Popen(["iox-roudi", "-c", config, "-m", "off", "-l", "warning"], stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, preexec_fn=end_with_parent)
        self.callback(self._end, process)
        said = []
        for line in process.stdout:
            said.append(line.strip())
            if READY in line:
                return
        self.missing = f"iox-roudi does not start: {' '.join(said)[-300:]}"

    @staticmethod
    def _end(process):
        process.terminate()
        process.communicate()


class Runs(contextlib.ExitStack):
    """The daemon and iox-roudi that the wanted systems need; `missing[system]`: why it cannot be measured here."""

    def __init__(self, build, wanted):
        super().__init__()
        self._build, self._wanted = build, wanted
        self.missing = {}
        self.launcher = None

    def __enter__(self):
        for system in self._wanted:
            if not os.access(self._path(system), os.X_OK):
                self.missing[system.name] = (f"Debian package {system.package} was not there when it was built" if system.package
                                             else f"{system.program} is not built")
        needed = {s.name for s in self._wanted if s.name not in self.missing}
        roudi = self.enter_context(Roudi("iceoryx" in needed))
        if roudi.missing:
            self.missing["iceoryx"] = roudi.missing
        self._daemon = None
        if needed & ALL_OURS:
            self._daemon = self.enter_context(context.Daemon(self._build, "auto"))
        return self

    def _path(self, system):
        """In the top build or in bench's own."""
        places = [os.path.join(self._build, folder, system.program) for folder in ("bench/ipc", "ipc")]
        return next(filter(os.path.exists, places), places[0])

    def _environment(self, system):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("AEP_", "LD_PRELOAD"))}
        return dict(env, AEP_SOCKET=self._daemon.socket, AEP_REQUIRE="1") if system.name in ALL_OURS else env

    def run(self, system, row, unit, count):
        """The figures of one run, by the process `launcher`: {name: [values]}, or {"failed": why}."""
        words = [self._path(system), row.pattern, row.mode, str(row.size), unit, str(count)]
        with subprocess.Popen(words, env=self._environment(system), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              preexec_fn=context.die_with_parent) as launcher:
            self.launcher = launcher.pid
            try:
                output, errors = launcher.communicate(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                launcher.kill()
                return {"failed": f"still running after {TIMEOUT_S} s"}
        if system.name in ALL_OURS:
            self._settle()
        if launcher.returncode != 0:
            return {"failed": f"status {launcher.returncode}: {errors.strip()[-300:]}"}
        found = {}
        for line in output.splitlines():
            name, value = line.split()
            found.setdefault(name, []).append(float(value))
        return found

    def _settle(self):
        """Until the clients of a run are taken back: the next one finds the memory free and the processors idle."""
        end = time.monotonic() + CLIENTS_S
        while self._daemon.command("clients") and time.monotonic() < end:
            self._daemon.command("recover")
