"""What pytest is told for the real programs: its options, a case's `t` in every mode, and that nothing is left behind.

Called by pytest: its controller, which ci/programs.sh or ctest starts, and the xdist workers, in which the cases run one
after the other. None of them is under the preload, only what a `t` starts. Crash rule: the controller and each worker
are subreapers and end what is below them. A worker whose controller goes ends its case and removes the case's files;
what a killed worker leaves, processes and files, becomes the controller's, which removes it at its end.
"""

import functools
import glob
import os
import shutil
import signal
import tempfile

import pytest

import world
import harness
import processes

BUILD = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "build/release")
PLACES = ("/tmp", "/dev/shm")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def pytest_addoption(parser):
    group = parser.getgroup("programs", "real programs on our heap")
    group.addoption("--preload", default=f"{BUILD}/preload/libaepmalloc.so", metavar="PATH",
                    help="the library, or 'none' to run the programs as they are (default: the release build's)")
    group.addoption("--build", metavar="DIR", help="where tools/aepd is (default: two folders above the library)")
    group.addoption("--keep", action="store_true", help="keep the scratch folders of the cases")


def pytest_xdist_auto_num_workers():
    return os.cpu_count() + 1


def pytest_configure(config):
    processes.become_subreaper()
    for number in ENDING:
        signal.signal(number, _end)
    controller = os.getpid()
    if hasattr(config, "workerinput"):
        controller = os.getppid()
        os.setsid()  # the terminal's Ctrl-C is for the controller
        processes.die_with_parent()
    else:
        config.pluginmanager.register(Controller(config))
    config.folders = f"aep-programs-{controller}-"  # what the names of this run's begin with


def _end(number, _frame):
    """Ends the run as Ctrl-C does, once: what tidies up afterwards is not to be disturbed."""
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)


class Controller:
    """The process that was started: what its workers get and what they leave, and what it says."""

    def __init__(self, config):
        self.config = config
        preload = config.option.preload
        if preload != "none" and not os.path.isfile(preload):
            raise pytest.UsageError(f"{preload} does not exist; build it, or name one with --preload")

    def pytest_keyboard_interrupt(self):
        for worker in processes.children(os.getpid()):
            os.kill(worker, signal.SIGTERM)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_report_teststatus(self):
        outcome = yield
        category, _, word = outcome.get_result()
        outcome.force_result((category, "", word))  # no letters: each case has its line

    def pytest_runtest_logreport(self, report):
        name = _name(report)
        if report.when == "call" or not report.passed:
            print(f"{report.outcome.upper():<8}{name:<34}{report.duration:5.1f} s", flush=True)
        if report.when == "teardown":
            for note in [text for what, text in report.user_properties if what == "note"]:
                print(f"        {name}: {note}", flush=True)

    def pytest_terminal_summary(self, terminalreporter):
        for report in terminalreporter.getreports("skipped"):
            world.cannot_run(_name(report), report.longrepr[2].removeprefix("Skipped: "))

    def pytest_sessionfinish(self, session):
        stats = session.config.pluginmanager.getplugin("terminalreporter").stats
        if session.exitstatus == pytest.ExitCode.OK and "skipped" in stats and "passed" not in stats:
            session.exitstatus = world.CANNOT_RUN

    def pytest_unconfigure(self):
        processes.end_descendants(os.getpid())
        for place in PLACES[self.config.option.keep:]:
            for folder in glob.glob(f"{place}/{self.config.folders}*"):
                shutil.rmtree(folder, ignore_errors=True)


def _name(report):
    """cases/test_git.py::test_git[pool] is programs.git.pool for ctest and its summary."""
    return "programs." + report.nodeid.partition("::test_")[2].rstrip("]").replace("[", ".")


def pytest_collection_modifyitems(items):
    # The longest first, so that no long one is left over for the end.
    def limit(item):
        mark = item.get_closest_marker("timeout")
        return mark.args[0] if mark else 0

    items.sort(key=limit, reverse=True)


@pytest.fixture(params=["private", "pool", "joined"])
def t(request, record_property):
    """The case's harness.Test, in each of the modes."""
    options, module = request.config.option, request.module
    for path, package in module.NEEDS.items():
        assert os.path.exists(path), f"{path} is not installed (Debian package {package})"
    scratch, shm = (tempfile.mkdtemp(prefix=f"{request.config.folders}{module.__name__}-", dir=place)
                    for place in PLACES)
    for folder in scratch, shm:
        os.chmod(folder, 0o711)  # programs under other users reach their own folders below
    work = os.path.join(scratch, "work")
    os.mkdir(work, 0o711)
    build, preload = options.build or BUILD, None
    if options.preload != "none":  # where it was built may be closed to other users
        preload = shutil.copy(options.preload, scratch)
        os.chmod(preload, 0o755)
        build = options.build or os.path.dirname(os.path.dirname(os.path.realpath(options.preload)))
    test = harness.Test(request.param, preload, build, work, shm, getattr(module, "POOL_MIB", 512),
                        functools.partial(record_property, "note"))
    try:
        yield test
    finally:
        test.close()
        shutil.rmtree(shm, ignore_errors=True)
        if options.keep:
            test.note(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)


@pytest.hookimpl(trylast=True)
def pytest_runtest_call(item):
    """What every case checks, when its own checks have passed."""
    if "t" in item.funcargs:
        item.funcargs["t"].finish()
