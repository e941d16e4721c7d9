"""Every system of `./aep bench --ipc` carries every message of every pattern, each byte as it was written, and leaves nothing behind.

Run by ctest (`bench_ipc.SYSTEM`), or by hand: bench/ipc_test.py --build build/release [zeromq...]
The programs end with an error when a message is lost, comes twice, out of order, or has another byte than was sent. Nothing here
asserts a time.
"""

import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from driver import ipc_systems  # noqa: E402
from driver.ipc_systems import KIB, MIB  # noqa: E402

BUILD = os.path.join(os.path.dirname(HERE), "build", "release")
# A window is passed, and queues are full. Fewer where each message may take a turn of a processor: there and back, and where more
# poll than there are processors.
MESSAGES = {64: 600, KIB: 600, 64 * KIB: 260, 16 * MIB: 5}
FEW = 5


def messages_of(row):
    """0: the row is left out, for another one shows what it would."""
    many = MESSAGES.get(row.size, 0)
    crowded = row.cannot(2)
    if (row.size == KIB and row.pattern != "stream") or (row.size > 64 * KIB and crowded):
        return 0
    return min(many, FEW) if row.pattern == "reply" or crowded else many


def shared_memory():
    return {name for name in os.listdir("/dev/shm") if name.startswith("iceoryx")}


class Every(unittest.TestCase):
    """One system, `name`."""

    def __init__(self, name):
        super().__init__("test_rows")
        self.name = name

    def id(self):
        return f"bench_ipc.{self.name}"

    def test_rows(self):
        system = next(s for s in ipc_systems.SYSTEMS if s.name == self.name)
        before = shared_memory()
        with ipc_systems.Runs(BUILD, [system]) as runs:
            if system.name in runs.missing:
                raise unittest.SkipTest(runs.missing[system.name])
            for row in ipc_systems.rows():
                if messages_of(row) != 0 and not system.cannot(row):
                    with self.subTest(row.name):
                        self.carry(runs, system, row)
        if self.name == "iceoryx":  # tests of others run beside it
            self.assertEqual(shared_memory(), before)

    def carry(self, runs, system, row):
        messages = messages_of(row)
        found = runs.run(system, row, "messages", messages)
        self.assertNotIn("failed", found)
        receivers, senders = {"to-4": (4, 1), "from-4": (1, 4)}.get(row.pattern, (1, 1))
        self.assertEqual(found["messages"], [senders * messages] * receivers)
        left = [name for name in os.listdir("/dev/shm") if name.startswith(f"aep-bench-{runs.launcher}-")]
        self.assertEqual(left, [])


def main():
    global BUILD
    words = sys.argv[1:]
    if words[:1] == ["--build"]:
        BUILD = os.path.abspath(words[1])
        words = words[2:]
    suite = unittest.TestSuite(Every(name) for name in words or [s.name for s in ipc_systems.SYSTEMS])
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    for case, why in result.skipped:
        print(f"CANNOT RUN: {case.id()}: {why}")
    if not result.wasSuccessful():
        return 1
    return 77 if len(result.skipped) == result.testsRun else 0


if __name__ == "__main__":
    sys.exit(main())
