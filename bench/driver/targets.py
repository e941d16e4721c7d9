"""What we set out to reach, and what one run says about it.

Used by run.py on the document that report.py makes, its headline included. A target is measured, never asserted: a
missed one is printed as missed and changes no exit status.
"""

from . import headline
from .allocators import OURS

STARTUP = "startup/true"
PRIVATE = "aep"
# Set of the headline -> at most this much of the best of all others, for each of ours.
OF_THE_BEST = {"programs": 1.0, "synthetic programs": 1.0, "micro": 1.0, "micro, small objects": 1.0}
# Geometric mean -> at most this much of the baseline.
OF_THE_BASELINE = {"workload/program": 0.95, "rss/workload/program": 0.75, "micro/remote": 0.70}


def evaluate(document):
    """[{name, limit, value, met, where}] for each of our configurations that was measured."""
    rows = []
    for name in OURS:
        rows += [_row(f"{name}: {row['set']}, relative to the best of all others", row["ratios"][name],
                      OF_THE_BEST[row["set"]], row["best"])
                 for row in document["headline"] if row["set"] in OF_THE_BEST and name in row["ratios"]]
        means = document["geomeans"].get(name, {})
        rows += [_row(f"{name}: mean of {key.replace('rss', 'peak memory')}", means[key]["ratio"], limit)
                 for key, limit in OF_THE_BASELINE.items() if key in means]
        rows += _worst(f"{name}: slowest single case", [
            (r["ratio"], c["name"]) for c in document["cases"]
            if (r := c["results"].get(name)) and r.get("ratio") is not None], headline.BEHIND)
        rows += _startup(document, name)
        rows += _as_private(document, name) if name != PRIVATE else []
    return rows


def table(rows, baseline, file):
    if not rows:
        return
    print(f"Targets (ratios to {baseline} unless said otherwise)\n", file=file)
    for row in rows:
        verdict = "met" if row["met"] else "MISSED"
        where = f" ({row['where']})" if row.get("where") else ""
        print(f"  {verdict:7} {row['name']}: {row['value']:.3f}, at most {row['limit']:.2f}{where}", file=file)
    print(file=file)


def _row(name, value, limit, where=""):
    return {"name": name, "value": value, "limit": limit, "met": value <= limit, "where": where}


def _worst(name, ratios, limit):
    return [_row(name, *max(ratios)[:1], limit, max(ratios)[1])] if ratios else []


def _as_private(document, name):
    """Being on a pool, or a client, relative to the same heap in private memory: in the worst of all groups."""
    own, private = (document["geomeans"].get(n, {}) for n in (name, PRIVATE))
    ratios = {key: own[key]["ratio"] / private[key]["ratio"] for key in own
              if key in private and own[key]["cases"] == private[key]["cases"]}
    times = [(ratio, key) for key, ratio in ratios.items() if "/" in key and not key.startswith("rss")]
    memory = [(ratio, key) for key, ratio in ratios.items() if key == "rss"]
    return [*_worst(f"{name}: slowest group relative to {PRIVATE}", times, 1.03),
            *_worst(f"{name}: peak memory relative to {PRIVATE}", memory, 1.10)]


def _startup(document, name):
    for case in document["cases"]:
        own, glibc = case["results"].get(name, {}), case["results"].get("glibc", {})
        if case["name"] == STARTUP and "median" in own and "median" in glibc:
            return [_row(f"{name}: start-up beyond glibc's, ms", own["median"] - glibc["median"], 1.0)]
    return []
