"""The process-level cases: synthetic programs, start-up, and real programs with real work.

Used by run.py. A case's time is CPU time, of all its threads and children, so that neighbours do not
count. Each program's output is compared with what it prints without any preload; lines that start
with '#' are measurements of its own ("# value X" replaces the time, others become details).
"""

import dataclasses
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field

from . import sources
from .git_history import write_history

HERE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "workloads")
SEARCH = "/usr/bin:/bin:/usr/sbin:/sbin"


@dataclass
class Workload:
    name: str
    command: list
    env: dict = field(default_factory=dict)
    needs: str = ""  # a program without which the case cannot run, and its Debian package
    package: str = ""
    cwd: str | None = None
    keep_output: bool = True  # False: too long or not the same each time
    in_rounds: bool = False  # it does its work as often as a further argument says
    expected: str | None = None

    set = "workload"
    unit = "ms"
    small_objects = False

    @property
    def group(self):
        return self.name.split("/")[0]

    @property
    def missing(self):
        if self.needs and shutil.which(self.needs, path=SEARCH) is None:
            return f"{self.needs} is not installed (Debian package {self.package or self.needs})"
        return ""

    def repeated(self, rounds):
        """The same case with its work done so many times, if it can do that."""
        return dataclasses.replace(self, command=[*self.command, str(rounds)]) if self.in_rounds else self

    def run(self, launcher, allocator):
        sample = launcher.run(allocator, self.command, cwd=self.cwd, extra_env=self.env)
        return self.judge(sample)

    def judge(self, sample):
        """Sets the value; a run whose output differs from the expected one has failed."""
        own, text = _split(sample.output)
        if not sample.failed and self.keep_output:
            if self.expected is None:
                self.expected = text
            elif text != self.expected:
                sample.failed = f"wrong output: {text.strip()[:80]!r}"
        sample.value = own.pop("value", sample.cpu * 1e3)
        sample.details = own
        return sample

    def prepare(self, launcher, plain):
        """Runs it once without a preload: the expected output, and files in the page cache."""
        sample = self.run(launcher, plain)
        if sample.failed:
            raise SystemExit(f"bench: {self.name} does not work even without a preload: {sample.failed}")


class Redis(Workload):
    """redis-server under the allocator; redis-benchmark, without it, asks over a Unix socket.

    Debian's redis-server is linked with jemalloc, so that "glibc" must be preloaded like the others.
    """
    requests = 20000

    def repeated(self, rounds):
        case = dataclasses.replace(self)
        case.requests = self.requests * rounds
        return case

    def run(self, launcher, allocator):
        if not allocator.library:
            allocator = dataclasses.replace(allocator, library=_own_libc())
        path = os.path.join(self.cwd, "redis.sock")
        command = [*self.command, "--unixsocket", path]
        sample = launcher.run(allocator, command, cwd=self.cwd, drive=lambda process: self._ask(path, process))
        return self.judge(sample)

    def _ask(self, path, process):
        """What the client does while the server runs; returns why it failed, or nothing."""
        if not _answers(path, process):
            return "the server does not answer"
        client = subprocess.run(
            ["redis-benchmark", "-s", path, "-n", str(self.requests), "-c", "10", "-P", "16", "-r", "20000", "-d", "300",
             "-q", "-t", "set,get,lpush,lpop,sadd,hset,mset"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        subprocess.run(["redis-cli", "-s", path, "shutdown", "nosave"], capture_output=True, timeout=30)
        return "" if client.returncode == 0 else f"redis-benchmark: {client.stderr.strip()[-200:]}"


def cases(program, scratch, outside=()):
    """All of them. `program(name)` is the path of a built program; `scratch` a folder for their files; `outside` are
    further programs as NAME=COMMAND."""
    repository = os.path.join(scratch, "repository")
    git_env = {"HOME": scratch, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    source = {n: os.path.join(HERE, n)
              for n in ("objects.py", "queries.sql", "text.pl", "tables.lua", "compile_me.cpp", "spheres.pov")}
    generated = {language: os.path.join(scratch, f"generated.{language}") for language in sources.WRITERS}
    listed = [
        Workload("synthetic/threadtest_2", [program("aep_bench_threadtest"), "2", "200"]),
        Workload("synthetic/threadtest_8", [program("aep_bench_threadtest"), "8", "200"]),
        Workload("synthetic/larson", [program("aep_bench_larson"), "4", "150", "10000"]),
        Workload("synthetic/fragment", [program("aep_bench_fragment"), "32", "8"]),
        Workload("synthetic/bodies", [program("aep_bench_bodies"), "40000", "4"]),
        Workload("synthetic/bursts_200", [program("aep_bench_bursts"), "5", "200"]),
        Workload("synthetic/bursts_20000", [program("aep_bench_bursts"), "5", "20000"]),
        Workload("startup/true", [program("aep_bench_startup"), "150", "/bin/true"]),
        Workload("program/python_malloc", ["/usr/bin/python3", source["objects.py"]], env={"PYTHONMALLOC": "malloc"},
                 needs="python3", in_rounds=True),
        Workload("program/python", ["/usr/bin/python3", source["objects.py"]], needs="python3", in_rounds=True),
        Workload("program/sqlite", ["sqlite3", "-batch", ":memory:", f".read {source['queries.sql']}"], needs="sqlite3"),
        Workload("program/perl", ["perl", source["text.pl"]], needs="perl", in_rounds=True),
        Workload("program/lua", ["lua5.4", source["tables.lua"]], needs="lua5.4"),
        Workload("program/g++", ["g++", "-std=c++17", "-O0", "-S", "-o", "-", source["compile_me.cpp"]], needs="g++"),
        Workload("program/gcc_O2", ["gcc", "-O2", "-S", "-o", "-", generated["c"]], needs="gcc"),
        Workload("program/g++_O2", ["g++", "-std=c++17", "-O2", "-S", "-o", "-", generated["cpp"]], needs="g++"),
        Workload("program/povray", ["povray", f"+I{source['spheres.pov']}", "+W160", "+H120", "+WT1", "-D", "-GA", "+FP8", "+O-"],
                 needs="povray", keep_output=False),
        Workload("program/git_log", ["git", "-C", repository, "log", "-p", "--stat", "--no-color"], env=git_env, needs="git"),
        Workload("program/git_pack", ["sh", "-c", "git pack-objects --all --stdout -q --no-reuse-delta --threads=2 "
                                      "</dev/null | wc -l >/dev/null"], env=git_env, needs="git", cwd=repository),
        Redis("program/redis", ["redis-server", "--port", "0", "--save", "", "--appendonly", "no", "--loglevel", "warning"],
              needs="redis-benchmark", package="redis-server, redis-tools", cwd=scratch, keep_output=False),
    ]
    for pair in outside:
        listed.append(_outside(pair, {c.name for c in listed}))
    return listed


def _outside(pair, taken):
    """The case of a program that the user names; what is wrong with it ends the program."""
    name, equals, command = pair.partition("=")
    try:
        words = shlex.split(command)
    except ValueError as problem:
        raise SystemExit(f"bench: --program {pair}: {problem}") from None
    if not equals or not words or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", name):
        raise SystemExit(f"bench: --program {pair}: expected NAME=COMMAND, the name of letters, digits, '_', '.', '+' and '-'")
    if f"program/{name}" in taken:
        raise SystemExit(f"bench: --program {pair}: there is a case program/{name} already; choose another name")
    if shutil.which(words[0], path=SEARCH) is None:
        raise SystemExit(f"bench: --program {pair}: {words[0]} is no program")
    # What such a program prints may be times.
    return Workload(f"program/{name}", words, keep_output=False)


def prepare(chosen, scratch, launcher, plain):
    """What the chosen cases need before the first round."""
    runnable = [c for c in chosen if not c.missing]
    if any(c.name.startswith("program/git") for c in runnable):
        write_history(os.path.join(scratch, "repository"))
    sources.write(scratch)
    for case in runnable:
        case.prepare(launcher, plain)


def _split(output):
    """({measurement: number}, the rest of the output)."""
    own, text = {}, []
    for line in output.splitlines(keepends=True):
        words = line.split()
        if line.startswith("# ") and len(words) == 3 and words[2].replace(".", "", 1).isdigit():
            own[words[1]] = float(words[2])
        else:
            text.append(line)
    return own, "".join(text)


def _answers(path, process, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            try:
                client.connect(path)
                client.sendall(b"PING\r\n")
                if client.recv(16).startswith(b"+PONG"):
                    return True
            except OSError:
                pass
        time.sleep(0.005)
    return False


def _own_libc():
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            path = line.split()[-1]
            if os.path.basename(path).startswith("libc.so.6"):
                return path
    return ""
