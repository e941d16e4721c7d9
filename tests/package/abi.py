#!/usr/bin/env python3
"""Programs that were linked with the last release run with this library: packaging/abi.py, and that it sees what breaks them.

Called by ctest: abi.py SOURCE_DIR LIBRARY [unittest arguments]. Leaves nothing behind.
"""

import glob
import os
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import world  # noqa: E402

SOURCE, LIBRARY = sys.argv[1:3]


class Abi(unittest.TestCase):
    def compare(self, *release):
        done = subprocess.run([sys.executable, f"{SOURCE}/packaging/abi.py", LIBRARY, *release], capture_output=True, text=True,
                              check=False)
        return done.returncode, done.stdout + done.stderr

    def compare_with_edited(self, before, after):
        """With a release that had something else."""
        (path,) = glob.glob(f"{SOURCE}/packaging/abi/libaepmalloc.so.*.abi")
        with open(path, encoding="utf-8") as file:
            text = file.read()
        self.assertRegex(text, before)
        with tempfile.NamedTemporaryFile("w", suffix=".abi", encoding="utf-8") as file:
            file.write(re.sub(before, after, text))
            file.flush()
            return self.compare(file.name)

    def test_the_last_release_is_served(self):
        status, text = self.compare()
        self.assertEqual(status, 0, text)  # what has come may be told of

    def test_a_function_that_has_gone_is_seen(self):
        status, text = self.compare_with_edited("'dsm_send_wait", "'dsm_send_patiently")
        self.assertEqual(status, 1, text)
        self.assertIn("dsm_send_patiently", text)

    def test_a_structure_that_has_changed_is_seen(self):
        """It has a member more."""
        status, text = self.compare_with_edited(
            r"(?s)(name='dsm_info' size-in-bits=)'192'(.*?)<data-member [^>]*layout-offset-in-bits='128'>.*?</data-member>", r"\1'128'\2")
        self.assertEqual(status, 1, text)
        self.assertIn("dsm_info", text)

    def test_another_name_is_seen(self):
        status, text = self.compare_with_edited(r"soname='libaepmalloc.so.1'", r"soname='libaepmalloc.so.0'")
        self.assertEqual(status, 1, text)


if __name__ == "__main__":
    world.main(3)
