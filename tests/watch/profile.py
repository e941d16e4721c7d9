#!/usr/bin/env python3
"""Tests of the heap profile: what is sampled, by whom it is read, how it is switched on; the report of leaks.

Called by ctest: profile.py LIBRARY TOOLS_DIR PROGRAM [unittest arguments]. Leaves nothing behind.
"""

import json
import os
import re
import signal
import unittest
from xml.etree import ElementTree

from watch_test import PROGRAM, RATE, Joined, WatchTest, main

# What `usual` leaves: blocks of 300,000 bytes have whole slices, and those of 100 have 112.
LIVE = 2_000 * 5_000 + 10 * 327_680
ROUNDS = 3_000
DROPPED = ROUNDS * 1_000 * 112


class Profile(WatchTest):
    def profiled(self, **settings):
        """The file that the usual program leaves."""
        ended = self.run_watched("usual", str(ROUNDS), AEP_PROFILE=f"{self.folder}/p", AEP_PROFILE_RATE=RATE, **settings)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        [file] = self.files()
        return file

    def test_off_nothing_is_written(self):
        ended = self.run_watched("usual", "10")
        self.assertEqual((ended.returncode, ended.stdout + ended.stderr, os.listdir(self.folder)), (0, "", []))

    def test_file_is_the_users_alone(self):
        self.assertEqual(os.stat(self.profiled()).st_mode & 0o777, 0o600)

    def test_readers(self):
        file = self.profiled()
        readers = {"jeprof": ["jeprof", "--text", "--{}"], "google-pprof": ["google-pprof", "--text", "--{}"],
                   "go": ["go", "tool", "pprof", "-top", "-sample_index={}"]}
        for name, words in readers.items():
            for kind, function, expected, part in (("inuse_space", "kept_by", LIVE, 0.6),
                                                   ("alloc_space", "dropped_by", DROPPED, 0.12)):
                with self.subTest(reader=name, kind=kind):
                    told = self.tool(*(word.format(kind) for word in words), PROGRAM, file,
                                     env={**os.environ, "HOME": self.folder})
                    self.assertEqual(told.returncode, 0, told.stderr)
                    [line] = [line for line in told.stdout.splitlines() if line.endswith(function)]
                    number, unit = re.match(r"\s*([\d.]+)(MB|kB|)", line).groups()
                    scale = {"MB": 2**20, "kB": 2**10, "": 2**20}[unit]  # the older ones say MB of all
                    self.assert_near(float(number) * scale, expected, part)

    def test_every_block_at_rate_1(self):
        ended = self.run_watched("usual", "3", AEP_LEAKS="1", AEP_PROFILE_RATE="1")
        self.assertEqual(ended.returncode, 0)
        kept = re.findall(r"(\d+) bytes in blocks of (\d+) \((\d+) sampled\)", ended.stderr)
        self.assertIn(("10000000", "5000", "2000"), kept)
        self.assertIn(("3276800", "327680", "10"), kept)
        self.assertEqual([line for line in kept if line[1] == "112"], [])
        self.assertIn("kept_by+", ended.stderr)

    def test_a_program_that_has_closed_its_standard_error(self):
        """As GNU's coreutils do before the library's turn comes."""
        for name, said in (("AEP_LEAKS", "bytes live, seen by"), ("AEP_STATS", "live blocks: ")):
            with self.subTest(name):
                ended = self.tool("/bin/ls", "/", env=self.environment(AEP_PROFILE_RATE="1", **{name: "1"}))
                self.assertEqual(ended.returncode, 0)
                self.assertIn(said, ended.stderr)

    def test_a_daemon_keeps_no_pipe_of_whoever_started_it(self):
        """Who reads all that it says would wait for its end."""
        script = ("import os, signal\nchild = os.fork()\nif child == 0:\n  os.closerange(0, 3)\n  signal.pause()\n"
                  "print(child)")
        ended = self.tool("/usr/bin/python3", "-c", script, env=self.environment(AEP_STATS="1"))
        os.kill(int(ended.stdout), signal.SIGKILL)
        self.assertIn("live blocks: ", ended.stderr)

    def test_a_file_of_the_programs_own_is_not_written_to(self):
        """It has taken the place of what the library kept."""
        script = ("import os\nf = os.open('own', os.O_CREAT | os.O_WRONLY)\nos.close(2)\n"
                  "for fd in range(3, 1024):\n  if fd != f: os.dup2(f, fd)\n")
        ended = self.tool("/usr/bin/python3", "-c", script, env=self.environment(AEP_LEAKS="1", AEP_STATS="1"))
        self.assertEqual((ended.returncode, ended.stderr, os.stat(f"{self.folder}/own").st_size), (0, "", 0))

    def test_stacks_of_each_kind(self):
        for stacks in "frames", "gcc", "libunwind":
            with self.subTest(stacks=stacks):
                ended = self.run_watched("usual", "1", AEP_LEAKS="1", AEP_PROFILE_RATE="1", AEP_STACKS=stacks)
                self.assertEqual(ended.returncode, 0)
                about = ended.stderr.partition("bytes in blocks of 5000 (2000 sampled)")[2]
                self.assertRegex(about.splitlines()[1], r"#0 0x[0-9a-f]+ kept_by\+")
                self.assertGreater(about.partition("bytes in blocks")[0].count("#"), 2)

    def test_what_makes_no_sense_is_told(self):
        ended = self.run_watched("usual", "1", AEP_PROFILE=f"{self.folder}/p", AEP_PROFILE_RATE="0", AEP_STACKS="x",
                                 AEP_PROFILE_SIGNAL="KILL", AEP_GUARD="-1")
        self.assertEqual(ended.returncode, 0)
        for name in "AEP_PROFILE_RATE=0", "AEP_STACKS=x", "AEP_PROFILE_SIGNAL=KILL", "AEP_GUARD=-1":
            self.assertIn(f"aep: {name} is not understood", ended.stderr)

    def test_no_place_to_write_is_told(self):
        ended = self.run_watched("usual", "1", AEP_PROFILE="/nowhere/p")
        self.assertEqual(ended.returncode, 0)
        self.assertIn("heap profile /nowhere/p.", ended.stderr)

    def test_signal_begins_and_writes(self):
        process = self.start_watched("wait", "1", AEP_PROFILE=f"{self.folder}/p", AEP_PROFILE_SIGNAL="USR2",
                                     AEP_PROFILE_RATE="1")

        def round_after(number):
            """The program's next round, with the signal before it."""
            self.assertEqual(process.stdout.readline(), "done\n")
            if number:
                process.send_signal(number)
            process.stdin.write("\n")
            process.stdin.flush()
        round_after(0)
        self.assertEqual(self.files(), [])
        round_after(signal.SIGUSR2)  # begins
        round_after(signal.SIGUSR2)  # writes what the round between has done
        self.assertEqual(process.stdout.readline(), "done\n")
        [file] = self.files()
        with open(file, encoding="utf-8") as text:
            counts = re.match(r"heap profile: (\d+): (\d+) \[(\d+): (\d+)\] @ heap_v2/1\n", text.read())
        # That round's blocks, less what was at hand, and what libraries add.
        self.assertIn(int(counts.group(3)), range(3_010 - 2 * 64, 3_010 + 100))

    def test_threads_and_forks(self):
        ended = self.run_watched("survive", AEP_LEAKS="1", AEP_PROFILE_RATE="4K")
        self.assertEqual(ended.returncode, 0, ended.stderr)
        lost = re.search(r"(\d+) bytes live", ended.stderr)
        self.assertLess(int(lost.group(1)), 1_000_000)  # libraries' own


class OtherProcess(WatchTest):
    """aep profile PID"""

    def setUp(self):
        super().setUp()
        self.process = self.start_watched("wait", "300")
        self.assertEqual(self.process.stdout.readline(), "done\n")
        self.pid = str(self.process.pid)

    def a_round(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.assertEqual(self.process.stdout.readline(), "done\n")

    def test_switched_on_read_and_off(self):
        first = self.aep("profile", self.pid, "--seconds", "0", "--rate", RATE, "--keep", "--output", "a.heap")
        self.assertEqual((first.returncode, first.stderr), (0, ""))
        self.a_round()
        told = self.aep("profile", self.pid, "--json", "--output", "b.heap")
        self.assertEqual((told.returncode, told.stderr), (0, ""))
        sums = json.loads(told.stdout)
        self.assert_near(sums["allocated_bytes"], 300 * 1_000 * 112 + LIVE, 0.25)
        self.assert_near(sums["live_bytes"], 1_048_576, 0.1)
        self.assertEqual(sums["rate"], 65536)
        refused = self.aep("profile", self.pid, "--rate", "1K", "--output", "c.heap")
        self.assertEqual(refused.returncode, 2)
        self.assertIn("there are samples already, one in 65536 bytes", refused.stderr)

    def test_switched_off_again(self):
        self.aep("profile", self.pid, "--seconds", "0", "--rate", RATE, "--output", "a.heap")
        self.a_round()
        told = self.aep("profile", self.pid, "--seconds", "0", "--json", "--output", "b.heap")
        self.assertLess(json.loads(told.stdout)["allocated_bytes"], 10_000_000)

    def test_flame_graph(self):
        self.aep("profile", self.pid, "--seconds", "0", "--rate", RATE, "--keep", "--output", "a.heap")
        self.a_round()
        self.assertEqual(self.aep("profile", self.pid, "--flame", "live.svg", "--output", "b.heap").returncode, 0)
        self.assertEqual(self.aep("profile", "b.heap", "--flame", "all.svg", "--allocated").returncode, 0)
        for file, function, other in ("live.svg", "kept_by", "dropped_by"), ("all.svg", "dropped_by", None):
            tree = ElementTree.parse(f"{self.folder}/{file}")
            titles = [node.text for node in tree.iter("{http://www.w3.org/2000/svg}title")]
            self.assertEqual(len([t for t in titles if t.startswith(function)]), 1, titles)
            self.assertEqual([t for t in titles if other and t.startswith(other)], [])

    def test_errors_are_told(self):
        with open(f"{self.folder}/b.heap", "w", encoding="utf-8") as file:
            file.write("heap profile: 1: 2 [1: 2] @ heap_v2/1\n1: 2 [1: 2] @ 0x12 zzz\n")
        for words, text in ((["999999999"], "process 999999999: there is none"),
                            ([str(os.getpid())], "does not run on libaepmalloc.so"),
                            (["nothing"], "neither a process's number"),
                            (["nothing", "--flame", "x.svg"], "nothing: ENOENT"),
                            (["b.heap", "--flame", "x.svg"], "b.heap:2: not an address"),
                            ([self.pid, "--seconds", "0", "--rate", "x"], "--rate x: expected bytes"),
                            ([self.pid, "--seconds", "0", "--output", "b.heap"], "b.heap: EEXIST")):
            with self.subTest(words=words):
                told = self.aep("profile", *words)
                self.assertIn(told.returncode, (1, 2))
                self.assertIn(text, told.stderr)

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to be another user")
    def test_another_users_process_is_refused(self):
        told = self.aep("profile", self.pid, "--seconds", "0", "--output", "/dev/null/x", user=12345, group=12345,
                        extra_groups=[])
        self.assertEqual(told.returncode, 1)
        self.assertIn("its memory may not be read", told.stderr)

    def test_its_end_is_told(self):
        self.process.kill()
        self.process.wait()
        self.assertIn("there is none", self.aep("profile", self.pid, "--seconds", "5").stderr)


class ProfileInContext(Joined, Profile):
    pass


class OtherProcessInContext(Joined, OtherProcess):
    pass


if __name__ == "__main__":
    main()
