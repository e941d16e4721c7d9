"""What the tests of this folder have in common: programs under the library, in a folder of their own.

Imported first. Crash rule: the folder is removed when a test ends, processes are ended.
"""

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
        self.folder = tempfile.mkdtemp(prefix="aep-watch.", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, self.folder)

    def environment(self, **settings):
        return {**os.environ, "LD_PRELOAD": LIBRARY, "AEP_CONTEXT": "none", **settings}

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
        words = ["--context", name, "--socket", f"{self.folder}/socket", "--directory", f"{self.folder}/context"]
        up = self.aep("up", *words, "--pool", f"{self.folder}/pool", "--pool-size", "64M", "--provider", "rollback",
                      "--log-file", f"{self.folder}/log")
        self.assertEqual(up.returncode, 0, up.stderr)
        self.addCleanup(self.aep, "down", "--force", *words)
        return {"AEP_CONTEXT": name, "AEP_SOCKET": f"{self.folder}/socket", "AEP_REQUIRE": "1"}

    def files(self, ending=".heap"):
        return sorted(os.path.join(self.folder, name) for name in os.listdir(self.folder) if name.endswith(ending))

    def tool(self, *words, **more):
        return subprocess.run([*words], cwd=self.folder, timeout=LIMIT, capture_output=True, text=True, **more)

    def aep(self, *words, **more):
        return self.tool(f"{TOOLS}/aep", *words, **more)

    def assert_near(self, found, expected, part):
        """Of estimates: `part` is some seven times their standard deviation."""
        self.assertLess(abs(found - expected), expected * part, f"{found} for {expected}")


def main():
    world.main(4)
