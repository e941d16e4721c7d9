#!/usr/bin/env python3
"""The page of settings as a man page: aep-environment(7) out of docs/reference/environment.md, which is the one source.

Usage: settings.py PAGE     (the man page is written to standard output)
Called by packaging/CMakeLists.txt.
"""

import re
import sys


def roff(text):
    """Its words: `code` is bold, links are their texts."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text.replace("\\", "\\e"))
    text = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", text).replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        parts = file.read().split("\n\n")
    print('.TH AEP-ENVIRONMENT 7 "" "AEP-DSM" "Settings"\n.SH NAME\naep\\-environment \\- variables that the library and its tools read')
    print(".SH DESCRIPTION")
    for part in parts[1:]:
        lines = part.strip().split("\n")
        if not lines[0].startswith("|"):
            print(".PP\n" + "\n".join(roff(line) for line in lines))
            continue
        for line in lines[2:]:
            name, value, default, meaning = (cell.strip() for cell in line.strip("|").split("|"))
            print(f".TP\n.B {roff(name.strip('`'))}\n{roff(value)}; default: {roff(default)}.\n.br\n{roff(meaning)}.")
    print(".SH SEE ALSO\n.BR aep (1),\n.BR aepd (8),\n.BR aep\\-dsm (3)")


if __name__ == "__main__":
    main()
