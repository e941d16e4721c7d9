#!/usr/bin/env python3
"""The rules of the include graph (ci/source_rules.py) find what they are there for, in repositories made up for it.

Called by ctest: source_rules.py SOURCE_DIR [unittest arguments]. Writes to a temporary directory.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
SOURCE = sys.argv[1]
RULES = f"{SOURCE}/ci/source_rules.py"
OPENING = "// Purpose: made up, for a test of the rules. Crash rule: none.\n"


def load_rules():
    specification = importlib.util.spec_from_file_location("source_rules", RULES)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class Rules(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory(prefix="aep-source-rules-")
        self.addCleanup(place.cleanup)
        self.root = place.name
        subprocess.run(["git", "init", "-q", self.root], check=True)

    def write(self, path, *included):
        os.makedirs(os.path.dirname(f"{self.root}/{path}"), exist_ok=True)
        with open(f"{self.root}/{path}", "w", encoding="utf-8") as file:
            file.write(OPENING + "".join(f'#include "{one}"\n' for one in included))

    def faults(self):
        run = subprocess.run([sys.executable, RULES, self.root], capture_output=True, text=True, check=False)
        self.assertEqual(run.stderr, "")
        found = run.stdout.splitlines()[:-1]
        self.assertEqual(run.returncode, 1 if found else 0)
        return found

    def expect(self, *wanted):
        """Each fault found has what is wanted of it, in this order, and there are no others."""
        found = self.faults()
        self.assertEqual(len(found), len(wanted), found)
        for line, text in zip(found, wanted):
            self.assertIn(text, line)

    def test_arrows_downwards(self):
        self.write("dsm-core/base/types.hpp")
        self.write("shim/sys/clock.hpp", "dsm-core/base/types.hpp")
        self.write("shim/driver/process.hpp", "shim/sys/clock.hpp")
        self.write("shim/driver/process.cpp", "shim/driver/process.hpp", "dsm-core/base/types.hpp")
        self.write("tests/unit/process.cpp", "shim/driver/process.hpp")
        self.expect()

    def test_an_include_upwards(self):
        self.write("shim/driver/process.hpp")
        self.write("shim/sys/clock.cpp", "shim/driver/process.hpp")
        self.expect("shim/sys/clock.cpp:2: shim/sys must not use shim/driver")

    def test_a_folder_that_is_not_in_the_table_for_it(self):
        self.write("dsm-core/heap/page.hpp")
        self.write("shim/sys/clock.cpp", "dsm-core/heap/page.hpp")
        self.write("tools/cli/main.cpp", "dsm-core/heap/page.hpp")
        self.expect("shim/sys must not use dsm-core/heap", "tools/cli must not use dsm-core/heap")

    def test_a_folder_below_one_that_is_known(self):
        self.write("shim/sys/deep/clock.hpp")
        self.expect("outside the known folders")

    def test_a_cycle_of_headers(self):
        self.write("shim/sys/a.hpp", "shim/sys/b.hpp")
        self.write("shim/sys/b.hpp", "shim/sys/c.hpp")
        self.write("shim/sys/c.hpp", "shim/sys/a.hpp")
        self.write("shim/sys/d.hpp", "shim/sys/a.hpp")
        self.expect("shim/sys/a.hpp:2: a cycle of files: shim/sys/a, shim/sys/b, shim/sys/c")

    def test_a_cycle_through_a_source_and_a_header(self):
        self.write("shim/sys/a.hpp")
        self.write("shim/sys/a.cpp", "shim/sys/a.hpp", "shim/sys/b.hpp")
        self.write("shim/sys/b.hpp")
        self.write("shim/sys/b.cpp", "shim/sys/b.hpp", "shim/sys/a.hpp")
        self.expect("shim/sys/a.cpp:3: a cycle of files: shim/sys/a, shim/sys/b")

    def test_two_cycles(self):
        for one, other in ("ab", "cd"):
            self.write(f"node/{one}.hpp", f"node/{other}.hpp")
            self.write(f"node/{other}.hpp", f"node/{one}.hpp")
        self.expect("node/a, node/b", "node/c, node/d")

    def test_a_cycle_of_folders_without_one_of_files(self):
        self.write("tests/one/a.hpp", "tests/two/b.hpp")
        self.write("tests/two/b.hpp")
        self.write("tests/two/c.hpp", "tests/one/d.hpp")
        self.write("tests/one/d.hpp")
        self.expect("tests/one/a.hpp:2: a cycle of folders: tests/one, tests/two")

    def test_what_is_included_is_there(self):
        self.write("shim/sys/a.cpp", "shim/sys/gone.hpp")
        self.expect("is no path from the repository root")

    def test_the_table_points_one_way(self):
        rules = load_rules()
        self.assertEqual(list(rules.table_faults()), [])
        rules.FOLDERS["shim/sys"] = [*rules.FOLDERS["shim/sys"], "shim/driver"]
        self.assertIn("shim/sys may not be allowed shim/driver", "".join(rules.table_faults()))
        rules.FOLDERS = {"a": ["b"]}
        self.assertIn("a may not be allowed b", "".join(rules.table_faults()))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
