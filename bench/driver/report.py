"""The table for people and the JSON for programs.

Used by run.py.
"""

import datetime
import os
import platform
import re
import subprocess

from .allocators import BASELINE


def table(results, file):
    allocators = [a for a in results.allocators if not a.missing]
    _times(results, allocators, file)
    _memory(results, allocators, file)
    _means(results, allocators, file)
    for allocator in results.allocators:
        if allocator.missing:
            print(f"MISSING {allocator.name}: {allocator.missing}", file=file)
    for case in results.cases:
        if case.missing:
            print(f"MISSING {case.name}: {case.missing}", file=file)
    for name, allocator, why in failures(results):
        print(f"FAILED {name} under {allocator}: {why}", file=file)


def failures(results):
    return [(c.name, a.name, why) for c in results.cases for a in results.allocators
            if (why := results.failure(c, a))]


def _times(results, allocators, file):
    others = [a for a in allocators if a.name != BASELINE]
    print(f"\nTime: median under {BASELINE}, and ratios to it in the same round (median ± half the quartile range;"
          " below 1 is faster)\n", file=file)
    print(f"{'case':28} {BASELINE:>14} " + "".join(f"{a.name:>14}" for a in others), file=file)
    for case in results.cases:
        line = f"{case.name:28} "
        base = next((a for a in allocators if a.name == BASELINE), None)
        line += f"{_absolute(results, case, base):>14} "
        for allocator in others:
            line += f"{_ratio(results, case, allocator):>14}"
        print(line, file=file)


def _absolute(results, case, allocator):
    summary = results.summary(case, allocator) if allocator else None
    if summary is None:
        return "-"
    return "FAILED" if "failed" in summary else f"{_short(summary['median'])} {case.unit}"


def _ratio(results, case, allocator):
    summary = results.summary(case, allocator)
    if summary is None:
        return "-"
    if "failed" in summary:
        return "FAILED"
    if summary["ratio"] is None:
        return f"({_short(summary['median'])} {case.unit})"
    low, high = summary["ratio_quartiles"]
    return f"{summary['ratio']:.2f} ±{(high - low) / 2:.2f}"


def _memory(results, allocators, file):
    others = [a for a in allocators if a.name != BASELINE]
    print(f"\nPeak memory: median under {BASELINE}, and ratios to it\n", file=file)
    print(f"{'case':28} {BASELINE:>14} " + "".join(f"{a.name:>14}" for a in others), file=file)
    for case in results.cases:
        cells = []
        for allocator in allocators:
            summary = results.summary(case, allocator)
            if summary is None or "failed" in summary:
                cells.append((allocator, "-"))
            elif allocator.name == BASELINE or summary["rss_ratio"] is None:
                cells.append((allocator, f"{summary['peak_rss_kib'] / 1024:.1f} MiB"))
            else:
                cells.append((allocator, f"{summary['rss_ratio']:.2f}"))
        base = next((text for a, text in cells if a.name == BASELINE), "-")
        print(f"{case.name:28} {base:>14} " + "".join(f"{t:>14}" for a, t in cells if a.name != BASELINE), file=file)


def _means(results, allocators, file):
    others = [a for a in allocators if a.name != BASELINE]
    means = {a.name: results.geomeans(a) for a in others}
    keys = list(dict.fromkeys(k for m in means.values() for k in m))
    if not keys:
        return
    print(f"\nGeometric means of the ratios to {BASELINE}\n", file=file)
    print(f"{'set':28} {'':14} " + "".join(f"{a.name:>14}" for a in others), file=file)
    for key in keys:
        line = f"{key:28} {'':14} "
        for allocator in others:
            mean = means[allocator.name].get(key)
            if mean is None:
                line += f"{'-':>14}"
            else:
                partial = "" if mean["cases"] == mean["of"] else f" ({mean['cases']}/{mean['of']})"
                line += f"{mean['ratio']:.3f}{partial}".rjust(14)
        print(line, file=file)
    print(file=file)


def _short(value):
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def document(results, settings):
    """Everything, for the JSON file."""
    cases = []
    for case in results.cases:
        entry = {"name": case.name, "set": case.set, "group": case.group, "unit": case.unit, "results": {}}
        if case.missing:
            entry["missing"] = case.missing
        for allocator in results.allocators:
            summary = results.summary(case, allocator)
            if summary is not None:
                entry["results"][allocator.name] = summary
        cases.append(entry)
    return {
        "format": 1,
        "baseline": BASELINE,
        "machine": machine(),
        "settings": settings,
        "allocators": {a.name: {"available": not a.missing, "missing": a.missing or None, "version": a.version or None}
                       for a in results.allocators},
        "cases": cases,
        "geomeans": {a.name: results.geomeans(a) for a in results.allocators if not a.missing},
        "failures": [{"case": c, "allocator": a, "why": w} for c, a, w in failures(results)],
    }


def machine():
    """Facts that matter for the figures; no name of the machine."""
    facts = {"date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
             "cores": os.cpu_count(), "architecture": platform.machine(),
             "kernel": re.match(r"[\d.]*\d", platform.release()).group(),
             "libc": " ".join(platform.libc_ver()), "load_at_end": round(os.getloadavg()[0], 2)}
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            facts["cpu"] = line.split(":", 1)[1].strip()
            break
    for line in _read("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            facts["system"] = line.split("=", 1)[1].strip('"')
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            facts["memory_gib"] = round(int(line.split()[1]) / 2**20, 1)
    chosen = re.search(r"\[(\w+)\]", _read("/sys/kernel/mm/transparent_hugepage/enabled"))
    facts["transparent_hugepage"] = chosen.group(1) if chosen else "unknown"
    return facts


def revision(folder):
    run = subprocess.run(["git", "-C", folder, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return run.stdout.strip() or None


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""
