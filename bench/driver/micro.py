"""The micro-benchmarks as cases: one process of aep_bench_micro for each case, allocator and round.

Used by run.py.
"""

import json
import subprocess
from dataclasses import dataclass

UNIT = "ns/op"


# Groups of small objects through malloc and free alone: one mean of their own, because ratios of large
# objects, realloc and the like differ by orders of magnitude and would hide them.
SMALL_OBJECTS = ("pair", "batch", "live", "mixed", "touch", "remote", "pipeline", "threads")


@dataclass
class MicroCase:
    name: str
    program: str
    scale: float

    set = "micro"
    unit = UNIT
    missing = ""

    @property
    def group(self):
        return self.name.split("/")[0]

    @property
    def small_objects(self):
        return self.group in SMALL_OBJECTS

    def run(self, launcher, allocator):
        command = [self.program, f"--case={self.name}", f"--scale={self.scale}", "--benchmark_format=json"]
        sample = launcher.run(allocator, command)
        if sample.failed:
            return sample
        try:
            result = json.loads(sample.output)["benchmarks"][0]
            sample.value = 1e9 / result["items_per_second"]
        except (ValueError, LookupError, ZeroDivisionError) as problem:
            sample.failed = f"unreadable result: {problem}"
            return sample
        sample.details = {key: result[key] for key in ("alloc_ns", "free_ns") if key in result}
        return sample


def cases(program, scale):
    names = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    return [MicroCase(name, program, scale) for name in names]
