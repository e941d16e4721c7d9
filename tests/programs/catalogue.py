"""The cases: one module each in cases/, loaded by file so that their names may be those of the programs.

Called by run.py, and by cases that use what another one knows. Crash rule: holds no state.
A case has `run(t)`, TIMEOUT in seconds, NEEDS (program or file -> Debian package), and perhaps POOL_SIZE, and ROOT when
it runs programs as another user.
"""

import importlib.util
import os

CASES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases")


def names():
    return sorted(name[:-3] for name in os.listdir(CASES) if name.endswith(".py"))


def load(name):
    spec = importlib.util.spec_from_file_location("case_" + name, os.path.join(CASES, name + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def packages():
    """The Debian packages that the cases need, as packages.txt has them."""
    return sorted({package for name in names() for package in load(name).NEEDS.values()})
