"""What one run comes to: ours against the best of all others, programs first; and every case where ours is behind.

Used by run.py on the document that report.py makes. The best of a set is the allocator of others with the lowest
geometric mean there that was measured in each of its cases; so it is another one in each set, and never named before.
Headlines of machines of several kinds are kept side by side in one file, an entry for each vendor of CPUs.
"""

import json
import os

from .allocators import OURS

SETS = {"programs": "workload/program", "synthetic programs": "workload/synthetic", "micro": "micro",
        "micro, small objects": "micro/small_objects", "peak memory of programs": "rss/workload/program", "peak memory of micro": "rss/micro"}
BEHIND = 1.10  # times the baseline


def others(document):
    return [n for n, a in document["allocators"].items() if a["available"] and n not in OURS]


def evaluate(document):
    """[{set, best, ratios: {one of ours: its mean relative to the best's}, cases}]"""
    rows = []
    for title, key in SETS.items():
        means = {n: mean for n, all_of_it in document["geomeans"].items() if (mean := all_of_it.get(key))}
        most = max((mean["cases"] for mean in means.values()), default=0)
        rivals = {n: mean["ratio"] for n, mean in means.items() if n in others(document) and mean["cases"] == most}
        if not rivals:
            continue
        best = min(rivals, key=rivals.get)
        ratios = {n: means[n]["ratio"] / rivals[best] for n in OURS if n in means and means[n]["cases"] == most}
        rows.append({"set": title, "best": best, "ratios": ratios, "cases": most})
    return rows


def behind(document):
    """[(case, {one of ours: its ratio to the baseline}, the best of all others there, its ratio)] where ours are behind,
    worst first."""
    rows = []
    for case in document["cases"]:
        ratios = {n: r["ratio"] for n, r in case["results"].items() if r.get("ratio") is not None}
        own = {n: ratios[n] for n in OURS if n in ratios}
        rivals = [n for n in others(document) if n in ratios]
        if rivals and max(own.values(), default=0) > BEHIND:
            best = min(rivals, key=ratios.get)
            rows.append((case["name"], own, best, ratios[best]))
    return sorted(rows, key=lambda row: -max(row[1].values()))


def table(document, file):
    print(f"Ours relative to the best of all others ({document['machine']['vendor']}; below 1 is better)\n", file=file)
    for row in document["headline"]:
        print(f"  {row['set']:24} best: {row['best']:15} {_ratios(row['ratios'])}  ({row['cases']} cases)", file=file)
    rows = behind(document)
    print(f"\nCases in which one of ours takes more than {BEHIND:.2f} of {document['baseline']}: {len(rows)}", file=file)
    for case, own, best, ratio in rows:
        print(f"  {case:28} {_ratios(own)}  ({best} {ratio:.2f})", file=file)
    print(file=file)


def _ratios(ratios):
    return "  ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())


def merge(document, path):
    """Puts this document's headline into the file of all machines' headlines; returns {vendor: entry}."""
    entries = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            entries = json.load(file)
    machine = document["machine"]
    entries[machine["vendor"]] = {"machine": machine, "revision": document["settings"]["revision"],
                                  "headline": document["headline"]}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(entries, file, indent=1, sort_keys=True)
        file.write("\n")
    return entries
