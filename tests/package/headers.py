#!/usr/bin/env python3
"""The public headers as programs compile them: alone, in each language and version, with the warnings people turn on.

Called by ctest: headers.py SOURCE_DIR [unittest arguments]. Leaves nothing behind.
"""

import os
import subprocess
import sys
import tempfile
import unittest

INCLUDE = os.path.join(sys.argv[1], "include")
STRICT = ["-pedantic-errors", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow"]
CPP = ["-Wold-style-cast", "-Wzero-as-null-pointer-constant"]


def compiled(compiler, standard, header, *more, use=""):
    """What the compiler says of a file that includes the header twice; empty: nothing."""
    text = f"#include <aep/{header}>\n#include <aep/{header}>\n{use}\n"
    return subprocess.run([compiler, f"-std={standard}", *more, f"-I{INCLUDE}", "-x", "c" if compiler == "cc" else "c++", "-fsyntax-only", "-"],
                          input=text, capture_output=True, text=True, check=False).stderr


class Headers(unittest.TestCase):
    def expect_silence(self, *words, **more):
        with self.subTest(words=words):
            self.assertEqual(compiled(*words, **more), "")

    def test_in_c(self):
        for standard in ("c99", "c11", "c17", "c2x"):
            self.expect_silence("cc", standard, "dsm.h", *STRICT, "-Wstrict-prototypes", use="dsm_id nobody(void); dsm_id nobody(void) { return DSM_ANY; }")

    def test_in_every_cpp(self):
        for standard in ("c++98", "c++11", "c++17", "c++20"):
            self.expect_silence("c++", standard, "dsm.h", *STRICT, *CPP, "-Wno-long-long", use="dsm_id nobody() { return DSM_ANY; }")

    def test_handles(self):
        for header in ("dsm.hpp", "group.hpp", "topic.hpp"):
            for more in ([], ["-fno-rtti"]):
                self.expect_silence("c++", "c++20", header, *STRICT, *CPP, *more)
            first = compiled("c++", "c++20", header, "-fno-exceptions").splitlines()
            self.assertTrue(any("compile without -fno-exceptions, or use aep/dsm.h" in line for line in first[:3]), first[:3])

    def test_two_units_of_a_program(self):
        unit = "#include <aep/group.hpp>\nint %s() { return aep::dsm::self() != 0; }\n"
        with tempfile.TemporaryDirectory() as folder:
            for name in ("one", "other"):
                path = f"{folder}/{name}"
                with open(f"{path}.cpp", "w", encoding="ascii") as file:
                    file.write(unit % name)
                subprocess.run(["c++", "-std=c++20", "-fPIC", f"-I{INCLUDE}", "-c", f"{path}.cpp", "-o", f"{path}.o"], check=True)
            linked = subprocess.run(["c++", "-shared", f"{folder}/one.o", f"{folder}/other.o", "-o", f"{folder}/both"],
                                    capture_output=True, text=True, check=False)
            self.assertEqual((linked.returncode, linked.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
