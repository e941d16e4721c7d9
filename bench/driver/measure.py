"""Runs one command under one allocator and returns what it cost.

Used by micro.py and workloads.py. The measuring itself is done by aep_bench_launch (workloads/launch.cpp).
"""

import json
import os
import signal
import subprocess
from dataclasses import dataclass, field


@dataclass
class Sample:
    """One run. `value` is the case's result in its unit; None when it failed."""

    wall: float = 0
    cpu: float = 0
    system: float = 0  # the part of cpu in the kernel
    faults: int = 0  # pages that the kernel had to give
    rss_kib: int = 0
    output: str = ""
    failed: str = ""
    value: float | None = None
    details: dict = field(default_factory=dict)


class Launcher:
    """Starts measured commands; each in a session of its own, so that a stuck one can be ended whole."""

    def __init__(self, program, place):
        self._program = program
        self._place = place  # PoolPlace

    def run(self, allocator, command, cwd=None, timeout=120, extra_env=None, drive=None):
        """`drive(process)` is called while the command runs; what it returns, if anything, is a failure."""
        self._place.clear()
        env = allocator.environment()
        env.update(extra_env or {})
        read_end, write_end = os.pipe()
        try:
            process = subprocess.Popen(
                [self._program, str(write_end), allocator.library, allocator.pool, *command],
                env=env, cwd=cwd, pass_fds=(write_end,), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
            os.close(write_end)
            write_end = -1
            out, err, problem = _finish(process, timeout, drive)
            with os.fdopen(read_end) as report:
                read_end = -1
                line = report.read()
        finally:
            for fd in (read_end, write_end):
                if fd >= 0:
                    os.close(fd)
            self._place.clear()
        if problem:
            return Sample(failed=f"{problem} {err.strip()[-200:]}")
        if not line:
            return Sample(failed=f"no report: {err.strip()[-200:]}")
        return _sample(json.loads(line), out, err)


def _finish(process, timeout, drive):
    """(stdout, stderr, what went wrong)"""
    try:
        problem = drive(process) if drive else ""
        if problem:
            out, err = _end_session(process)
        else:
            out, err = process.communicate(timeout=timeout)
        return out, err, problem
    except subprocess.TimeoutExpired:
        out, err = _end_session(process)
        return out, err, f"still running after {timeout} s"
    except BaseException:
        _end_session(process)
        raise


def _end_session(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    return process.communicate()


def _sample(report, out, err):
    sample = Sample(report["wall"], report["user"] + report["system"], report["system"], report["faults"], report["rss_kib"], out)
    if report["status"] < 0:
        sample.failed = f"ended by {signal.Signals(-report['status']).name}: {err.strip()[-200:]}"
    elif report["status"] > 0:
        sample.failed = f"exit status {report['status']}: {err.strip()[-200:]}"
    return sample
