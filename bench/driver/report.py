"""The table for people and the JSON for programs.

Used by run.py.
"""

import datetime
import json
import os
import platform
import re
import subprocess


def table(document, file):
    """Times, memory, means, and what is missing or failed; from the document, so that a file will do."""
    base = document["baseline"]
    present = [n for n, facts in document["allocators"].items() if facts["available"]]
    others = [n for n in present if n != base]
    settings = document["settings"]
    print(f"pool: {settings['pool']}, {settings['pool_size'] >> 20} MiB", file=file)
    print(f"\nTime: median under {base}, and ratios to it in the same round (median ± half the quartile range;"
          f" below 1 is faster)\n\n{_line('case', base, others)}", file=file)
    for case in document["cases"]:
        print(_line(case["name"], absolute_cell(case, base), [ratio_cell(case, n) for n in others]), file=file)
    print(f"\nPeak memory: median under {base}, and ratios to it\n\n{_line('case', base, others)}", file=file)
    for case in document["cases"]:
        print(_line(case["name"], *_memory(case, base, others)), file=file)
    means = [document["geomeans"][n] for n in others]
    keys = list(dict.fromkeys(key for mean in means for key in mean))
    if keys:
        print(f"\nGeometric means of the ratios to {base}\n\n{_line('set', '', others)}", file=file)
    for key in keys:
        print(_line(key, "", [mean_cell(mean.get(key)) for mean in means]), file=file)
    print(file=file)
    _absent(document, file)


def _absent(document, file):
    for name, facts in document["allocators"].items():
        if not facts["available"]:
            print(f"MISSING {name}: {facts['missing']}", file=file)
    missing = [case for case in document["cases"] if "missing" in case]
    print(f"cases that cannot run here: {len(missing)} of {len(document['cases'])}", file=file)
    for case in missing:
        print(f"MISSING {case['name']}: {case['missing']}", file=file)
    for failure in document["failures"]:
        print(f"FAILED {failure['case']} under {failure['allocator']}: {failure['why']}", file=file)


def _line(label, base, cells):
    return f"{label:28} {base:>14}" + "".join(f"{cell:>15}" for cell in cells)


def absolute_cell(case, name):
    """The median with its unit."""
    result = case["results"].get(name)
    if result is None:
        return "-"
    return "FAILED" if "failed" in result else f"{_short(result['median'])} {case['unit']}"


def ratio_cell(case, name):
    """The ratio to the baseline with half its quartile range; the median where there is no baseline."""
    result = case["results"].get(name)
    if result is None or "failed" in result or result["ratio"] is None:
        return absolute_cell(case, name)
    low, high = result["ratio_quartiles"]
    return f"{_short(result['ratio'])} ±{_short((high - low) / 2)}"


def _memory(case, base, others):
    def cell(name):
        result = case["results"].get(name)
        if result is None or "failed" in result:
            return "-"
        if name == base or result["rss_ratio"] is None:
            return f"{result['peak_rss_kib'] / 1024:.1f} MiB"
        return f"{result['rss_ratio']:.2f}"

    return cell(base), [cell(name) for name in others]


def mean_cell(mean):
    """A geometric mean; says so when it leaves cases out."""
    if mean is None:
        return "-"
    partial = "" if mean["cases"] == mean["of"] else f" ({mean['cases']} of {mean['of']})"
    return f"{mean['ratio']:.3f}{partial}"


def _short(value):
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def failures(results):
    return [(c.name, a.name, why) for c in results.cases for a in results.allocators
            if (why := results.failure(c, a))]


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
        "baseline": results.baseline,
        "machine": machine(),
        "settings": settings,
        "allocators": {a.name: {"available": not a.missing, "missing": a.missing or None, "version": a.version or None}
                       for a in results.allocators},
        "cases": cases,
        "geomeans": {a.name: results.geomeans(a) for a in results.allocators if not a.missing},
        "failures": [{"case": c, "allocator": a, "why": w} for c, a, w in failures(results)],
    }


def write(document, path):
    """As a JSON file."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")


VENDORS = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}  # as the kernel names them


def machine():
    """Facts that matter for the figures; no name of the machine."""
    facts = {"date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
             "cores": os.cpu_count(), "architecture": platform.machine(),
             "kernel": re.match(r"[\d.]*\d", platform.release()).group(),
             "libc": " ".join(platform.libc_ver()), "load_at_end": round(os.getloadavg()[0], 2)}
    cpu = dict(re.findall(r"^([^\t:]+)\t*: (.*)$", _read("/proc/cpuinfo"), re.MULTILINE))
    facts["cpu"] = cpu.get("model name", facts["architecture"])
    facts["vendor"] = VENDORS.get(cpu.get("vendor_id"), cpu.get("vendor_id", facts["architecture"]))
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
