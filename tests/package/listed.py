#!/usr/bin/env python3
"""Every function of aep/dsm.h is exported by the library, with a version, in the man page, and in the reference; and no others are.

Called by ctest: listed.py SOURCE_DIR LIBRARY [unittest arguments]. Reads only.
"""

import ctypes
import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import world  # noqa: E402

SOURCE, LIBRARY = sys.argv[1:3]
OF_LIBC = set("""malloc free calloc realloc reallocarray aligned_alloc memalign posix_memalign valloc pvalloc malloc_usable_size
    cfree free_sized free_aligned_sized malloc_trim mallopt mallinfo mallinfo2 malloc_stats malloc_info _Fork clone syscall
    fork madvise""".split())


def read(path):
    with open(f"{SOURCE}/{path}", encoding="utf-8") as file:
        return file.read()


def declared():
    """What the header declares, as a compiler sees it: comments are gone."""
    code = re.sub(r"/\*.*?\*/", "", read("include/aep/dsm.h"), flags=re.S)
    return set(re.findall(r"\b(dsm_\w+)\s*\(", code))


class Listed(unittest.TestCase):
    def setUp(self):
        self.functions = declared()
        self.assertIn("dsm_send", self.functions)

    def test_exported(self):
        """Ours with a version; those of libc and C++ without, for no program asks for them by one of ours; nothing else."""
        symbols = subprocess.run(["nm", "-D", "--defined-only", "--with-symbol-versions", LIBRARY], capture_output=True,
                                 text=True, check=True)
        exported = {line.split()[2] for line in symbols.stdout.splitlines() if line.split()[1] != "A"}
        ours = {name for name in exported if name.startswith("dsm_")}
        self.assertEqual({re.sub(r"@@AEP_1\.\d+$", "", name) for name in ours}, self.functions)
        operators = {name for name in exported if re.match(r"_Z(nw|na|dl|da)", name)}
        self.assertEqual(len(operators), 20)
        self.assertEqual(exported - ours - operators, OF_LIBC | {"aep_copy", "aep_inspected"})

    def test_the_name_that_programs_are_linked_to(self):
        dynamic = subprocess.run(["readelf", "-d", LIBRARY], capture_output=True, text=True, check=True).stdout
        self.assertRegex(dynamic, r"SONAME.*\[libaepmalloc\.so\.1\]")

    def test_one_version(self):
        major, minor, patch = re.findall(r"^#define DSM_VERSION_[A-Z]+ (\d+)$", read("include/aep/dsm.h"), re.M)
        self.assertEqual(ctypes.CDLL(LIBRARY).dsm_version(), int(major) * 10000 + int(minor) * 100 + int(patch))
        self.assertTrue(read("debian/changelog").startswith(f"aep-dsm ({major}.{minor}.{patch}"))

    def test_in_the_man_page(self):
        page = read("tools/man/aep-dsm.3").replace("\\-", "-")
        synopsis, _, rest = page.partition(".SH DESCRIPTION")
        self.assertEqual(set(re.findall(r"\b(dsm_\w+)\(", synopsis)), self.functions)
        explained = {name for line in rest.splitlines() if re.match(r"\.(BR?|BI|TP)\b", line)
                     for name in re.findall(r"\bdsm_\w+", line)}
        self.assertEqual(self.functions - explained, set())

    def test_in_the_reference(self):
        rows = {name for line in read("docs/reference/api.md").splitlines() if line.startswith("|")
                for name in re.findall(r"`(dsm_\w+)", line)}
        self.assertEqual(rows, self.functions)

    def test_every_error_of_the_header_has_a_meaning_and_a_row(self):
        errors = set(re.findall(r"\bE[A-Z]{3,}\b", read("include/aep/dsm.h")))
        self.assertIn("ENOTCONN", errors)
        cases = set(re.findall(r"case (E[A-Z]+):", read("preload/dsm_strerror.cpp")))
        self.assertEqual(errors - cases, set())
        rows = {name for line in read("docs/reference/api.md").splitlines() if line.startswith("| `E")
                for name in re.findall(r"`(E[A-Z]+)`", line)}
        self.assertEqual(rows, cases)

    def test_every_variable_is_in_the_page_of_settings(self):
        rows = set(re.findall(r"^\| `(AEP_[A-Z_]+)`", read("docs/reference/environment.md"), re.M))
        self.assertEqual(rows, set(re.findall(r'value_of\(entry, "(AEP_[A-Z_]+)"\)', read("shim/sys/environment.cpp"))))

    def test_every_option_is_in_its_man_page(self):
        for sources, page in [(["tools/cli/main.cpp"], "aep.1"), (["tools/daemon/options.cpp"], "aepd.8")]:
            code = "".join(read(source) for source in sources)
            options = set(re.findall(r'"(--[a-z-]+)"', code)) - {"--version", "--help-all"}
            self.assertIn("--context", options)
            text = read(f"tools/man/{page}").replace("\\-", "-")
            self.assertEqual({o for o in options if not re.search(rf"{o}(?![a-z-])", text)}, set(), page)


if __name__ == "__main__":
    world.main(3)
