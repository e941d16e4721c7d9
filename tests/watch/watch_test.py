"""What the tests of this folder have in common: programs under the library, in a folder of their own.

Imported first. Crash rule: the folder is removed when a test ends, processes are ended.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import world  # noqa: E402

LIBRARY, TOOLS, PROGRAM = sys.argv[1:4]
LIMIT = 100  # seconds that a program may take
RATE = "64K"


class WatchTest(unittest.TestCase):
    def setUp(self):
        self.folder = self.new_folder()
        self.settings = self.place()

    def place(self):
        """The settings that say where programs have their heap."""
        return {"AEP_CONTEXT": "none"}

    def new_folder(self):
        folder = tempfile.mkdtemp(prefix="aep-watch.", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def environment(self, **settings):
        return {**os.environ, "LD_PRELOAD": LIBRARY, **self.settings, **settings}

    def run_watched(self, *words, **settings):
        """Runs the program to its end; what subprocess knows of it."""
        return subprocess.run([PROGRAM, *words], env=self.environment(**settings), cwd=self.folder, timeout=LIMIT,
                              capture_output=True, text=True)

    def start_watched(self, *words, **settings):
        """Starts it, with a pipe to and from it."""
        process = subprocess.Popen([PROGRAM, *words], env=self.environment(**settings), cwd=self.folder, text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

        def end():
            process.kill()
            process.communicate(timeout=LIMIT)
        self.addCleanup(end)
        return process

    def context(self, name):
        """A context of the test's own; the settings of its clients."""
        place = self.new_folder()
        self.where = ["--context", name, "--socket", f"{place}/socket", "--directory", f"{place}/context"]
        self.addCleanup(self.aep, "down", "--force", *self.where)
        up = self.aep("up", *self.where, "--pool", f"{place}/pool", "--pool-size", "256M", "--provider", "rollback")
        self.assertEqual(up.returncode, 0, up.stderr)
        return {"AEP_CONTEXT": name, "AEP_SOCKET": f"{place}/socket", "AEP_REQUIRE": "1"}

    def files(self, ending=".heap"):
        return sorted(os.path.join(self.folder, name) for name in os.listdir(self.folder) if name.endswith(ending))

    def tool(self, *words, **more):
        return subprocess.run([*words], cwd=self.folder, timeout=LIMIT, capture_output=True, text=True, **more)

    def aep(self, *words, **more):
        return self.tool(f"{TOOLS}/aep", *words, **more)

    def assert_near(self, found, expected, part):
        """Of estimates: `part` is some seven times their standard deviation."""
        self.assertLess(abs(found - expected), expected * part, f"{found} for {expected}")


class Joined:
    """The tests of another class, of programs that are in a context; what they had in it has come back at the end."""

    def place(self):
        return self.context("watch")

    def tearDown(self):
        status = json.loads(self.aep("status", "--json", *self.where).stdout)
        self.assertEqual(status["state"], "live", status["poison"])
        self.assertGreater(status["clients"]["attached"], 0)
        check = self.aep("check", *self.where)
        self.assertEqual(check.returncode, 0, check.stdout)
        super().tearDown()


def main():
    world.main(4)
