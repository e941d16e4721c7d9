#!/usr/bin/env python3
"""The installed tree: programs find the library with pkg-config and CMake, and run under the installed aep.

Called by ctest: installed.py BUILD_DIR CMAKE [unittest arguments]. Leaves nothing behind.
"""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import world  # noqa: E402

BUILD, CMAKE = sys.argv[1:3]
PROGRAMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "program")


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not os.access(BUILD, os.W_OK):
            raise unittest.SkipTest("cmake --install writes in the build folder, which this user may not")
        cls.home = tempfile.mkdtemp(prefix="aep-test-", dir="/dev/shm")
        cls.addClassCleanup(shutil.rmtree, cls.home)
        cls.prefix = f"{cls.home}/prefix"
        cls.good(CMAKE, "--install", BUILD, "--prefix", cls.prefix)

    @staticmethod
    def good(*words, **more):
        done = subprocess.run(words, capture_output=True, text=True, check=False, **more)
        if done.returncode != 0:
            raise AssertionError(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def one(self, pattern):
        found = glob.glob(f"{self.prefix}/{pattern}", recursive=True)
        self.assertEqual(len(found), 1, (pattern, found))
        return found[0]

    def run_under_aep(self, program):
        """Its output; the daemon, the image and the library are the installed ones."""
        aep = f"{self.prefix}/bin/aep"
        where = ["--socket", f"{self.home}/socket", "--directory", f"{self.home}/context"]
        try:
            text = self.good(aep, "run", *where, "--pool-size", "64M", "--provider", "none", "--require", "--",
                             program, cwd="/")
            with open(f"{self.home}/context/lock", encoding="ascii") as lock:
                daemon = os.readlink(f"/proc/{lock.read().strip()}/exe")
        finally:
            self.good(aep, "down", "--force", *where)
        self.assertEqual(daemon, f"{self.prefix}/sbin/aepd")
        return text

    def expect_good_run(self, program):
        lines = self.run_under_aep(program).splitlines()
        self.assertEqual(lines[0], "a message to myself")
        self.assertEqual({os.path.dirname(path) for path in lines[1:]}, {os.path.dirname(self.one("**/libaepmalloc.so"))})

    def test_a_c_program_with_pkg_config(self):
        env = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(self.one("**/aepmalloc.pc")))
        self.assertEqual(self.good("pkg-config", "--modversion", "aepmalloc", env=env),
                         self.good(f"{self.prefix}/bin/aep", "--version").removeprefix("aep "))
        flags = self.good("pkg-config", "--cflags", "--libs", "aepmalloc", env=env).split()
        program = f"{self.home}/in_c"
        self.good("cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"{PROGRAMS}/in_c.c", *flags, "-o",
                  program)
        self.expect_good_run(program)

    def test_a_cpp_program_with_find_package(self):
        build = f"{self.home}/build"
        self.good(CMAKE, "-S", PROGRAMS, "-B", build, f"-DCMAKE_PREFIX_PATH={self.prefix}")
        self.good(CMAKE, "--build", build)
        self.expect_good_run(f"{build}/in_cpp")

    def test_doctor_finds_every_part(self):
        done = subprocess.run([f"{self.prefix}/bin/aep", "doctor"], capture_output=True, text=True, check=False)
        parts = [line.split() for line in done.stdout.splitlines() if self.prefix in line]
        self.assertEqual({(p[0], p[1]) for p in parts},
                         {("good", "library"), ("good", "daemon"), ("good", "image")}, done.stdout)
        self.assertTrue(os.access(f"{self.prefix}/lib/aep/aep-completer", os.X_OK))

    def test_man_pages(self):
        pages = glob.glob(f"{self.prefix}/share/man/man*/*")
        with open(f"{self.prefix}/include/aep/dsm.h", encoding="ascii") as header:
            functions = set(re.findall(r"^[a-z].*\b(dsm_\w+)\(", header.read(), re.M))
        self.assertIn("dsm_send", functions)
        self.assertEqual({os.path.basename(page) for page in pages},
                         {"aep.1", "aepd.8", "aep-dsm.3", "aep-environment.7"} | {f"{name}.3" for name in functions})
        for page in pages:
            with open(page, encoding="utf-8") as file:
                text = file.read()
            if text.startswith(".so "):
                self.assertTrue(os.path.exists(f"{self.prefix}/share/man/{text.split()[1]}"), page)
            else:
                self.assertTrue(text.startswith(".TH "), page)

    @unittest.skipUnless(shutil.which("groff"), "no groff")
    def test_man_pages_are_sound(self):
        for page in ["man1/aep.1", "man8/aepd.8", "man3/aep-dsm.3", "man7/aep-environment.7"]:
            done = subprocess.run(["groff", "-man", "-ww", "-z", f"{self.prefix}/share/man/{page}"],
                                  capture_output=True, text=True, check=True)
            self.assertEqual(done.stderr, "", page)

    def test_the_unit_names_the_installed_daemon(self):
        with open(f"{self.prefix}/lib/systemd/system/aepd@.service", encoding="ascii") as unit:
            lines = unit.read().splitlines()
        start = [line.split("=", 1)[1].split() for line in lines if line.startswith("ExecStart=")]
        self.assertEqual(start, [[f"{self.prefix}/sbin/aepd", "--context", "%i", "$AEPD_OPTIONS"]])
        self.assertNotIn("@AEP_", "\n".join(lines))
        with open(f"{self.prefix}/lib/systemd/user/aepd@.service", encoding="ascii") as unit:
            self.assertEqual(unit.read().splitlines(), lines)  # users' service managers know the same one

    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze")
    def test_the_unit_is_sound(self):
        unit = f"{self.home}/aepd@one.service"
        shutil.copy(f"{self.prefix}/lib/systemd/system/aepd@.service", unit)
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True,
                              check=False)
        about = [line for line in done.stderr.splitlines() if "aepd@" in line]
        self.assertEqual((done.returncode, about), (0, []), done.stderr)


if __name__ == "__main__":
    world.main(3)
