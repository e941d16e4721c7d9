"""Tests of the benchmark driver: its arithmetic, and what it does with allocators that are missing or broken.

Run by ctest (`bench_driver`), or by hand: bench/driver_test.py --build build/bench
Nothing here asserts a time.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import dsm  # noqa: E402
from driver import allocators, dsm_rows, headline, markdown, paper_figures, paper_page, paper_rows, stats, targets, workloads  # noqa: E402
from driver.measure import Launcher, Sample  # noqa: E402
from driver.pool import PoolPlace  # noqa: E402

BUILD = os.path.join(os.path.dirname(HERE), "build", "bench")

# Preload libraries for the tests: one with no malloc at all, one whose malloc is glibc's but which ends
# measured programs (not the trivial one that only asks where malloc comes from).
NO_MALLOC = "int aep_bench_nothing;"
FAILS_WHEN_MEASURED = """
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
extern void* __libc_malloc(size_t);
extern void __libc_free(void*);
void* malloc(size_t size) { return __libc_malloc(size); }
void free(void* block) { __libc_free(block); }
__attribute__((constructor)) static void start(void) {
    char line[4096] = {0};
    int fd = open("/proc/self/cmdline", O_RDONLY);
    ssize_t got = read(fd, line, sizeof line - 1);
    close(fd);
    for (char* word = line; word < line + got; word += strlen(word) + 1)
        if (strncmp(word, "--case=", 7) == 0) abort();
}
"""


# An allocator, as far as a peer must be one: malloc and free that are not libc's own.
FORWARDS = """
#include <stddef.h>
extern void* __libc_malloc(size_t);
extern void __libc_free(void*);
void* malloc(size_t size) { return __libc_malloc(size); }
void free(void* block) { __libc_free(block); }
"""


# Writes 48 MiB of the pool, mapped or dropped from the mapping, and 48 MiB of its own, and works for a while.
USES_POOL = """
import hashlib, mmap, os, sys
size = 48 << 20
fd = os.open(os.environ["AEP_POOL"], os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(fd, size)
pool = mmap.mmap(fd, size)
for at in range(0, size, 4096):
    pool[at] = 1
if sys.argv[1] == "dropped":
    pool.madvise(mmap.MADV_DONTNEED)
own = bytearray(size)
for at in range(0, size, 4096):
    own[at] = 1
for _ in range(4):
    hashlib.sha256(own).digest()
"""


class Case:
    set, unit, missing = "micro", "ns/op", ""

    def __init__(self, name):
        self.name, self.group = name, name.split("/")[0]
        self.small_objects = self.group == "a"


class Arithmetic(unittest.TestCase):
    def results(self, cases, times):
        """Results of glibc and mimalloc; times[case name] = (glibc's, mimalloc's), one value a round."""
        chosen = [allocators.Allocator("glibc"), allocators.Allocator("mimalloc")]
        results = stats.Results(cases, chosen, "mimalloc")
        for case in cases:
            for allocator, values in zip(chosen, times[case.name]):
                for value in values:
                    results.add(case, allocator, Sample(value=value, rss_kib=1000 * value))
        return results, chosen

    def test_ratios_are_taken_inside_a_round(self):
        case = Case("pair/1")
        results, (glibc, _) = self.results([case], {"pair/1": ([2, 40, 6], [1, 10, 2])})
        summary = results.summary(case, glibc)
        self.assertEqual(summary["median"], 6)
        self.assertEqual(summary["ratio"], 3)  # of 2, 4, 3; not 6/2 by chance only
        self.assertEqual(summary["ratio_quartiles"], [2.5, 3.5])
        self.assertEqual(summary["peak_rss_kib"], 6000)

    def test_an_interval_for_a_median(self):
        """Of 40 the 14th and the 27th: fewer would be too often beside it (3.8 % and 8.1 %)."""
        self.assertEqual(stats.median_interval(list(range(40, 0, -1))), (14, 20.5, 27))
        self.assertEqual(stats.median_interval([3, 1, 2, 6, 5, 4]), (1, 3.5, 6))

    def test_geometric_means_of_sets_and_groups(self):
        cases = [Case("a/1"), Case("a/2"), Case("b/1")]
        results, (glibc, mimalloc) = self.results(
            cases, {"a/1": ([2], [1]), "a/2": ([8], [1]), "b/1": ([4], [1])})
        means = results.geomeans(glibc)
        self.assertAlmostEqual(means["micro"]["ratio"], 4)
        self.assertAlmostEqual(means["micro/a"]["ratio"], 4)
        self.assertAlmostEqual(means["micro/b"]["ratio"], 4)
        self.assertEqual((means["micro"]["cases"], means["micro"]["of"]), (3, 3))
        self.assertAlmostEqual(means["micro/small_objects"]["ratio"], 4)  # a/1 and a/2 only
        self.assertAlmostEqual(results.geomeans(mimalloc)["micro"]["ratio"], 1)

    def test_a_failed_case_is_left_out_of_the_mean_and_counted(self):
        cases = [Case("a/1"), Case("a/2")]
        results, (glibc, _) = self.results(cases, {"a/1": ([2], [1]), "a/2": ([8], [1])})
        results.samples["a/2"]["glibc"][0].failed = "ended"
        mean = results.geomeans(glibc)["micro"]
        self.assertAlmostEqual(mean["ratio"], 2)
        self.assertEqual((mean["cases"], mean["of"]), (1, 2))
        self.assertEqual(results.summary(cases[1], glibc), {"failed": "ended"})

    @staticmethod
    def document(**means):
        """Of allocators with these geometric means: {set: ratio, or (ratio, cases)}; there are 2 cases in each set."""
        def mean(value):
            ratio, cases = value if isinstance(value, tuple) else (value, 2)
            return {"ratio": ratio, "quartiles": [ratio, ratio], "cases": cases, "of": 2}

        return {
            "baseline": "mi2", "machine": {"vendor": "AMD", "date": "2026-01-01"}, "settings": {"revision": "abc"},
            "allocators": {n.replace("_", "-"): {"available": True} for n in means},
            "geomeans": {n.replace("_", "-"): {key: mean(v) for key, v in sets.items()} for n, sets in means.items()},
            "cases": [{"name": "startup/true", "results": {"aep": {"median": 1.5, "ratio": 1.6}, "glibc": {"median": 0.4, "ratio": 0.5},
                                                           "mi2": {"median": 1, "ratio": 1}}}]}

    def test_the_headline_is_against_the_best_of_the_others(self):
        document = self.document(
            mi2={"workload/program": 1.0, "micro": 1.0}, aep={"workload/program": 0.9, "micro": 1.2},
            sn={"workload/program": 0.8, "micro": 1.5}, partly={"workload/program": (0.1, 1), "micro": 1.1},
            aep_pool={"workload/program": 0.7}, glibc={})  # ours is never the best of the others
        rows = {row["set"]: row for row in headline.evaluate(document)}
        self.assertEqual(list(rows), ["programs", "micro"])
        self.assertEqual(rows["programs"]["best"], "sn")  # who did not run all of it is not the best
        self.assertAlmostEqual(rows["programs"]["ratios"]["aep"], 0.9 / 0.8)
        self.assertAlmostEqual(rows["programs"]["ratios"]["aep-pool"], 0.7 / 0.8)
        self.assertEqual(rows["micro"]["best"], "mi2")
        self.assertEqual(list(rows["micro"]["ratios"]), ["aep"])
        self.assertEqual(headline.behind(document), [("startup/true", {"aep": 1.6}, "glibc", 0.5)])
        for name in ("mi2", "sn", "partly", "glibc"):
            document["allocators"][name]["available"] = False
        self.assertEqual((headline.evaluate(document), headline.behind(document)), ([], []))  # nobody to be behind

    def test_headlines_of_machines_of_two_kinds_are_merged(self):
        document = self.document(mi2={"micro": 1.0}, aep={"micro": 0.9})
        document["headline"] = headline.evaluate(document)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "all.json")
            headline.merge(document, path)
            document["machine"] = {"vendor": "Intel", "date": "2026-01-02"}
            headline.merge(document, path)
            entries = headline.merge(document, path)
        self.assertEqual(sorted(entries), ["AMD", "Intel"])
        self.assertEqual(entries["AMD"]["machine"]["date"], "2026-01-01")
        self.assertEqual(entries["Intel"]["headline"], document["headline"])

    def test_targets_say_met_and_missed(self):
        document = self.document(
            mi2={"workload/program": 1.0, "micro": 1.0, "rss": 1.0}, sn={"workload/program": 0.9, "micro": 1.1, "rss": 1.0},
            aep={"workload/program": 0.94, "micro": 0.9, "micro/remote": 0.8, "rss": 1.0},
            aep_joined={"workload/program": 0.9, "micro": 0.9, "micro/remote": 0.83, "rss": 1.2})
        document["headline"] = headline.evaluate(document)
        met = {row["name"]: row["met"] for row in targets.evaluate(document)}
        self.assertEqual(met, {
            "aep: programs, relative to the best of all others": False, "aep: micro, relative to the best of all others": True,
            "aep: mean of workload/program": True, "aep: mean of micro/remote": False,
            "aep: slowest single case": False, "aep: start-up beyond glibc's, ms": False,
            "aep-joined: programs, relative to the best of all others": True,
            "aep-joined: micro, relative to the best of all others": True,
            "aep-joined: mean of workload/program": True, "aep-joined: mean of micro/remote": False,
            "aep-joined: slowest group relative to aep": False, "aep-joined: peak memory relative to aep": False})

    def test_what_could_not_be_counted_is_named(self):
        rows = markdown.parts({"instructions": {"mi2": {"malloc": 15.1, "free": 23}, "sn": {"failed": "no room"}}})["instructions"]
        self.assertEqual(rows[2:], ["| mi2 | 15.1 | 23.0 |", "| sn | not counted: no room |  |"])

    def test_the_baseline_is_the_first_peer(self):
        chosen = [allocators.Allocator(name) for name in ("glibc", "mimalloc", "sn", "mi3", "aep")]
        self.assertEqual(allocators.baseline(chosen, {"sn": "", "mi3": ""}), "sn")
        self.assertEqual(allocators.baseline(chosen, {}), "mimalloc")
        chosen[1].missing = "not installed"
        self.assertEqual(allocators.baseline(chosen, {}), "glibc")
        with self.assertRaisesRegex(SystemExit, "none of the allocators can be measured: mimalloc: not installed"):
            allocators.baseline(chosen[1:2], {})

    def test_wrong_output_is_a_failure(self):
        case = workloads.Workload("program/x", [], expected="42\n")
        self.assertFalse(case.judge(Sample(output="# value 7.5\n42\n", cpu=1)).failed)
        self.assertEqual(case.judge(Sample(output="# value 7.5\n42\n", cpu=1)).value, 7.5)
        self.assertIn("wrong output", case.judge(Sample(output="43\n", cpu=1)).failed)


class BesideFlat(unittest.TestCase):
    """dsm.py: what it makes of what its programs print."""

    ROW = dsm_rows.Row("x", "ns", ("ours", "alloc"), ("flat_x", "alloc"), (("times", 3), ("at_most", 9), ("cost", 0.2)))

    def test_figures_by_name(self):
        self.assertEqual(dsm.parse("alloc 3.5\nbin 1\n"), {"alloc": 3.5, "bin": [1]})
        self.assertEqual(dsm.parse("kill_ms 1\nkill_ms 2\n"), {"kill_ms": [1, 2]})

    def test_ratios_are_taken_inside_a_round(self):
        samples = {"ours": [{"alloc": a} for a in (10, 1, 2)], "flat_x": [{"alloc": a} for a in (20, 4, 6)],
                   "durable_x": [{"alloc": a} for a in (100, 10, 20)]}
        entry = dsm.summary(self.ROW, samples)
        self.assertEqual((entry["ours"], entry["flat"], entry["ratio"]), (2, 6, 3))  # of 2, 4, 3
        self.assertEqual([t["met"] for t in entry["targets"]], [True, True, False])
        self.assertEqual((entry["durable"], entry["durable_ratio"]), (20, 10))
        more = dsm.summary(dsm_rows.Row("x", "M/s", *((run, "alloc") for run in ("ours", "flat_x")), (("at_least", 3),), True), samples)
        self.assertEqual((more["ratio"], more["targets"][0]["met"]), (1 / 3, False))

    def test_a_failed_run_is_told(self):
        samples = {"ours": [{"alloc": 1}, {"failed": "ended"}], "flat_x": [{"alloc": 2}, {"alloc": 2}],
                   "durable_x": [{"alloc": 2}, {"alloc": 2}]}
        self.assertEqual(dsm.summary(self.ROW, samples)["failed"], "ended")

    def test_a_program_that_fails_is_told(self):
        run = dsm_rows.Run("x", dsm_rows.FLAT, "no such case", 1, rule="published")
        self.assertIn("status 2: usage", dsm.execute(os.path.dirname(BUILD), run, None, 0)["failed"])

    def test_survivors_are_compared_with_before(self):
        one = {"bin": [100] * 20 + [50] * 10, "cpu": [10] * 20 + [5] * 10, "kill_ms": [5, 200], "end_ms": [10, 300]}
        self.assertEqual(dsm.changes(one, dsm.elapsed), [-0.5])  # nothing is known from before the first one
        self.assertEqual(dsm.changes(one, dsm.processor), [0])

    def test_rows_name_runs_that_there_are(self):
        for with_nodes in (False, True):
            there = {run.name for run in dsm_rows.runs(True, with_nodes)} | {"client_recovery"}
            for row in dsm_rows.rows(with_nodes):
                self.assertLessEqual({row.ours[0], row.flat[0], (row.durable() or row.flat)[0]}, there)

    def test_flat_flushes_as_its_rule_says(self):
        for rule, wanted in (("published", {"alloc": (1, 1), "send": (1, 0), "receive": (1, 0), "drop": (2, 0), "free": (1, 0)}),
                             ("durable", {"alloc": (5, 4), "send": (5, 4), "receive": (6, 4), "drop": (7, 5), "free": (7, 6)})):
            run = subprocess.run([os.path.join(BUILD, "dsm", "aep_bench_flat"), rule, "costs", "1"], capture_output=True, text=True,
                                 check=True)
            costs = dsm.parse(run.stdout)
            self.assertEqual({name: (costs[name + "_flushes"], costs[name + "_fences"]) for name in wanted}, wanted)


class OfThePaper(unittest.TestCase):
    """Every row belongs to a figure, is met or missed by the paper's ratio, and stands on the page."""

    def document(self, rows):
        return {"machine": {"cpu": "any", "cores": 1, "kernel": "1", "date": "today"}, "quick": True, "rounds": 1, "revision": "none", "missing": "", "survivors": None, "rows": rows}

    def test_each_row_is_in_a_figure(self):
        known = {figure.name for figure in paper_figures.FIGURES}
        of_operations = {row.name for row in dsm_rows.rows(True)}
        asked = [row for row in of_operations if re.search(paper_figures.operations_regex(), row)]
        found = {paper_figures.of_operation({"name": name, "unit": "ns", "failed": "no"})["figure"] for name in asked}
        for quick in (False, True):
            found |= {row.figure for row in paper_rows.rows(quick)}
        self.assertEqual(found | {"Table 3", "Figure 9(b)"}, known)  # those two are made of memory

    def test_ours_is_judged_by_the_papers_ratio(self):
        def judged(times, ratio):
            row = paper_rows.Row("Figure 12(a)", "a chain", "chain", (), "round_us", ratio)
            return paper_figures.of_application(row, {"aep": 1, "flat": times}, {"flat": times}).get("met")

        self.assertEqual([judged(1.3, 1.2), judged(1.2, 1.2), judged(1.1, 1.2), judged(9, None)], [True, True, False, None])
        share = paper_figures.share_of_fault_tolerance(paper_rows.Row("Figure 2(b)", "", "kv", (), "", None), {"aep": 80, "flat": 40, "local": 100})
        self.assertEqual({side: round(of) for side, of in share["sides"].items()}, {"aep": 20, "flat": 60})

    def test_the_page_tells_of_each(self):
        good = {"figure": "Table 4", "what": "free", "unit": "ns", "paper": 13.7, "more": False, "sides": {"aep": 2, "flat": 20, "flat, durable": 90},
                "times": {"flat": 10.0}, "met": False}
        bad = {"figure": "Figure 13", "what": "a death", "unit": "ms", "paper": 1.0, "more": False, "failed": "status 3: it did"}
        with tempfile.TemporaryDirectory() as folder:
            paper_page.write(self.document([good, bad]), f"{folder}/page.md")
            with open(f"{folder}/page.md", encoding="utf-8") as file:
                page = file.read()
            self.assertEqual(os.listdir(f"{folder}/page"), ["table4.svg"])
        self.assertIn("| free | 2 ns | 20 ns | 90 ns | 10.00 | 13.70: **missed** |", page)
        self.assertIn("failed: status 3: it did", page)
        self.assertIn("Of 1 ratios that the paper states 0 are met.", page)
        self.assertIn("![Table 4](page/table4.svg)", page)


class Runs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.scratch = os.path.join(self.folder, "tmp")
        os.mkdir(self.scratch)

    def library(self, source):
        """A build folder whose preload library is compiled from this source."""
        build = os.path.join(self.folder, "build")
        self.compile(source, os.path.join(build, "preload", "libaepmalloc.so"))
        return build

    def compile(self, source, path, *options):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", path, *options], input=source.encode(), check=True)
        return path

    def refused(self, *arguments):
        """What the driver says instead of measuring anything."""
        process = self.start("--only", "^pair/16$", "--allocators", "glibc", *arguments)
        printed, complaint = process.communicate(timeout=120)
        self.assertEqual((process.returncode, printed), (1, ""), complaint)
        self.assertEqual(os.listdir(self.scratch), [], "the driver left files")
        self.assertNotIn("Traceback", complaint)
        return complaint.strip()

    def start(self, *arguments):
        command = [sys.executable, os.path.join(HERE, "run.py"), "--bench-build", BUILD, "--quick", *arguments]
        return subprocess.Popen(command, env={**os.environ, "TMPDIR": self.scratch}, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run_driver(self, *arguments):
        out = os.path.join(self.folder, "out.json")
        process = self.start("--rounds", "1", "--json", out, *arguments)
        printed, complaints = process.communicate(timeout=120)
        self.assertEqual(os.listdir(self.scratch), [], "the driver left files")
        self.assertTrue(os.path.exists(out), complaints)
        with open(out, encoding="utf-8") as file:
            return process.returncode, printed, json.load(file)

    def test_a_library_that_is_not_built_is_named(self):
        status, printed, document = self.run_driver(
            "--only", "^pair/16$|^startup/", "--allocators", "glibc,aep", "--build", self.folder)
        self.assertEqual(status, 0)
        self.assertIn("MISSING aep", printed)
        self.assertFalse(document["allocators"]["aep"]["available"])
        self.assertEqual([c["name"] for c in document["cases"]], ["pair/16", "startup/true"])
        for case in document["cases"]:
            self.assertEqual(list(case["results"]), ["glibc"])
            self.assertGreater(case["results"]["glibc"]["median"], 0)
            self.assertGreater(case["results"]["glibc"]["peak_rss_kib"], 500)

    def test_plot_and_docs_are_made_from_the_results(self):
        page = os.path.join(self.folder, "page.md")
        shutil.copy(os.path.join(os.path.dirname(HERE), "docs", "benchmarks.md"), page)
        self.run_driver("--only", "^pair/16$", "--allocators", "glibc,mimalloc", "--docs", page,
                        "--plot", os.path.join(self.folder, "plot.svg"))
        with open(page, encoding="utf-8") as file:
            text = file.read()
        self.assertIn("| pair/16 |", text)
        self.assertIn("| micro/pair |", text)
        for name in ("plot.svg", "plot.png"):
            self.assertGreater(os.path.getsize(os.path.join(self.folder, name)), 5000)

    def test_a_library_that_does_not_take_over_malloc_is_not_measured(self):
        build = self.library(NO_MALLOC)
        status, printed, document = self.run_driver(
            "--only", "^pair/16$", "--allocators", "glibc,aep", "--build", build)
        self.assertEqual(status, 0)
        self.assertIn("malloc does not come from it", document["allocators"]["aep"]["missing"])
        self.assertNotIn("aep", document["cases"][0]["results"])

    def test_ours_alone_are_compared_with_each_other(self):
        status, printed, document = self.run_driver(
            "--only", "^pair/16$", "--allocators", "aep,aep-pool", "--build", self.library(FORWARDS))
        self.assertEqual((status, document["baseline"], document["headline"]), (0, "aep", []))
        self.assertIn("MISSING aep-pool", printed)

    def test_peers_by_path_run_beside_the_others(self):
        one, two = (self.compile(FORWARDS, os.path.join(self.folder, name)) for name in ("one.so", "two.so"))
        status, printed, document = self.run_driver(
            "--only", "^pair/16$", "--allocators", "glibc,aep", "--build", self.library(FORWARDS),
            "--peer", f"one-1.5={one}", "--peer", f"two={os.path.relpath(two)}")
        self.assertEqual(status, 0)
        self.assertEqual(list(document["allocators"]), ["glibc", "one-1.5", "two", "aep"])
        self.assertEqual(document["baseline"], "one-1.5")
        results = document["cases"][0]["results"]
        self.assertEqual(results["one-1.5"]["ratio"], 1)
        self.assertGreater(results["two"]["ratio"], 0)
        self.assertGreater(results["aep"]["faults"], 0)
        self.assertEqual([(row["set"], list(row["ratios"])) for row in document["headline"]],
                         [(name, ["aep"]) for name in ("micro", "micro, small objects", "peak memory of micro")])
        self.assertIn(document["headline"][0]["best"], ["glibc", "one-1.5", "two"])
        self.assertIn(f"({document['machine']['vendor']}; below 1 is better)", printed)

    def test_peers_that_cannot_be_measured_are_refused(self):
        text = os.path.join(self.folder, "text.so")
        with open(text, "w", encoding="ascii") as file:
            file.write("INPUT(libc.so.6)  /* a linker script is no library */\n")
        foreign = os.path.join(self.folder, "foreign.so")
        good = self.compile(FORWARDS, os.path.join(self.folder, "good.so"))
        with open(good, "rb") as whole, open(foreign, "wb") as file:
            content = bytearray(whole.read())
            content[18:20] = b"\x02\x00"  # SPARC
            file.write(content)
        spaced = self.compile(FORWARDS, os.path.join(self.folder, "with space", "good.so"))
        idle = self.compile(NO_MALLOC, os.path.join(self.folder, "idle.so"))
        half = self.compile(FORWARDS, os.path.join(self.folder, "half.so"), "-Dfree=not_free")
        for given, complaint in (
                (self.folder + "/none.so", "expected NAME=/path/lib.so"), ("a b=" + good, "expected NAME=/path/lib.so"),
                ("x=", "No such file or directory"), ("x=/nowhere/lib.so", "No such file or directory"),
                (f"x={self.folder}", "Is a directory"), (f"x={text}", "no ELF shared object"),
                (f"x={foreign}", "another kind of machine"), (f"x={spaced}", "a path with a space"),
                (f"x={idle}", "malloc does not come from it but from"), (f"x={half}", "free does not come from it but from"),
                ("x=" + shutil.which("true"), "malloc does not come from it but from"),
                (f"glibc={good}", "there is an allocator named glibc already")):
            with self.subTest(given=given):
                said = self.refused("--peer", given)
                self.assertTrue(said.startswith("bench: --peer "), said)
                self.assertIn(complaint, said)
        self.assertIn("an allocator named x already", self.refused("--peer", f"x={good}", "--peer", f"x={good}"))

    def test_programs_of_the_user_are_cases(self):
        status, printed, document = self.run_driver(
            "--only", "^program/own", "--allocators", "glibc", "--program", "own-1=/bin/sh -c 'echo \"# value 7\"'",
            "--program", "own-2=cat /proc/self/status")
        self.assertEqual(status, 0)
        values = {case["name"]: case["results"]["glibc"]["median"] for case in document["cases"]}
        self.assertEqual(values["program/own-1"], 7)
        self.assertEqual(list(values), ["program/own-1", "program/own-2"])
        self.assertIn("cases that cannot run here: 0 of 2", printed)
        for given, complaint in (("x", "expected NAME=COMMAND"), ("x=", "expected NAME=COMMAND"), ("a/b=true", "expected NAME=COMMAND"),
                                 ("x=no-such-program 1", "no-such-program is no program"), ("x=sh 'a", "No closing quotation"),
                                 ("perl=true", "there is a case program/perl already")):
            with self.subTest(given=given):
                self.assertIn(complaint, self.refused("--program", given))
        self.assertIn("does not work even without a preload", self.refused("--program", "own=false", "--only", "^program/own$"))

    def test_pool_mode_without_a_pool_is_not_measured(self):
        build = self.library(FAILS_WHEN_MEASURED)
        _, _, document = self.run_driver(
            "--only", "^pair/16$", "--allocators", "glibc,aep-pool", "--build", build)
        self.assertIn("took nothing from the pool file", document["allocators"]["aep-pool"]["missing"])

    def test_a_library_that_crashes_is_a_failure(self):
        build = self.library(FAILS_WHEN_MEASURED)
        status, printed, document = self.run_driver(
            "--only", "^pair/(16|64)$", "--allocators", "aep,glibc", "--build", build)
        self.assertEqual(status, 1)
        self.assertIn("FAILED pair/16 under aep: ended by SIGABRT", printed)
        self.assertEqual(len(document["failures"]), 2)
        self.assertIn("median", document["cases"][0]["results"]["glibc"])

    def test_peak_memory_counts_pool_memory_once_mapped_or_not(self):
        peaks = {}
        with PoolPlace(256 << 20) as place:
            launcher = Launcher(os.path.join(BUILD, "workloads", "aep_bench_launch"), place)
            for mode in ("mapped", "dropped"):
                allocator = allocators.Allocator("x", pool=place.path, pool_size=1)
                sample = launcher.run(allocator, [sys.executable, "-c", USES_POOL, mode])
                self.assertEqual(sample.failed, "")
                peaks[mode] = sample.rss_kib / 1024
        for mode, peak in peaks.items():
            self.assertTrue(96 <= peak <= 135, f"{mode}: {peak} MiB")

    def test_terminated_in_the_middle_it_leaves_nothing(self):
        process = self.start("--only", "^synthetic/fragment", "--allocators", "glibc", "--rounds", "100")
        while not os.listdir(self.scratch) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 143)
        self.assertEqual(os.listdir(self.scratch), [])


if __name__ == "__main__":
    if "--build" in sys.argv:
        at = sys.argv.index("--build")
        BUILD = os.path.abspath(sys.argv[at + 1])
        del sys.argv[at:at + 2]
    unittest.main()
