"""gcc and g++: C and C++ at -O2; the objects are those of an unpreloaded compiler, the programs run under the preload"""

import glob
import os
import re

import pytest

NEEDS = {"/usr/bin/gcc": "gcc", "/usr/bin/g++": "g++", "/usr/bin/ar": "binutils"}
pytestmark = pytest.mark.timeout(120)
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def executable(compiler):
    """cc1 and cc1plus are what takes memory; gcc itself only starts them."""
    return {"gcc": "cc1", "g++": "cc1plus"}[os.path.basename(compiler)]


def compile_both(t, compiler, options, source, output):
    """Compile under the preload, source from standard input, and without it: not one byte may differ."""
    with open(source, "rb") as file:
        text = file.read()
    language = "c" if compiler.endswith("gcc") else "c++"
    argv = [compiler, *options, "-I", os.path.dirname(source), "-x", language, "-c", "-", "-o"]
    t.run([*argv, t.path(output + ".plain")], stdin=text, preload=False)
    t.run([*argv, t.path(output)], stdin=text, active=executable(compiler))
    with open(t.path(output), "rb") as ours, open(t.path(output + ".plain"), "rb") as plain:
        assert ours.read() == plain.read(), f"{output} differs from what the compiler makes without the preload"


def primes_below(limit):
    return [n for n in range(2, limit) if all(n % d for d in range(2, int(n ** 0.5) + 1))]


def test_gcc(t):
    compile_both(t, "/usr/bin/gcc", ["-O2", "-std=c11", "-Wall", "-Werror"], t.script("work.c"), "sieve.o")
    t.run(["/usr/bin/ar", "rcs", t.path("libsieve.a"), t.path("sieve.o")])
    compile_both(t, "/usr/bin/g++", ["-O2", "-std=c++20", "-Wall", "-Werror"], t.script("work.cpp"), "work.o")
    t.run(["/usr/bin/g++", "-o", t.path("work"), t.path("work.o"), t.path("libsieve.a"), "-pthread"])
    result = t.run([t.path("work"), "20000"], stdin="go\n", active="work")
    primes = primes_below(20000)
    endings = {}
    for prime in primes:
        endings.setdefault(prime % 10, []).append(prime)
    wanted = [f"{len(primes)} primes, sum {sum(primes)}"]
    wanted += [f"{end}: {len(endings[end])}, last {endings[end][-1]}" for end in sorted(endings)]
    wanted += ["threads agree", "exception after 1000 frames: deep"]
    t.equal(result.text.splitlines(), wanted, "output of the compiled program")

    # A file of this project, as it builds it: the largest one of the core.
    sources = glob.glob(os.path.join(SOURCE, "dsm-core", "**", "*.cpp"), recursive=True)
    assert sources, "the project's sources are not where they should be"
    largest = max(sources, key=os.path.getsize)
    compile_both(t, "/usr/bin/g++", ["-O2", "-g", "-std=c++20", "-fPIC", "-I", SOURCE], largest, "core.o")
    symbols = t.run(["/usr/bin/nm", "-C", t.path("core.o")]).text
    assert re.search(r" [TtWw] aep::", symbols), f"no function of the project in the object of {largest}"
