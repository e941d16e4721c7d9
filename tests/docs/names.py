#!/usr/bin/env python3
"""The documentation names files and functions that are there.

Called by ctest: names.py SOURCE_DIR [unittest arguments]. Reads only.
"""

import glob
import os
import re
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import world  # noqa: E402

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "ci"))
import source_rules  # noqa: E402

SOURCE = sys.argv[1]
STEP = re.compile(r"^\| (?P<file>[\w./-]+\.\w+) \| (?:> )?`(?P<function>\w+)` \|", re.M)
# What looks like a path of the project: it begins with one of its folders and names a file.
FOLDERS = "aep-lib|bench|ci|dsm-core|docs|examples|include|kernel|node|packaging|preload|shim|tests|tools"
PATH = re.compile(rf"`((?:{FOLDERS})/[\w./,{{}}*-]+)`")
FORM = ["Problem", "Terms", "How", "Crash rule", "Proof", "Limits", "Open questions"]
OF_ANOTHER_FORM = {"architecture.md", "map.md"}  # they are about all mechanisms
LINK = re.compile(r"\]\(([^)#:]*)(?:#([^)]*))?\)")


def read(path):
    with open(os.path.join(SOURCE, path), encoding="utf-8") as text:
        return text.read()


def pages():
    found = glob.glob("**/*.md", root_dir=SOURCE, recursive=True)
    return [page for page in found if not page.startswith("build/")]


def anchors(page):
    """Of its headings, as they are made from their words."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"(?ms)^```.*?^```", "", read(page)), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def alternatives(path):
    """The shell's braces: a{b,c} is ab and ac."""
    found = re.search(r"\{([^{}]*)\}", path)
    if found is None:
        return [path]
    return [each for choice in found[1].split(",") for each in alternatives(path[: found.start()] + choice + path[found.end() :])]


class Names(unittest.TestCase):
    def test_each_step_of_the_map_is_there(self):
        steps = list(STEP.finditer(read("docs/design/map.md")))
        self.assertGreater(len(steps), 50)
        for step in steps:
            with self.subTest(step[0]):
                self.assertRegex(read(step["file"]), rf"\b{step['function']}\(")

    def test_each_folder_is_part_of_the_architecture(self):
        """Those of the table of who may include whom, and those at the top."""
        architecture = read("docs/design/architecture.md")
        named = set(re.findall(r"`([\w/-]+)`", architecture))
        folders = {folder.removesuffix("/*") for folder in source_rules.FOLDERS}
        folders |= {path.rstrip("/") for path in glob.glob("*/", root_dir=SOURCE)} - {"build"}
        for folder in sorted(folders):
            with self.subTest(folder):
                self.assertTrue(folder in named or any(one.startswith(folder + "/") for one in named))

    def test_each_file_that_is_named_is_there(self):
        for page in pages():
            for path in PATH.findall(read(page)):
                for each in alternatives(path):
                    with self.subTest(f"{page}: {each}"):
                        self.assertTrue(glob.glob(os.path.join(SOURCE, each)))

    def test_each_link_leads_somewhere(self):
        for page in pages():
            for link, heading in LINK.findall(read(page)):
                with self.subTest(f"{page}: {link}#{heading}"):
                    target = os.path.normpath(os.path.join(os.path.dirname(page), link)) if link else page
                    self.assertTrue(os.path.exists(os.path.join(SOURCE, target)))
                    if heading and target.endswith(".md"):
                        self.assertIn(heading, anchors(target))

    def test_each_message_that_is_explained_is_said(self):
        """Those of the first column of the troubleshooting guide are the sources', word for word."""
        sources = "".join(read(path) for path in glob.glob("**/*.cpp", root_dir=SOURCE, recursive=True)
                          if path.split("/")[0] in {"dsm-core", "node", "preload", "shim", "tools"})
        said = re.sub(r'"\s*"', "", sources)
        cells = re.findall(r"^\| (`.*?`) \|", read("docs/guide/troubleshooting.md"), re.M)
        self.assertGreater(len(cells), 10)
        for message in re.findall(r"`([^`]+)`", " ".join(cells)):
            with self.subTest(message):
                self.assertIn(message, said)

    def test_each_page_of_a_mechanism_has_the_same_form(self):
        for page in glob.glob("docs/design/*.md", root_dir=SOURCE):
            if os.path.basename(page) in OF_ANOTHER_FORM:
                continue
            with self.subTest(page):
                self.assertEqual(re.findall(r"^## (.*)$", read(page), re.M), FORM)


if __name__ == "__main__":
    world.main(2)
