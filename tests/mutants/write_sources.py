#!/usr/bin/env python3
"""Writes a copy of the sources in which each place of the list is what it was, or a mutant, by a switch.

Usage: tests/mutants/write_sources.py FOLDER; only files that differ are written, so that a build goes on.
Called by ci/mutants.sh. The product's own sources hold no trace of mutants.
"""

import subprocess
import sys
from pathlib import Path

from mutant_list import ROOT, Wrong, mutants, places


def switched(source, of_places):
    """The source with all mutants in it, switched off unless the switch has their number."""
    for (begin, end), here in sorted(of_places.items(), reverse=True):
        text = source[begin:end]
        for mutant in here:
            number = f"aep_mutant({mutant.number}u)"
            if mutant.is_statement:
                text = f"if ({number}) {{ {mutant.becomes} }} else {{ {text} }}"
            else:
                text = f"({number} ? ({mutant.becomes}) : ({text}))"
        if here[0].is_statement:
            text = f"{{ {text} }}"
        source = source[:begin] + text + source[end:]
    return f'#include "tests/mutants/switch.h"\n#line 1\n{source}'


def write(path, content):
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def main():
    folder = Path(sys.argv[1])
    try:
        files, wrong = places(mutants())
    except Wrong as error:
        wrong = [str(error)]
    if wrong:
        print("\n".join(wrong))
        return 1
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            check=True, capture_output=True, text=True).stdout
    names = {name for name in listed.split("\0") if (ROOT / name).is_file()}
    for name in names:
        content = (ROOT / name).read_bytes()
        if name in files:
            content = switched(content.decode(), files[name]).encode()
        write(folder / name, content)
        (folder / name).chmod((ROOT / name).stat().st_mode & 0o777)
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in names:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
