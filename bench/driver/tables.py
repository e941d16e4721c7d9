"""The command line, and where what was measured goes, of a program whose tables stand in a page of docs/.

Used by ../growth.py and ../wake.py. Crash rule: none needed.
"""

import argparse
import os

from . import context, markdown, report

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def parser(doc, rounds):
    """Of a program with that docstring, which takes so many rounds of each row if nothing else is said."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--build", default=os.path.join(ROOT, "build", "release"), metavar="DIR", help="(default: build/release)")
    made.add_argument("--rounds", type=int, default=rounds, help=f"of each row (default {rounds})")
    made.add_argument("--json", metavar="FILE", help="write all that was measured there")
    made.add_argument("--docs", metavar="FILE", help="write the tables into this page, between their markers")
    return made


def tell(arguments, measure, tables):
    """Measures, prints the tables ({marker: document -> lines}), and writes what was asked for. Returns the document."""
    try:
        document = {"machine": report.machine(), "revision": report.revision(ROOT), "rounds": arguments.rounds, **measure(arguments)}
    except context.DaemonFailed as why:
        raise SystemExit(f"bench: {why}") from None
    parts = {mark: list(table(document)) for mark, table in tables.items()}
    print("\n\n".join("\n".join(lines) for lines in parts.values()))
    if arguments.json:
        report.write(document, arguments.json)
    if arguments.docs:
        markdown.fill_parts(parts, arguments.docs)
    return document
