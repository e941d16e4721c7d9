"""The tables, the targets and the plot of `./aep bench --ipc`.

Used by ../ipc.py on the document that it makes.
"""

import os

from .ipc_systems import ALL_OURS, KIB, LIMIT, MIB, MODES, OURS, OURS_MANY, PATTERNS, size_name
from .markdown import head, row

TITLES = {"stream": "A stream", "window": "With acknowledgements", "reply": "There and back",
          "to-4": "One to four", "from-4": "Four to one"}
WAITS = {"poll": "polling", "sleep": "sleeping"}
SLEEPING_REPLY_US = 2.7  # what it took before there was this comparison


def _labels(document):
    return [facts["label"] for facts in document["systems"].values()]


def figure_of(entry):
    """(its name, whether more is better)"""
    name = PATTERNS[entry["pattern"]][0]
    return name, name == "rate"


def best_peer(entry):
    """(name, its figure) of the best system that is neither ours nor the limit; None where there is none."""
    name, more = figure_of(entry)
    peers = {s: r[name] for s, r in entry["results"].items() if s not in ALL_OURS | {LIMIT} and name in r}
    return (max if more else min)(peers.items(), key=lambda peer: peer[1]) if peers else None


def ratio(entry):
    """How many times better ours is than the best peer; None where one of them is missing."""
    name, more = figure_of(entry)
    best, ours = best_peer(entry), entry["results"].get(OURS, {}).get(name)
    if best is None or ours is None:
        return None
    return ours / best[1] if more else best[1] / ours


def _rate(value):
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    return f"{value / 1e3:.0f} k" if value >= 1e5 else f"{value:,.0f}"


def _time(ns):
    us = ns / 1e3
    return f"{us:,.0f}" if us >= 100 else f"{us:.1f}" if us >= 10 else f"{us:.2f}"


def _cell(entry, system):
    result = entry["results"].get(system)
    if result is None:
        return "-"
    if "failed" in result:
        return "FAILED"
    if "rate" in result:
        return _rate(result["rate"])
    return _time(result["p50_ns"]) + (f" / {_time(result['p99_ns'])}" if "p99_ns" in result else "")


def _table(document, pattern):
    entries = [e for e in document["rows"] if e["pattern"] == pattern]
    unit = "messages/s" if PATTERNS[pattern][0] == "rate" else "us: median / p99"
    yield from head([f"{TITLES[pattern]}, {unit}", *_labels(document), "ours beside the best peer"])
    for entry in entries:
        name = f"{size_name(entry['size'])}, {WAITS[entry['mode']]}"
        if entry["cannot"]:
            yield row([name, *["-"] * len(document["systems"]), f"not measured: {entry['cannot']}"])
            continue
        times, best = ratio(entry), best_peer(entry)
        verdict = "-" if times is None else f"{times:.2f} x {document['systems'][best[0]]['label']}"
        yield row([name, *(_cell(entry, system) for system in document["systems"]), verdict])


def failures(document):
    return [f"{entry['name']} {system}: {result['failed']}" for entry in document["rows"]
            for system, result in entry["results"].items() if "failed" in result]


def machine_lines(document):
    """Where and when, which versions, and what is missing."""
    machine = document["machine"]
    versions = dict.fromkeys(f"{facts['label'].split(',')[0].split(' ')[0]} {facts['version']}" for facts in document["systems"].values()
                             if facts["version"] and not facts["missing"])
    yield (f"{machine.get('cpu')}, {machine['cores']} cores, {machine.get('memory_gib')} GiB, {machine.get('system')}, "
           f"Linux {machine['kernel']}. {', '.join(versions) + '. ' if versions else ''}{machine['date']}, revision {document['revision']}, "
           f"{'quick' if document['quick'] else 'full'} run, {document['rounds']} rounds, load {machine['load_at_end']} at the end.")
    lines = [f"* Not measured: {facts['label']}: {facts['missing']}." for facts in document["systems"].values() if facts["missing"]]
    lines += [f"* FAILED: {line}" for line in failures(document)]
    if lines:
        yield ""
        yield from lines


def _by_name(document, name):
    return next((e for e in document["rows"] if e["name"] == name), {"results": {}})["results"]


def targets(document):
    """(what, measured, met) of each that the rows there are say something of."""
    for mode, least in (("poll", 6.0), ("sleep", 4.0)):
        for system, how in ((OURS, ""), (OURS_MANY, ", many a call")):
            rate = _by_name(document, f"stream/64/{mode}").get(system, {}).get("rate")
            if rate is not None:
                yield f"stream of 64 B{how}, {WAITS[mode]}: at least {least:.0f} M/s", f"{rate / 1e6:.2f} M/s", rate >= least * 1e6
    reply = _by_name(document, "reply/64/poll")
    if {OURS, LIMIT} <= {s for s, r in reply.items() if "p50_ns" in r}:
        times = reply[OURS]["p50_ns"] / reply[LIMIT]["p50_ns"]
        yield "there and back, polling: at most 3 x a cache line's", f"{times:.2f} x", times <= 3
    sleeping = _by_name(document, "reply/64/sleep").get(OURS, {}).get("p50_ns")
    if sleeping is not None:
        yield f"there and back, sleeping: at most {SLEEPING_REPLY_US} us", f"{sleeping / 1e3:.2f} us", sleeping <= SLEEPING_REPLY_US * 1e3
    for what, least, sizes in (("64 KiB and 1 MiB: at least 1.3 x the best peer", 1.3, (64 * KIB, MIB)),
                               ("never behind the best peer", 1.0, None)):
        found = [(times, e) for e in document["rows"] if sizes is None or e["size"] in sizes if (times := ratio(e)) is not None]
        if found:
            times, worst = min(found, key=lambda pair: pair[0])
            behind = sum(t < least for t, _ in found)
            yield what, f"{times:.2f} x in {worst['name']}; less in {behind} of {len(found)} rows", behind == 0


def _targets_table(document):
    yield from head(["target", "measured", ""])
    for what, measured, met in targets(document):
        yield row([what, measured, "met" if met else "**missed**"])


def parts(rows, plot):
    """{marker of the page: document -> lines}, of what those rows say something of; and of the plot with that stem, if there is one."""
    picture = f"![Messages a second, and times there and back, by size]({os.path.basename(plot or '')}.svg)"
    return {"machine": machine_lines, "targets": _targets_table, **({"plot": lambda _: [picture]} if plot else {}),
            **{pattern: (lambda document, pattern=pattern: _table(document, pattern))
               for pattern in PATTERNS if any(r.pattern == pattern for r in rows)}}


COLOURS = ("#d55e00", "#a00000", "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#888888", "#984ea3", "#a65628", "#000000")
MARKS = "o*sD^v<>Px"


def draw(document, stem):
    """Writes STEM.svg and STEM.png; returns both names. A row of panels for each way to wait, a column for each pattern."""
    import matplotlib
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "aep-bench", "font.size": 8})
    from matplotlib import pyplot
    patterns = [p for p in PATTERNS if any(e["pattern"] == p for e in document["rows"])]
    figure, panels = pyplot.subplots(len(MODES), len(patterns), figsize=(3 * len(patterns), 6), squeeze=False)
    for down, mode in enumerate(MODES):
        for across, pattern in enumerate(patterns):
            _panel(panels[down][across], document, pattern, mode)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncol=min(len(labels), 2 * len(patterns)), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.95 if len(patterns) > 4 else 0.8))
    figure.savefig(stem + ".svg", metadata={"Date": None})
    figure.savefig(stem + ".png", dpi=110)
    pyplot.close(figure)
    return stem + ".svg", stem + ".png"


def _panel(axes, document, pattern, mode):
    entries = [e for e in document["rows"] if e["pattern"] == pattern and e["mode"] == mode]
    figure, more = PATTERNS[pattern][0], PATTERNS[pattern][0] == "rate"
    for (system, facts), colour, mark in zip(document["systems"].items(), COLOURS, MARKS):
        points = [(e["size"], e["results"][system][figure] / (1 if more else 1e3)) for e in entries
                  if figure in e["results"].get(system, {})]
        axes.plot([size for size, _ in points], [value for _, value in points], mark + "-", color=colour, label=facts["label"],
                  markersize=4, linewidth=1.6 if system == OURS else 0.8)
    sizes = [e["size"] for e in entries]
    if not any(figure in r for e in entries for r in e["results"].values()):
        axes.set(xlim=(sizes[0] / 2, sizes[-1] * 2), ylim=(1, 10))  # nothing to choose them by
    axes.set(xscale="log", yscale="log", title=f"{TITLES[pattern]}, {WAITS[mode]}")
    axes.set_ylabel("messages/s" if more else "us, median")
    axes.set_xticks(sizes, [size_name(size) for size in sizes], rotation=30)
    axes.minorticks_off()
    axes.grid(linewidth=0.3)
    why = next((e["cannot"].replace(", ", ",\n") for e in entries if e["cannot"]), "")
    if why:
        axes.text(0.5, 0.5, f"not measured:\n{why}", transform=axes.transAxes, ha="center", va="center")
