#!/usr/bin/python3
"""Real programs on our heap: each case in cases/ runs a program from Debian under LD_PRELOAD and checks its work.

    run.py --all                          every case, every mode
    run.py --only git --mode pool         one case (may be repeated)
    run.py --list                         names, packages and what each case does

Started by ctest, by `./aep test` and by hand. The runner is never under the preload. Each run of a case is a worker
process of its own in scratch folders of its own. Crash rule: a killed runner takes its workers along; a worker that
is ended, by time or by Ctrl-C, ends its processes and its files are removed.
"""

import argparse
import concurrent.futures
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
DEFAULT_PRELOAD = os.path.join(SOURCE, "build/release/preload/libaepmalloc.so")
WORKER_GRACE_SECONDS = 30

sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
sys.path.insert(1, os.path.dirname(HERE))
import world  # noqa: E402
import catalogue  # noqa: E402
import harness  # noqa: E402
import processes  # noqa: E402


def missing(module):
    """A program that is not installed, or None. That is a failure: ci/setup.sh installs them."""
    for path, package in module.NEEDS.items():
        if not (os.path.exists(path) if path.startswith("/") else shutil.which(path, path=harness.PATH)):
            return f"{path} is not installed (Debian package {package})"
    return None


def cannot_run(module):
    """Why the case cannot run for this user, or None. It is counted and named."""
    if getattr(module, "ROOT", False) and os.geteuid():
        return "needs root (it runs programs as another user)"
    return None


# --- worker: one case, one mode --------------------------------------------------------------------------------------

def _ended(signum, _frame):
    raise harness.Failure("timed out" if signum == signal.SIGALRM else f"ended by {signal.Signals(signum).name}")


def worker(args):
    """Run one case and leave its outcome as JSON in the scratch folder."""
    processes.become_subreaper()
    processes.die_with_parent()
    parent = os.getppid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, _ended)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    module = catalogue.load(args.worker)
    # The alarm comes after the deadline that the harness watches: only a case that waits outside it meets the alarm.
    signal.alarm(module.TIMEOUT + WORKER_GRACE_SECONDS // 2)
    test = harness.Test(args.worker, args.mode, args.preload, os.path.join(args.scratch, "work"), args.shm,
                        module.TIMEOUT, getattr(module, "POOL_SIZE", harness.POOL_SIZE), args.build)
    outcome = {"ok": False, "text": ""}
    try:
        why = missing(module)
        if why:
            raise harness.Failure(why)
        module.run(test)
        processes.end_descendants(os.getpid(), keep=test.daemons())
        test.finish()
        outcome["ok"] = True
    except harness.Failure as failure:
        outcome["text"] = str(failure)
    except Exception:  # a bug in the case or something it could not foresee: a failure with its origin
        outcome["text"] = traceback.format_exc()
    finally:
        signal.alarm(0)
        test.close()
        outcome["notes"] = test.notes
        with open(os.path.join(args.scratch, "outcome.json"), "w", encoding="utf-8") as file:
            json.dump(outcome, file)
        if os.getppid() != parent:  # the runner was killed and cannot tidy up
            shutil.rmtree(args.scratch, ignore_errors=True)
    return 0


# --- runner ----------------------------------------------------------------------------------------------------------

class Runner:
    """Runs cases in worker processes and prints their outcomes."""

    def __init__(self, args):
        self.args = args
        self.passed = 0
        self.failed = []
        self.not_run = []
        self._workers = set()
        self._lock = threading.Lock()
        self._stopping = False

    def run_all(self, jobs):
        # The longest first, so that no long one is left over for the end.
        jobs = sorted(jobs, key=lambda job: -catalogue.load(job[0]).TIMEOUT)
        executor = concurrent.futures.ThreadPoolExecutor(self.args.jobs)
        futures = [executor.submit(self._job, name, mode) for name, mode in jobs]
        try:
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except KeyboardInterrupt:
            self._stop()
            print("interrupted", flush=True)
            return 130
        finally:
            executor.shutdown(wait=True, cancel_futures=True)
            # What a killed worker left behind has become ours.
            processes.end_descendants(os.getpid())
        for name, mode in sorted(self.failed):
            print(f"failed: {name} ({mode})")
        for name, mode, why in sorted(self.not_run):
            world.cannot_run(f"programs.{name}.{mode}", why)
        print(f"{self.passed} passed, {len(self.failed)} failed, {len(self.not_run)} cannot run here")
        if not self.passed and not self.failed and self.not_run:
            return world.CANNOT_RUN
        return 1 if self.failed or not self.passed else 0

    def _stop(self):
        with self._lock:
            self._stopping = True
            workers = list(self._workers)
        for process in workers:
            process.terminate()

    def _job(self, name, mode):
        if why := cannot_run(catalogue.load(name)):
            with self._lock:
                self.not_run.append((name, mode, why))
            return
        scratch = tempfile.mkdtemp(prefix=f"aep-programs-{name}-", dir="/tmp")
        shm = tempfile.mkdtemp(prefix=f"aep-programs-{name}-", dir=scratch if mode == "private" else "/dev/shm")
        started = time.monotonic()
        try:
            # Programs under other users reach their own folders below.
            os.chmod(scratch, 0o711)
            os.chmod(shm, 0o711)
            os.mkdir(os.path.join(scratch, "work"), 0o711)
            preload = self.args.preload and shutil.copy(self.args.preload, scratch)
            if preload:  # where the library was built may be closed to other users
                os.chmod(preload, 0o755)
            outcome = self._worker(name, mode, preload, scratch, shm)
        finally:
            shutil.rmtree(shm, ignore_errors=True)
            if not self.args.keep:
                shutil.rmtree(scratch, ignore_errors=True)
        if not self._stopping:
            self._report(name, mode, outcome, time.monotonic() - started, scratch)

    def _worker(self, name, mode, preload, scratch, shm):
        argv = [sys.executable, os.path.abspath(__file__), "--worker", name, "--mode", mode,
                "--preload", preload or "none", "--build", self.args.build, "--scratch", scratch, "--shm", shm]
        with self._lock:
            if self._stopping:
                return None
            process = subprocess.Popen(argv, start_new_session=True, stdin=subprocess.DEVNULL)
            self._workers.add(process)
        try:
            process.wait(catalogue.load(name).TIMEOUT + WORKER_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            processes.end_descendants(process.pid)
            process.kill()
            process.wait()
        finally:
            with self._lock:
                self._workers.discard(process)
        try:
            with open(os.path.join(scratch, "outcome.json"), encoding="utf-8") as file:
                return json.load(file)
        except (OSError, ValueError):
            return {"ok": False, "text": f"the worker {harness.status_text(process.returncode)}", "notes": []}

    def _report(self, name, mode, outcome, seconds, scratch):
        lines = [f"{'PASS' if outcome['ok'] else 'FAIL'}  {name:<18} {mode:<8} {seconds:5.1f} s"]
        lines += ["      " + note for note in outcome["notes"]]
        lines += ["      | " + line for line in outcome["text"].splitlines()]
        if self.args.keep:
            lines.append(f"      kept: {scratch}")
        with self._lock:
            if outcome["ok"]:
                self.passed += 1
            else:
                self.failed.append((name, mode))
            print("\n".join(lines), flush=True)


def check_packages():
    """packages.txt, which ci installs from, must name exactly what the cases need."""
    with open(os.path.join(HERE, "packages.txt"), encoding="utf-8") as file:
        written = sorted(line.strip() for line in file if line.strip() and not line.startswith("#"))
    for package in sorted(set(catalogue.packages()) ^ set(written)):
        print(f"packages.txt: {package} is {'not needed by any case' if package in written else 'missing'}")
    return 0 if written == catalogue.packages() else 1


def list_cases():
    for name in catalogue.names():
        module = catalogue.load(name)
        print(f"{name:<18} {module.__doc__.splitlines()[0]} [{', '.join(sorted(set(module.NEEDS.values())))}]")
    return 0


def parse():
    parser = argparse.ArgumentParser(description="run real programs under a preloaded allocator")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--all", action="store_true", help="every case")
    what.add_argument("--only", action="append", metavar="NAME", help="this case; may be repeated")
    what.add_argument("--list", action="store_true", help="say what there is")
    what.add_argument("--packages", action="store_true", help="print the Debian packages that the cases need")
    what.add_argument("--check-packages", action="store_true", help="compare packages.txt with the cases")
    what.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--mode", choices=("private", "pool", "joined", "all"), default="all")
    parser.add_argument("--preload", default=DEFAULT_PRELOAD, metavar="PATH",
                        help="the library, or 'none' to run the programs as they are (default: the release build's)")
    parser.add_argument("--build", metavar="DIR", help="where tools/aepd is (default: two folders above the library)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() + 1, metavar="N", help="cases at a time")
    parser.add_argument("--keep", action="store_true", help="keep the scratch folders of the cases")
    parser.add_argument("--scratch", help=argparse.SUPPRESS)
    parser.add_argument("--shm", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.preload = None if args.preload == "none" else os.path.realpath(args.preload)
    if not args.build:
        args.build = os.path.dirname(os.path.dirname(args.preload or DEFAULT_PRELOAD))
    for name in args.only or []:
        if name not in catalogue.names():
            parser.error(f"no case {name}; --list shows them")
    if args.preload and (args.all or args.only) and not os.path.isfile(args.preload):
        parser.error(f"{args.preload} does not exist; build it, or name one with --preload")
    return args


def main():
    args = parse()
    if args.worker:
        return worker(args)
    if args.list:
        return list_cases()
    if args.check_packages:
        return check_packages()
    if args.packages:
        print("\n".join(catalogue.packages()))
        return 0
    processes.become_subreaper()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    modes = ("private", "pool", "joined") if args.mode == "all" else (args.mode,)
    names = args.only or catalogue.names()
    return Runner(args).run_all([(name, mode) for name in names for mode in modes])


if __name__ == "__main__":
    sys.exit(main())
