"""Writes the results of one run into docs/benchmarks.md, between its markers.

Used by run.py --docs on the document that report.py, or the instruction count, made. So every number in the
docs comes from a file that a run wrote. The headline of each kind of machine is kept beside the page, in a JSON file
of the page's name, so that a run on one kind leaves the other's rows.
"""

import os

from . import headline, report
from .allocators import OURS


def fill(document, path):
    """The parts that the document has."""
    of_it = parts(document)
    if "headline" in document:
        of_it["headline"] = _headline(headline.merge(document, os.path.splitext(path)[0] + ".json"))
    fill_parts(of_it, path)


def fill_parts(parts, path):
    """Replaces what stands between `<!-- NAME -->` and `<!-- end of NAME -->` with the lines of each part."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for name, lines in parts.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"bench: {path} has no place for {name}: {start} ... {end}")
        text = before + "\n".join([start, *lines, end]) + after
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def parts(document):
    """{place in the page: its lines}, but for the headline, which is more than this document's."""
    found = {}
    if "cases" in document:
        found = {"machine": _machine(document), "targets": _targets(document), "means": _means(document),
                 "behind": _behind(document), "cases": _cases(document)}
    if "instructions" in document:
        found["instructions"] = _instructions(document["instructions"])
    return found


def row(cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def head(cells):
    return [row(cells), "|---" * len(cells) + "|"]


def _machine(document):
    machine, settings = document["machine"], document["settings"]
    versions = ", ".join(f"{n} {a['version']}" for n, a in document["allocators"].items() if a["version"])
    mode = "quick run" if settings["quick"] else "full run"
    rounds = [r["rounds"] for case in document["cases"] for r in case["results"].values() if "rounds" in r]
    if rounds:
        mode += f", {min(rounds)} {'round' if min(rounds) == 1 else 'rounds'} at least"
    return [f"{machine.get('cpu')}, {machine['cores']} cores, {machine.get('memory_gib')} GiB, {machine.get('system')}, "
            f"Linux {machine['kernel']}, {machine['libc']}, transparent huge pages: {machine['transparent_hugepage']}. "
            f"{versions + '. ' if versions else ''}Pool: {settings['pool']}. {machine['date']}, revision {settings['revision']}, {mode}."]


def _headline(entries):
    rows = [row([vendor, r["set"], r["best"], *(f"{r['ratios'][n]:.3f}" if n in r["ratios"] else "-" for n in OURS),
                 entry["machine"]["date"]])
            for vendor, entry in sorted(entries.items()) for r in entry["headline"]]
    return [*head(["CPU", "set", "best of all others", *OURS, "measured"]), *rows]


def _behind(document):
    rows = [row([f"`{case}`", *(f"{own[n]:.2f}" if n in own else "-" for n in OURS), f"{best} {ratio:.2f}"])
            for case, own, best, ratio in headline.behind(document)]
    return [f"Cases in which one of ours takes more than {headline.BEHIND:.2f} of {document['baseline']}:", "",
            *head(["case", *OURS, "the best there"]), *rows]


def _targets(document):
    rows = [row([r["name"], f"{r['value']:.3f}", f"{r['limit']:.2f}", "met" if r["met"] else "**missed**",
                  r.get("where", "")]) for r in document["targets"]]
    return [*head(["target", "measured", "at most", "", "where"]), *rows]


def _present(document):
    return [n for n, a in document["allocators"].items() if a["available"] and n != document["baseline"]]


def _means(document):
    names = _present(document)
    means = [document["geomeans"][n] for n in names]
    keys = list(dict.fromkeys(key for mean in means for key in mean))
    rows = [row([key.replace("rss", "peak memory"), *(report.mean_cell(mean.get(key)) for mean in means)]) for key in keys]
    return [*head(["set", *names]), *rows]


def _cases(document):
    names = _present(document)
    rows = [row([c["name"], report.absolute_cell(c, document["baseline"]), *(report.ratio_cell(c, n) for n in names)])
            for c in document["cases"]]
    return [*head(["case", document["baseline"], *names]), *rows]


def _instructions(counts):
    measured = {name: figures for name, figures in counts.items() if "failed" not in figures}
    what = list(dict.fromkeys(key for figures in measured.values() for key in figures))
    rows = [row([name, *(f"{figures[key]:.1f}" for key in what)]) for name, figures in measured.items()]
    rows += [row([name, f"not counted: {figures['failed']}", *[""] * (len(what) - 1)])
             for name, figures in counts.items() if name not in measured]
    return [*head(["", *what]), *rows]
