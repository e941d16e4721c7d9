"""The table, page and plot of `./aep bench --dsm`.

Used by ../dsm.py on the document that it makes or reads.
"""

import statistics

from .markdown import head, row


def table(document, file):
    """For people at a terminal."""
    for line in emulation(document):
        print(line, file=file)
    print(f"\n{'':78}{'ours':>12}{'published':>12}{'durable':>12}  times better than published, durable", file=file)
    for entry in document["rows"]:
        if "failed" in entry:
            print(f"{entry['name']:78}FAILED: {entry['failed']}", file=file)
            continue
        unit = entry["unit"]
        durable = _short(entry["durable"]) + " " + unit if "durable" in entry else ""
        print(f"{entry['name']:78}{_short(entry['ours']) + ' ' + unit:>12}{_short(entry['flat']) + ' ' + unit:>12}{durable:>12}"
              f"  {_ratio(entry):14}{_durable_ratio(entry):8}{_verdicts(entry, '{}', 'MISSED: {}')}", file=file)
        if entry["second"] != "flat":
            print(f"{'':4}second column: {entry['second']}", file=file)
    for line in [*_survivors(document), *_costs(document), *document["not_measured"]]:
        print(line, file=file)


def parts(document):
    """For the page: {marker: lines}."""
    machine, settings = document["machine"], document["settings"]
    about = (f"{machine.get('cpu')}, {machine['cores']} cores, {machine.get('memory_gib')} GiB, {machine.get('system')}, "
             f"Linux {machine['kernel']}. {machine['date']}, revision {settings['revision']}, "
             f"{'quick' if settings['quick'] else 'full'} run, provider {settings['provider']}, "
             f"load {machine['load_at_end']} at the end.")
    lines = head(["", "ours", "flat *published*", "flat *durable*", "times better than *published*", "than *durable*", "target"])
    for entry in document["rows"]:
        if "failed" in entry:
            lines.append(row([entry["name"], f"failed: {entry['failed']}", "", "", "", "", ""]))
            continue
        unit = entry["unit"]
        second = "" if entry["second"] == "flat" else f" ({entry['second']})"
        durable = f"{_short(entry['durable'])} {unit}" if "durable" in entry else ""
        lines.append(row([entry["name"], f"{_short(entry['ours'])} {unit}", f"{_short(entry['flat'])} {unit}{second}", durable,
                          _ratio(entry), _durable_ratio(entry), _verdicts(entry, "{}: met", "{}: **missed**")]))
    more = [f"* {line}" for line in [*emulation(document), *_survivors(document), *_costs(document), *document["not_measured"]]]
    return {"machine": [about], "figures": lines, "more": more}


def emulation(document):
    latency = document["settings"]["cxl_latency_ns"]
    if latency == 0:
        return ["Emulated: nothing. Flushes and fences are real instructions on this machine's memory (--cxl-latency is off)."]
    return [f"Emulated: the pool is {latency} ns farther away, for flat, for references between nodes and for the flushed "
            "metadata: a busy wait for each fence that has flushes, and (but for the flushed metadata) for each line of "
            "metadata that is not in a model of the client's cache. Contents of objects are not delayed."]


def _survivors(document):
    return survivor_lines(document["survivors"])


def survivor_lines(alive):
    """What others' deaths do to who goes on; `alive` as dsm.survivors() tells it, or nothing."""
    if not alive:
        return []
    if "failed" in alive:
        return [f"Survivors: failed: {alive['failed']}"]
    lines = []
    for side, when in (("ours", "in the 50 ms after another client of ours is killed"),
                       ("flat", "while another client of flat is recovered")):
        found = alive[side]
        if found["elapsed"]:
            lines.append(f"A survivor's throughput {when}, against the 150 ms before: {_change(found['processor'])} by its processor "
                         f"time; {_change(found['elapsed'])} by the clock, with whatever else the processors had to do.")
    last = alive["flat"]["last"]
    if last["kill_ms"]:
        took = statistics.fmean(e - k for k, e in zip(last["kill_ms"], last["end_ms"]))
        lines.append(f"The recovery of a client of flat with 100,000 objects takes {took:.0f} ms beside it.")
    return lines


def _change(found):
    return f"{100 * statistics.median(found):+.1f} % (worst of {len(found)}: {100 * found[0]:+.1f} %)"


def _costs(document):
    lines = []
    for rule, costs in document["costs"].items():
        if "failed" in costs:
            lines.append(f"Flushes and fences of flat, {rule}: failed: {costs['failed']}")
            continue
        names = [name.removesuffix("_fences") for name in costs if name.endswith("_fences")]
        each = ", ".join(f"{n.replace('_', ' ')} {costs[n + '_flushes']:.3g} / {costs[n + '_fences']:.3g}" for n in names)
        lines.append(f"Flushes / fences of flat's operations, {rule}, counted: {each}.")
    return lines


def _ratio(entry):
    low, high = entry["ratio_quartiles"]
    return f"{_short(entry['ratio'])} ±{_short((high - low) / 2)}"


def _durable_ratio(entry):
    return _short(entry["durable_ratio"]) if "durable_ratio" in entry else ""


def _verdicts(entry, met, missed):
    return "; ".join((met if t["met"] else missed).format(t["target"]) for t in entry["targets"])


def _short(value):
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def draw(document, stem):
    """Writes STEM.svg and STEM.png; returns both names."""
    import matplotlib
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "aep-bench", "font.size": 8})
    from matplotlib import pyplot
    entries = [e for e in document["rows"] if "failed" not in e]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 1.5 + 0.24 * len(entries)), width_ratios=(1, 1))
    for i, entry in enumerate(entries):
        low, high = entry["ratio_quartiles"]
        left.hlines(i, low, high, color="#d55e00", linewidth=0.8)
        left.plot(entry["ratio"], i, "o", color="#d55e00", markersize=4)
        if "durable_ratio" in entry:
            left.plot(entry["durable_ratio"], i, "x", color="#0072b2", markersize=4)
        for target in entry["targets"]:
            if "x flat" in target["target"]:
                left.plot(float(target["target"].split()[2]), i, "|", color="black", markersize=9)
    left.set_xscale("log")
    left.axvline(1, color="black", linewidth=0.8)
    left.set_yticks(range(len(entries)), [e["name"] for e in entries])
    left.set_ylim(len(entries) - 0.5, -0.5)
    left.plot([], [], "o", color="#d55e00", markersize=4, label="than flat, published")
    left.plot([], [], "x", color="#0072b2", markersize=4, label="than flat, durable")
    left.legend(frameon=False, loc="lower right")
    left.set_xlabel("times better (bars: quartiles of the rounds; |: target)")
    left.grid(axis="x", which="major", linewidth=0.4)
    alive = document["survivors"]
    if alive and "failed" not in alive:
        for name, colour in (("ours", "#d55e00"), ("flat", "#0072b2")):
            last = alive[name]["last"]
            rates = [(i / 100, b / c) for i, (b, c) in enumerate(zip(last["bin"], last["cpu"])) if b]  # in the others it did not run
            usual = statistics.median(rate for _, rate in rates)
            right.plot([at for at, _ in rates], [rate / usual for _, rate in rates], ".-", linewidth=0.6, markersize=2,
                       color=colour, label=name)
        for kill in alive["ours"]["last"]["kill_ms"]:
            right.axvline(kill / 1000, color="#d55e00", linewidth=0.8, linestyle=":")
        for kill, end in zip(alive["flat"]["last"]["kill_ms"], alive["flat"]["last"]["end_ms"]):
            right.axvspan(kill / 1000, end / 1000, color="#0072b2", alpha=0.15)
        right.set_ylim(bottom=0, top=2)
        right.set_xlabel("s (dotted: a client of ours is killed; shaded: a client of flat is recovered)")
        right.set_ylabel("a survivor's throughput by its processor time, median = 1, 10 ms bins")
        right.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(stem + ".svg", metadata={"Date": None})
    figure.savefig(stem + ".png", dpi=110)
    pyplot.close(figure)
    return stem + ".svg", stem + ".png"
