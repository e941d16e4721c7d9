"""The plot of one run: geometric means on the left, every case on the right, both as ratios to the baseline.

Used by run.py on the document that report.py makes. Writes an SVG and a PNG beside it.
"""

import itertools
import os

EDGES = (0.08, 12.5)  # what lies beyond is drawn at the edge, so that outliers do not flatten the rest
OURS = {"aep": ("#d55e00", "o"), "aep-pool": ("#009e73", "D"), "aep-joined": ("#cc79a7", "P")}
OTHERS = (("#888888", "s"), ("#e69f00", "v"), ("#56b4e9", "^"), ("#0072b2", "<"), ("#000000", "x"), ("#a65628", ">"),
          ("#984ea3", "*"), ("#4daf4a", "h"))  # in turn


def draw(document, path):
    """Writes `path` with the suffixes .svg and .png; returns both names."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("bench: no plot: matplotlib is not installed (Debian package python3-matplotlib; "
                         "run this with /usr/bin/python3)") from None
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "aep-bench", "font.size": 8})
    from matplotlib import pyplot

    base = document["baseline"]
    names = [n for n, a in document["allocators"].items() if a["available"] and n != base]
    means = _mean_rows(document, names)
    cases = _case_rows(document, names)
    looks = dict(zip(names, _looks(names)))
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 1.5 + 0.17 * max(len(cases), len(means), 10)))
    _panel(left, means, looks, f"Geometric means of the ratios to {base}")
    _panel(right, cases, looks, f"Each case: median ratio to {base} in the same round, with quartiles")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncol=len(names), frameon=False)
    machine = document["machine"]
    figure.text(0.5, 0.005, f"{machine.get('cpu', '')}, {machine.get('cores')} cores, {machine.get('system', '')}, "
                f"{machine.get('date')}; time below 1 is faster, memory below 1 is less", ha="center")
    figure.tight_layout(rect=(0, 0.02, 1, 0.97))
    stem = os.path.splitext(path)[0]
    figure.savefig(stem + ".svg", metadata={"Date": None})
    figure.savefig(stem + ".png", dpi=110)
    pyplot.close(figure)
    return stem + ".svg", stem + ".png"


def _looks(names):
    """(colour, mark) of each; ours have always the same."""
    others = itertools.cycle(OTHERS)
    return [OURS.get(name) or next(others) for name in names]


def _mean_rows(document, names):
    """[(label, {allocator: (ratio, low, high)})]"""
    keys = list(dict.fromkeys(k for n in names for k in document["geomeans"].get(n, {})))
    return [(key.replace("rss", "peak memory"),
             {n: (m["ratio"], *m["quartiles"]) for n in names if (m := document["geomeans"].get(n, {}).get(key))})
            for key in keys]


def _case_rows(document, names):
    rows = []
    for case in document["cases"]:
        points = {n: (r["ratio"], *r["ratio_quartiles"]) for n in names
                  if (r := case["results"].get(n)) and r.get("ratio") is not None}
        rows.append((case["name"], points))
    return rows


def _panel(axes, rows, looks, title):
    axes.set_title(title, fontsize=9)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    for number in range(0, len(rows), 2):
        axes.axhspan(number - 0.5, number + 0.5, color="#f4f4f4", zorder=0)
    for position, (name, (colour, mark)) in enumerate(looks.items()):
        offset = (position - (len(looks) - 1) / 2) * (0.8 / max(len(looks), 7))
        points = [(i + offset, *row[name]) for i, (_, row) in enumerate(rows) if name in row]
        if not points:
            axes.plot([], [], mark, color=colour, label=name)
            continue
        y, x, low, high = zip(*[(at, *(min(max(v, EDGES[0]), EDGES[1]) for v in values)) for at, *values in points])
        axes.hlines(y, low, high, color=colour, linewidth=0.8)
        axes.plot(x, y, mark, color=colour, label=name, markersize=3.5)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(EDGES[0] / 1.15, EDGES[1] * 1.15)
    axes.set_xlabel(f"ratio (log scale; below {EDGES[0]:g} and above {EDGES[1]:g} at the edge)")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(axis="x", which="major", linewidth=0.4)
