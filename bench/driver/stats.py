"""From samples to medians, quartiles, ratios to the baseline and geometric means.

Used by report.py and run.py. A ratio is always taken inside one round, where both runs were neighbours in
time; the median is taken over the rounds' ratios.
"""

import math
import statistics

CONFIDENCE = 0.95


def quartiles(values):
    """[first quartile, median, third quartile] of at least one value."""
    if len(values) == 1:
        return [values[0]] * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def geometric_mean(values):
    return math.exp(sum(math.log(v) for v in values) / len(values)) if values else None


def median_interval(values):
    """(low, median, high): two of at least six values between which the true median lies with CONFIDENCE, however they
    are distributed; each must be of a run of its own."""
    values = sorted(values)
    count, below = len(values), 0.0
    first = 0  # as many values as may lie outside on either side
    for k in range(count // 2):
        below += math.comb(count, k) / 2 ** count
        if 2 * below > 1 - CONFIDENCE:
            break
        first = k
    return values[first], statistics.median(values), values[count - 1 - first]


class Results:
    """samples[case name][allocator name] is a list with one Sample a round."""

    def __init__(self, cases, allocators, baseline):
        self.cases = cases
        self.allocators = allocators
        self.baseline = baseline  # the name of the allocator that ratios are to
        self.samples = {case.name: {a.name: [] for a in allocators} for case in cases}

    def add(self, case, allocator, sample):
        self.samples[case.name][allocator.name].append(sample)

    def failure(self, case, allocator):
        return next((s.failed for s in self.samples[case.name][allocator.name] if s.failed), "")

    def summary(self, case, allocator):
        """What the tables and the JSON say of one case under one allocator; None when it never ran."""
        samples = self.samples[case.name][allocator.name]
        if not samples:
            return None
        failed = self.failure(case, allocator)
        if failed:
            return {"failed": failed}
        low, middle, high = quartiles([s.value for s in samples])
        summary = {
            "median": middle, "quartiles": [low, high],
            "ratio": None, "ratio_quartiles": None,
            "peak_rss_kib": statistics.median(s.rss_kib for s in samples), "rss_ratio": None,
            "wall_s": statistics.median(s.wall for s in samples),
            "cpu_s": statistics.median(s.cpu for s in samples),
            "system_s": statistics.median(s.system for s in samples),
            "faults": statistics.median(s.faults for s in samples),
            "rounds": len(samples),
        }
        ratios = self.ratios(case, allocator)
        if ratios:
            low, middle, high = quartiles(ratios)
            summary.update(ratio=middle, ratio_quartiles=[low, high])
            summary["rss_ratio"] = statistics.median(self._paired(case, allocator, lambda s: s.rss_kib))
        for key in samples[0].details:
            summary.setdefault("details", {})[key] = statistics.median(s.details[key] for s in samples)
        return summary

    def ratios(self, case, allocator):
        return self._paired(case, allocator, lambda s: s.value)

    def _paired(self, case, allocator, figure):
        own = self.samples[case.name][allocator.name]
        base = self.samples[case.name].get(self.baseline, [])
        if any(s.failed for s in own) or any(s.failed for s in base):
            return []
        return [figure(s) / figure(b) for s, b in zip(own, base) if figure(b) > 0]

    def geomeans(self, allocator):
        """{set or set/group: {ratio, quartiles over rounds, cases}} and the same for peak RSS."""
        keys = {}
        for case in self.cases:
            keys.setdefault(case.set, []).append(case)
            if case.small_objects:
                keys.setdefault(f"{case.set}/small_objects", []).append(case)
            keys.setdefault(f"{case.set}/{case.group}", []).append(case)
        means = {}
        for key, cases in keys.items():
            time = self._mean(cases, lambda c: self.ratios(c, allocator))
            if time:
                means[key] = time
        memory = {"rss": self.cases, **{f"rss/{name}": keys[name] for name in keys if "/" not in name or "workload" in name}}
        for key, cases in memory.items():
            rss = self._mean(cases, lambda c: self._paired(c, allocator, lambda s: s.rss_kib))
            if rss:
                means[key] = rss
        return means

    @staticmethod
    def _mean(cases, ratios_of):
        by_case = [r for r in (ratios_of(case) for case in cases) if r]
        if not by_case:
            return None
        rounds = min(len(r) for r in by_case)
        low, _, high = quartiles([geometric_mean([r[i] for r in by_case]) for i in range(rounds)])
        return {"ratio": geometric_mean([statistics.median(r) for r in by_case]),
                "quartiles": [low, high], "cases": len(by_case), "of": len(cases)}
