"""What a case sees as `t`: its scratch folder, its pool, and ways to run programs under the preload.

Made by conftest.py for each case and mode. Nothing in here runs under the preload itself, only what `run` and `start`
launch. Crash rule: whatever ends the worker, conftest.py removes the scratch folder and ends the processes below it,
so a case never has to clean up after itself.
"""

import concurrent.futures
import os
import re
import signal
import subprocess
import time
import typing

import pytest

import context
import processes

OURS = "libaepmalloc"
POLL_SECONDS = 0.005
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COMPLAINT = b"aep: "
# Fills 60 of a chunk's 64 slices with 4 blocks, so that a pool is filled to 93 % and not to 75 %.
RECLAIM_BLOCK = 960 * 1024
RECLAIM_SHARE = 0.7
RECLAIM_PROGRAM = """
import sys
blocks = [bytearray({block}) for _ in range({count})]
for i, b in enumerate(blocks):
    b[0] = b[-1] = i & 255
print(sum(b[0] for b in blocks), sum(b[-1] for b in blocks))
"""


class Result(typing.NamedTuple):
    """How a program ended and what it wrote."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self):
        return self.stdout.decode("utf-8", "replace")


def status_text(status):
    if status is not None and status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


class Test:
    """One run of one case in one mode."""

    __test__ = False  # for pytest: a tool, not a test

    def __init__(self, mode, preload, build, work, shm, pool_mib, note):
        """`preload` is None where the programs run as they are; `note` tells a line to the summary."""
        self.mode = mode
        self.preload = preload
        self.ours = bool(preload) and os.path.basename(preload).startswith(OURS)
        self.work = work
        self.note = note
        self.proofs = 0
        self._shm = shm
        self._pool_mib = pool_mib
        self._pools = {}
        self._contexts = {}
        self._build = build
        self._outputs = []
        self._cleanups = []
        self._expected = []

    # --- environment -------------------------------------------------------------------------------------------

    def path(self, *parts):
        return os.path.join(self.work, *parts)

    def folder(self, name, user=None):
        """A new folder in the scratch folder, owned by `user`."""
        path = self.path(name)
        os.makedirs(path)
        return context.give(path, user)

    def write(self, name, content):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return path

    @staticmethod
    def script(name):
        """Path of a file of scripts/."""
        return os.path.join(os.path.dirname(os.path.abspath(__file__)), "scripts", name)

    def pool(self, user=None):
        """The pool file that programs run by `user` share; it exists once one of them has created it."""
        if user not in self._pools:
            folder = os.path.join(self._shm, user or "own")
            os.makedirs(folder, mode=0o700)
            self._pools[user] = os.path.join(context.give(folder, user), "pool")
        return self._pools[user]

    def context(self, user=None):
        """The context that programs run by `user` share; its daemon answers."""
        if user not in self._contexts:
            folder = os.path.dirname(self.pool(user))
            self._contexts[user] = context.Context(self._build, folder, user, f"{self._pool_mib}M")
            self.until(self._contexts[user].answers, "the daemon to answer")
        return self._contexts[user]

    def forget_pool(self, user=None):
        """The case has checked the user's pool itself: none is expected at the end."""
        self._pools.pop(user, None)

    def environment(self, user=None, preload=True, extra=None):
        env = {"PATH": PATH, "HOME": self.work, "TMPDIR": self.work, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        if preload and self.preload:
            env["LD_PRELOAD"] = self.preload
        if preload and self.mode == "private":
            env["AEP_CONTEXT"] = "none"
        if preload and self.mode == "pool":
            env["AEP_POOL"] = self.pool(user)
            env["AEP_POOL_SIZE"] = f"{self._pool_mib}M"
            env["AEP_REQUIRE"] = "1"
        if preload and self.mode == "joined":
            env["AEP_SOCKET"] = self.context(user).socket
            env["AEP_REQUIRE"] = "1"
        env.update(extra or {})
        return env

    # --- checks ------------------------------------------------------------------------------------------------

    def equal(self, got, wanted, what):
        __tracebackhide__ = True
        if got != wanted:
            if isinstance(got, list) and isinstance(wanted, list):
                first = next((i for i, pair in enumerate(zip(got, wanted)) if pair[0] != pair[1]), None)
                if first is not None:
                    what, got, wanted = f"{what}, item {first}", got[first], wanted[first]
            raise AssertionError(f"{what}: got {_short(got)}, wanted {_short(wanted)}")

    def _await(self, event, what, process=None):
        """`event()`, which waits. When the case's time is over meanwhile, that is said with what it was waiting for."""
        __tracebackhide__ = True
        try:
            return event()
        except pytest.fail.Exception as over:
            tail = self._tail(process) if process else ""
            raise AssertionError(f"{over} waiting for {what}\n{tail}") from None

    def until(self, condition, what):
        """Poll until `condition()` is true and return its value."""
        __tracebackhide__ = True

        def poll():
            while not (value := condition()):
                time.sleep(POLL_SECONDS)
            return value

        return self._await(poll, what)

    def is_active(self, pid, user=None, allocates=True):
        """True when the process maps the preload and, in pool mode, our library has mapped the pool."""
        if not self.preload:
            return True
        try:
            with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
                maps = file.read()
        except OSError:
            return False
        wanted = [os.path.realpath(self.preload)]
        if self.mode == "pool" and self.ours and allocates:
            wanted.append(self.pool(user))
        if self.mode == "joined" and self.ours and allocates:
            wanted.append(self.context(user).pool)
        return all(path in maps for path in wanted)

    def active(self, pid, what, user=None):
        """Wait until the process shows that it runs on the preload; counts as proof for the case."""

        def seen():
            assert not processes.gone(pid), f"{what} ended before the preload was seen in it"
            return self.is_active(pid, user)

        self.until(seen, f"{what} to map the preload")
        self.proofs += 1

    def parallel(self, count, work):
        """Call `work(0)` to `work(count - 1)` at the same time and return a function that waits for them; what one of
        them raises becomes a failure of the case."""
        executor = concurrent.futures.ThreadPoolExecutor(count)
        futures = [executor.submit(work, n) for n in range(count)]

        def wait():
            executor.shutdown(wait=True)
            for n, future in enumerate(futures):
                error = future.exception()
                assert not error, f"client {n}: {type(error).__name__}: {error}"

        return wait

    # --- programs ----------------------------------------------------------------------------------------------

    def start(self, argv, *, user=None, cwd=None, env=None, preload=True, stdin=subprocess.DEVNULL, pass_fds=()):
        """Start a program and return its Popen; `stop` or `wait` ends it, at the latest the runner does."""
        number = len(self._outputs)
        base = self.path(f".output-{number}")
        with open(base + ".out", "wb") as out, open(base + ".err", "wb") as err:
            process = subprocess.Popen(
                argv, stdin=stdin, stdout=out, stderr=err, cwd=cwd or self.work, pass_fds=pass_fds,
                env=self.environment(user, preload, env), **context.identity(user))
        process.base = base
        self._outputs.append(base)
        return process

    def start_held(self, argv, **options):
        """Start a program that waits for input; the second value gives it its whole input and closes that."""
        process = self.start(argv, stdin=subprocess.PIPE, **options)

        def give(content):
            try:
                process.stdin.write(content)
                process.stdin.close()
            except BrokenPipeError:
                pass  # it ended without reading; its exit status tells

        return process, give

    @staticmethod
    def output(process):
        """What a running program has written to its standard output so far."""
        with open(process.base + ".out", "rb") as file:
            return file.read()

    def result(self, process, status=0):
        """Wait for a started program and check how it ended; None accepts every exit status but no signal."""
        __tracebackhide__ = True
        self._await(process.wait, f"{_name(process.args)} to end", process)
        with open(process.base + ".out", "rb") as out, open(process.base + ".err", "rb") as err:
            result = Result(process.returncode, out.read(), err.read())
        if result.status != status and (status is not None or result.status < 0):
            raise AssertionError(
                f"{_name(process.args)}: {status_text(result.status)}, wanted {status}\n{self._tail(process)}")
        return result

    def run(self, argv, *, stdin=b"", status=0, active=None, allocates=True, user=None, cwd=None, env=None,
            preload=True):
        """Run a program to its end. `active` names the executable (argv's own, or one that it starts) that has to be
        seen with the preload mapped; standard input is held back until then, so a program that reads is never missed.
        One that allocates nothing never maps the pool: `allocates=False`."""
        __tracebackhide__ = True
        process = self.start(argv, user=user, cwd=cwd, env=env, preload=preload, stdin=subprocess.PIPE)
        if active and preload and self.preload:
            self._await_active(process, active, user, allocates)
        # A program may end without reading its input: communicate() takes care of the broken pipe.
        content = stdin.encode() if isinstance(stdin, str) else stdin
        self._await(lambda: process.communicate(content), f"{_name(argv)} to end", process)
        return self.result(process, status)

    def stop(self, process, how=signal.SIGTERM, status=0):
        """End a server and check its exit status."""
        process.send_signal(how)
        return self.result(process, status)

    def kill(self, process):
        """End a program and whatever it has started with SIGKILL."""
        below = processes.descendants(process.pid)
        process.kill()
        process.wait()
        for pid in below:
            if not processes.gone(pid):
                os.kill(pid, signal.SIGKILL)

    def at_end(self, action):
        """Have `action()` called when the case ends, however it ends."""
        self._cleanups.append(action)

    def _await_active(self, process, executable, user, allocates):
        def seen():
            assert process.poll() is None, (f"{_name(process.args)} ended ({status_text(process.returncode)}) before "
                                            f"the preload was seen in {executable}\n{self._tail(process)}")
            return any(processes.executable(pid) == executable and self.is_active(pid, user, allocates)
                       for pid in [process.pid, *processes.descendants(process.pid)])

        self.until(seen, f"{executable} to map the preload")
        self.proofs += 1

    def _tail(self, process, limit=1500):
        parts = []
        for suffix in (".out", ".err"):
            with open(process.base + suffix, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
                text = file.read().decode("utf-8", "replace").strip()
            if text:
                parts.append(f"--- end of {suffix[1:]}\n{text}")
        return "\n".join(parts)

    # --- end of a case -----------------------------------------------------------------------------------------

    def expect_message(self, pattern, why):
        """A message that is right in this case: `pattern` matches what follows "aep: "; the summary counts them."""
        self._expected.append([re.compile(rb"aep: " + pattern), why, 0])

    def scan(self, name, content):
        """Fail when the allocator complained in `content`, an output or a log of the case."""
        for entry in self._expected:
            content, count = entry[0].subn(b"", content)
            entry[2] += count
        at = content.find(COMPLAINT)
        assert at < 0, f"complaint in {name}: {content[at:at + 400].decode('utf-8', 'replace')}"

    def finish(self):
        """The checks every case shares, when its own have passed. What it has left running is ended first."""
        processes.end_descendants(os.getpid(), keep=[shared.pid for shared in self._contexts.values()])
        for base in self._outputs:
            with open(base + ".err", "rb") as file:
                self.scan("stderr", file.read())
        for _, why, count in self._expected:
            if count:
                self.note(f"messages that were expected: {count} ({why})")
        if self.preload:
            assert self.proofs, "the case never showed that the preload was active"
        if self.ours and self.mode == "pool":
            for user, path in list(self._pools.items()):
                self._check_pool(user, path)
        for user, shared in self._contexts.items():
            self.until(lambda s=shared: not s.dead_clients(), "dead clients to be taken back")
            fault = shared.fault_at_end()
            assert fault is None, fault
            self.note(shared.summary)

    def _check_pool(self, user, path):
        """Everything in the pool belongs to dead processes now, so one more must be able to get most of it."""
        info = os.stat(path)
        self.equal(oct(info.st_mode & 0o777), oct(0o600), f"permissions of {path}")
        self.note(f"pool: {info.st_blocks * 512 >> 20} MiB in use at the end")
        count = int((self._pool_mib << 20) * RECLAIM_SHARE) // RECLAIM_BLOCK
        wanted = sum(i & 255 for i in range(count))
        result = self.run(["/usr/bin/python3", "-c", RECLAIM_PROGRAM.format(block=RECLAIM_BLOCK, count=count)],
                          user=user, status=None)
        assert result.status == 0, (f"the pool cannot be filled to {RECLAIM_SHARE:.0%} after all its users ended: "
                                    f"{result.stderr.decode('utf-8', 'replace')[-600:]}")
        self.equal(result.text.split(), [str(wanted)] * 2, "contents of the reclaimed pool")
        self.scan("stderr of the reclaiming process", result.stderr)

    def close(self):
        """Run the clean-ups and end what still runs."""
        for shared in self._contexts.values():
            if not shared.ended and not shared.answers():
                self.note(f"the daemon is gone (status {shared.status()}); it said last: {shared.log()[-600:]}")
            if not shared.ended:
                shared.command("down", "--force")
        for action in reversed(self._cleanups):
            try:
                action()
            except (OSError, AssertionError, subprocess.SubprocessError) as error:
                self.note(f"clean-up: {error}")
        processes.end_descendants(os.getpid())


def _name(argv):
    return " ".join(str(word) for word in argv)[:120]


def _short(value):
    text = repr(value)
    return text if len(text) < 300 else text[:300] + "..."
