#!/usr/bin/env python3
"""Every function of aep/dsm.h is exported by the library, in the man page, and in the reference; and no others are.

Called by ctest: listed.py SOURCE_DIR LIBRARY [unittest arguments]. Reads only.
"""

import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import world  # noqa: E402

SOURCE, LIBRARY = sys.argv[1:3]


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
        symbols = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], capture_output=True, text=True, check=True)
        exported = {line.split()[2] for line in symbols.stdout.splitlines() if line.split()[2].startswith("dsm_")}
        self.assertEqual(exported, self.functions)

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

    def test_every_option_is_in_its_man_page(self):
        for sources, page in [(["tools/cli/main.cpp"], "aep.1"), (["tools/daemon/options.cpp"], "aepd.8")]:
            code = "".join(read(source) for source in sources)
            options = set(re.findall(r'"(--[a-z-]+)"', code)) - {"--version", "--help-all"}
            self.assertIn("--context", options)
            text = read(f"tools/man/{page}").replace("\\-", "-")
            self.assertEqual({o for o in options if not re.search(rf"{o}(?![a-z-])", text)}, set(), page)


if __name__ == "__main__":
    world.main(3)
