#!/usr/bin/env python3
"""Tests of guarded blocks: each mistake is reported with its stacks, and the program ends as it would have.

Called by ctest: guard.py LIBRARY TOOLS_DIR PROGRAM [unittest arguments]. Leaves nothing behind.
"""

import re
import signal

from watch_test import Joined, WatchTest, main

MISTAKES = {  # what the report says, and whose stacks it has
    "write-behind": (r"overrun by a write at 0x\w+, 0 bytes behind the block of 48 bytes", -signal.SIGSEGV),
    "read-behind": (r"overrun by a read at 0x\w+, 0 bytes behind the block of 48 bytes", -signal.SIGSEGV),
    "write-before": (r"write before its begin at 0x\w+, 1 bytes before the block of 48 bytes", -signal.SIGSEGV),
    "write-freed": (r"write after free at 0x\w+, 3 bytes into the block of 48 bytes", -signal.SIGSEGV),
    "read-freed": (r"read after free at 0x\w+, 3 bytes into the block of 48 bytes", -signal.SIGSEGV),
    "free-twice": (r"freed twice at 0x\w+, 0 bytes into the block of 48 bytes", -signal.SIGABRT),
    "free-inside": (r"free of an address inside at 0x\w+, 16 bytes into the block of 48 bytes", -signal.SIGABRT),
    "slack": (r"as its free finds: at 0x\w+, 0 bytes behind the block of 41 bytes", -signal.SIGABRT),
}


class Guard(WatchTest):
    def test_mistakes(self):
        for mistake, (text, status) in MISTAKES.items():
            with self.subTest(mistake=mistake):
                ended = self.run_watched(mistake, AEP_GUARD="1")
                self.assertEqual(ended.returncode, status, ended.stderr)
                self.assertRegex(ended.stderr, text)
                by, _, rest = ended.stderr.partition("allocated by thread")
                self.assertRegex(by.partition("by thread")[2], "#0 0x")
                made, _, freed = rest.partition("freed by thread")
                self.assertIn("dropped_by+", made)
                self.assertEqual("freed_by+" in freed, mistake in ("write-freed", "read-freed", "free-twice", "slack"))

    def test_a_forked_childs_thread_has_its_own_number(self):
        ended = self.run_watched("child", AEP_GUARD="1")
        self.assertEqual(ended.returncode, 0, ended.stderr)
        numbers = re.findall(r"by thread (\d+) at", ended.stderr)
        self.assertEqual(len(numbers), 3, ended.stderr)
        self.assertEqual(set(numbers), {ended.stdout.strip()})

    def test_off_as_a_rule(self):
        ended = self.run_watched("write-freed")
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))

    def test_ignored_mistakes_go_on(self):
        ended = self.run_watched("free-twice", AEP_GUARD="1", AEP_ON_ERROR="ignore")
        self.assertEqual(ended.returncode, 0)
        self.assertEqual(ended.stderr.count("freed twice"), 8)

    def test_so_many_of_each_size(self):
        """Of 200,000 blocks 2,000, give or take; of those above 1 KiB up to so many times as many as they have KiB."""
        for size, most in (101, 1), (1001, 1), (2101, 3), (4001, 4):
            with self.subTest(size=size):
                ended = self.run_watched("count", str(size), AEP_GUARD="100")
                self.assertEqual((ended.returncode, ended.stderr), (0, ""))
                self.assertGreater(int(ended.stdout), 1700)
                self.assertLess(int(ended.stdout), 2300 * most)

    def test_the_programs_handler_comes_second(self):
        ended = self.run_watched("write-freed", "handled", AEP_GUARD="1")
        self.assertEqual((ended.returncode, ended.stdout), (3, "own handler\n"))
        self.assertIn("write after free", ended.stderr)

    def test_a_handler_that_calls_what_it_found(self):
        ended = self.run_watched("write-freed", "chained", AEP_GUARD="1")
        self.assertEqual(ended.returncode, -signal.SIGSEGV)
        self.assertEqual(ended.stdout, "chaining handler\n")
        self.assertEqual(ended.stderr.count("write after free"), 1)

    def test_a_handler_that_jumps_has_each_fault(self):
        ended = self.run_watched("jump", AEP_GUARD="1")
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))

    def test_threads_forks_and_all_kinds_of_blocks(self):
        for rate in "1", "20":
            with self.subTest(rate=rate):
                ended = self.run_watched("survive", AEP_GUARD=rate, AEP_PROFILE=f"{self.folder}/p",
                                         AEP_PROFILE_RATE="64K")
                self.assertEqual((ended.returncode, ended.stderr), (0, ""))

    def test_samples_are_guarded_like_others(self):
        ended = self.run_watched("write-freed", AEP_GUARD="2", AEP_PROFILE=f"{self.folder}/p", AEP_PROFILE_RATE="1")
        self.assertEqual(ended.returncode, -signal.SIGSEGV)
        self.assertIn("write after free", ended.stderr)

    def test_one_in_so_many(self):
        """Of eight blocks none is guarded, but once in 100,000 runs."""
        ended = self.run_watched("write-freed", AEP_GUARD="1M")
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))


class GuardInContext(Joined, Guard):
    def test_what_is_guarded_stays_private(self):
        ended = self.run_watched("send", AEP_GUARD="1")
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertIn("guarded", ended.stdout)


if __name__ == "__main__":
    main()
