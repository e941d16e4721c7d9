"""What we set out to reach, and what one run says about it.

Used by run.py on the document that report.py makes. A target is measured, never asserted: a missed one is
printed as missed and changes no exit status.
"""

import statistics

STARTUP = "startup/true"
# These touch a word of each block at most: what a pool commits for them is a guarantee (never SIGBUS), not waste.
UNTOUCHED = ("large/pair", "large/live", "huge/pair", "huge/live")


def evaluate(document):
    """[{name, limit, value, met}] for each of our configurations that was measured."""
    rows = []
    for name, limit in (("aep", 1.00), ("aep-pool", 1.10), ("aep-joined", 1.10)):
        means = document["geomeans"].get(name, {})
        rows += _mean(f"{name}: geometric mean of the micro set", means, "micro", limit)
        rows += _mean(f"{name}: cross-thread free", means, "micro/remote", 0.70)
        rows += _worst(document, name)
        rows += _mean(f"{name}: peak memory, all cases", means, "rss", 1.10)
        rows += _used_memory(document, name)
        rows += _peers(document, name)
        rows += _startup(document, name)
    rows += _joined(document)
    return rows


def table(rows, file):
    if not rows:
        return
    print("Targets (ratios to mimalloc unless said otherwise)\n", file=file)
    for row in rows:
        verdict = "met" if row["met"] else "MISSED"
        where = f" ({row['where']})" if row.get("where") else ""
        print(f"  {verdict:7} {row['name']}: {row['value']:.3f}, at most {row['limit']:.2f}{where}", file=file)
    print(file=file)


def _row(name, value, limit, where=""):
    return {"name": name, "value": value, "limit": limit, "met": value <= limit, "where": where}


def _mean(name, means, key, limit):
    return [_row(name, means[key]["ratio"], limit)] if key in means else []


def _joined(document):
    """Being a client, relative to the same heap in private memory."""
    own, private = (document["geomeans"].get(name, {}) for name in ("aep-joined", "aep"))
    return [_row(f"aep-joined: {what} mean relative to aep", own[key]["ratio"] / private[key]["ratio"], 1.10)
            for key, what in (("micro", "micro"), ("workload", "workload")) if key in own and key in private]


def _used_memory(document, name):
    ratios = [r["rss_ratio"] for c in document["cases"] if c["name"] not in UNTOUCHED
              and (r := c["results"].get(name)) and r.get("rss_ratio")]
    return [_row(f"{name}: peak memory, without blocks that are never touched", statistics.geometric_mean(ratios), 1.10)] if ratios else []


def _worst(document, name):
    ratios = [(r["ratio"], c["name"]) for c in document["cases"]
              if (r := c["results"].get(name)) and r.get("ratio") is not None]
    return [_row(f"{name}: slowest single case", *max(ratios)[:1], 1.5, max(ratios)[1])] if ratios else []


def _peers(document, name):
    """Our micro mean relative to each other peer's."""
    own = document["geomeans"].get(name, {}).get("micro")
    rows = []
    for peer in ("jemalloc", "tcmalloc", "glibc"):
        other = document["geomeans"].get(peer, {}).get("micro")
        if own and other and own["cases"] == other["cases"]:
            rows.append(_row(f"{name}: micro mean relative to {peer}", own["ratio"] / other["ratio"], 1.0))
    return rows


def _startup(document, name):
    for case in document["cases"]:
        own, glibc = case["results"].get(name, {}), case["results"].get("glibc", {})
        if case["name"] == STARTUP and "median" in own and "median" in glibc:
            return [_row(f"{name}: start-up beyond glibc's, ms", own["median"] - glibc["median"], 1.0)]
    return []
