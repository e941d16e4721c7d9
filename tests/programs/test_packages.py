"""packages.txt, which ci/setup.sh installs from, names exactly what the cases need."""

import importlib
import os

HERE = os.path.dirname(os.path.abspath(__file__))


def test_packages():
    cases = [name[:-3] for name in os.listdir(os.path.join(HERE, "cases")) if name.endswith(".py")]
    needed = {package for case in cases for package in importlib.import_module(case).NEEDS.values()}
    with open(os.path.join(HERE, "packages.txt"), encoding="utf-8") as file:
        written = {line.strip() for line in file if not line.startswith("#")}
    assert written == needed, f"missing: {sorted(needed - written)}; not needed by any case: {sorted(written - needed)}"
