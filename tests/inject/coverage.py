"""Every place in shim/ and node/ that makes a system call is one that a case of inject.py lets fail.

Runs each case's scenario once, without a fault, and compares the call sites that were met (each is one that the case can
choose, and that ci/inject.sh --all injects) with those that the programs have. What no case meets is in EXCEPTIONS with its
reason; an entry that is not needed any more, or names no site, fails too. Arguments: TOOLS SCENARIO [unittest arguments].
"""

import re
import sys
import unittest

import fixture
import inject
import sites
import world
from excepted import EXCEPTIONS

FOLDERS = ("shim", "node")


def _met():
    """The frames that made a call which can fail, over all cases: PROGRAM+ADDRESS."""
    frames = set()

    def collect(_self, report, _judge):
        frames.update(line[3].split(" ", 1)[0] for line in report if line[0] == "CALL")

    fixture.Sweep.sweep = collect
    suite = unittest.defaultTestLoader.loadTestsFromModule(inject)
    result = unittest.TextTestRunner(verbosity=0).run(suite)
    if not result.wasSuccessful():
        raise AssertionError("a case cannot be recorded")
    if result.skipped:
        world.cannot_run("coverage", result.skipped[0][1])
        sys.exit(world.CANNOT_RUN)
    return frames


class Coverage(unittest.TestCase):
    maxDiff = None

    def test_every_site(self):
        there, met = set(), set()
        frames = _met()
        for name, path in fixture.PROGRAMS.items():
            there |= sites.sites_in(path, FOLDERS)
            own = [frame for frame in frames if re.match(re.escape(name) + r"[.0-9]*\+", frame)]
            met |= set(sites.sites_of(path, own).values())
        met &= there
        left = {}
        unused = set(EXCEPTIONS)
        for site in sorted(there - met):
            line = sites.source_line(site)
            entry = next((e for e in EXCEPTIONS if e.covers(site, line)), None)
            if entry is None:
                left[site] = line
            else:
                unused.discard(entry)
        print(f"sites: {len(there)}, injected: {len(met)}, excepted: {len(there) - len(met) - len(left)}", flush=True)
        self.assertEqual(left, {}, "sites that no case lets fail, and no exception names")
        self.assertEqual({(e.file, e.text) for e in unused}, set(), "exceptions that are not needed")


if __name__ == "__main__":
    world.main(3)
