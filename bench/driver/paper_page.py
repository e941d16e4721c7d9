"""The page of the paper's figures: for each a table with the paper's number, and a plot.

Used by ../paper.py on the document that it makes or reads.
"""

import os

from . import markdown, paper_figures

NAMES = {"aep": "ours", "flat": "flat *published*", "flat, durable": "flat *durable*", "lightning": "Lightning's rule", "local": "no fault tolerance",
         "unix": "Unix socket", "tcp": "TCP", "zeromq": "ZeroMQ", "boost": "Boost message_queue", "redis": "redis"}
LOOKS = (("#d55e00", "o"), ("#0072b2", "s"), ("#56b4e9", "D"), ("#009e73", "v"), ("#888888", "^"), ("#000000", "x"), ("#cc79a7", "P"), ("#e69f00", "*"))

BASELINES = """Flat: each client a node, with the flushes and fences of CXL-SHM's published code (*durable*: with those that losing unflushed lines
really needs). Lightning's rule: one lock, an undo log with a fence for each word; its published code merges free blocks besides. Both are baselines
of our own: programs of this repository, not the systems. No fault tolerance: plain shared memory. *met* and *missed* compare how many times
better than flat *published* ours is with how many times better than CXL-SHM the paper's is; where the paper has no number there is none."""


def short(value):
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def sides_of(rows):
    """In the order of NAMES, others after."""
    met = dict.fromkeys(side for row in rows for side in row.get("sides", {}))
    return [*(side for side in NAMES if side in met), *(side for side in met if side not in NAMES)]


def table(rows):
    """The lines of a figure's table."""
    sides = sides_of(rows)
    baselines = list(dict.fromkeys(one for row in rows for one in row.get("times", {})))
    judged = any(row["paper"] is not None for row in rows)
    heads = ["", *(NAMES.get(side, side) for side in sides), *(f"times better than {NAMES.get(one, one)}" for one in baselines)]
    lines = markdown.head([*heads, *(["the paper's ratio"] if judged else [])])
    for row in rows:
        if "failed" in row:
            lines.append(markdown.row([row["what"], f"failed: {row['failed']}", *[""] * (len(heads) - 2), *([""] if judged else [])]))
            continue
        cells = [row["what"], *(f"{short(row['sides'][side])} {row['unit']}" if side in row["sides"] else "" for side in sides)]
        cells += [f"{row['times'][one]:.2f}" if one in row["times"] else "" for one in baselines]
        if judged:
            cells.append("" if row["paper"] is None else f"{row['paper']:.2f}: " + ("*met*" if row.get("met") else "**missed**"))
        lines.append(markdown.row(cells))
    return lines


def of_figure(document, figure):
    return [row for row in document["rows"] if row["figure"] == figure.name]


def survivors_text(document):
    from .dsm_report import survivor_lines
    return [f"* {line}" for line in survivor_lines(document.get("survivors"))]


def text(document):
    """For people at a terminal."""
    lines = []
    for figure in paper_figures.FIGURES:
        if rows := of_figure(document, figure):
            lines += ["", f"{figure.name}: {figure.title}", *table(rows)]
            lines += survivors_text(document) if figure.name == "Figure 13" else []
    return "\n".join(lines)


def write(document, path):
    """The page, and its plots into the folder `path` without its suffix."""
    folder = os.path.splitext(path)[0]
    os.makedirs(folder, exist_ok=True)
    machine = document["machine"]
    told = [row for row in document["rows"] if row["paper"] is not None and "met" in row]
    kept = sum(row["met"] for row in told)
    parts = ["# The paper's figures", f"Written by `./aep bench --paper{' --quick' if document['quick'] else ''} --docs docs/paper.md`: medians of "
             f"{document['rounds']} rounds. {machine.get('cpu')}, {machine['cores']} cores, {machine.get('memory_gib')} GiB, {machine.get('system')}, "
             f"Linux {machine['kernel']}. {machine['date']}, revision {document['revision']}, load {machine.get('load_at_end')} at the end.",
             f"Of {len(told)} ratios that the paper states {kept} are met.", BASELINES]
    if document["missing"]:
        parts.append(f"Not measured: two contexts on two nodes: {document['missing']}.")
    for figure in paper_figures.FIGURES:
        rows = of_figure(document, figure)
        if not rows:
            continue
        parts += [f"## {figure.name}: {figure.title}", f"The paper: {figure.found}." + (f" {figure.note}" if figure.note else "")]
        parts.append("\n".join(table(rows)))
        if figure.name == "Figure 13":
            parts.append("\n".join(survivors_text(document)))
        if draw([row for row in rows if "failed" not in row], os.path.join(folder, figure.stem + ".svg"), figure):
            parts.append(f"![{figure.name}]({os.path.basename(folder)}/{figure.stem}.svg)")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n\n".join(parts) + "\n")


def draw(rows, path, figure):
    """Each row's sides on one line of a logarithmic axis. False: there is nothing to draw."""
    import matplotlib
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "aep-bench", "font.size": 8})
    from matplotlib import pyplot
    units = list(dict.fromkeys(row["unit"] for row in rows))
    if not rows:
        return False
    drawn, axes = pyplot.subplots(1, len(units), figsize=(9, 1.4 + 0.22 * len(rows)), squeeze=False)
    sides = sides_of(rows)
    for panel, unit in zip(axes[0], units):
        own = [row for row in rows if row["unit"] == unit]
        for number, side in enumerate(sides):
            colour, mark = LOOKS[number % len(LOOKS)]
            points = [(row["sides"][side], i) for i, row in enumerate(own) if row["sides"].get(side, 0) > 0]
            panel.plot([x for x, _ in points], [y for _, y in points], mark, color=colour, markersize=4, label=NAMES.get(side, side).replace("*", ""))
        panel.set_xscale("log")
        panel.set_yticks(range(len(own)), [row["what"] for row in own])
        panel.set_ylim(len(own) - 0.5, -0.5)
        panel.set_xlabel(f"{unit} ({'more' if own[0].get('more') else 'less'} is better)" if figure.name != "Table 3" else unit)
        panel.grid(axis="x", which="major", linewidth=0.4)
    handles, labels = axes[0][0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="upper center", ncol=len(labels), frameon=False)
    drawn.tight_layout(rect=(0, 0, 1, 0.93))
    drawn.savefig(path, metadata={"Date": None})
    pyplot.close(drawn)
    return True
