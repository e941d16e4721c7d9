#!/usr/bin/env python3
"""Checks what clang-format cannot: the include graph (who may use whom, no cycles), the opening comments, file sizes.

Called by ci/lint.sh. Usage: ci/source_rules.py [ROOT]     (default: this repository)
Prints one line for each broken rule, as file:line: message, and exits 1 if there is any.
"""

import ast
import itertools
import re
import subprocess
import sys
from pathlib import Path

# Each folder and the folders it may include besides itself, lowest first: none of a later line. A folder that ends
# in /* stands for it and all below it, which are one layer.
BASE = ["dsm-core/base"]
HEAP = [*BASE, "dsm-core/pool", "dsm-core/era", "dsm-core/heap"]
CORE = [*HEAP, "dsm-core/op", "dsm-core/context", "dsm-core/sharing"]
IMAGE = ["aep-lib/image"]
PROVIDER = [*IMAGE, "aep-lib/provider"]
JOINED = ["shim/sys", "shim/backing", "shim/context"]
CLIENT = ["shim/watch", *JOINED, "shim/driver", "shim/sharing"]
FOLDERS = {
    "include/*": [],
    "apps/*": ["include/*"],
    "kernel/*": [],
    "dsm-core/base": [],
    "dsm-core/pool": BASE,
    "dsm-core/era": [*BASE, "dsm-core/pool"],
    "dsm-core/heap": BASE,
    "dsm-core/op": [*BASE, "dsm-core/heap"],
    "dsm-core/context": [*BASE, "dsm-core/pool", "dsm-core/heap", "dsm-core/op"],
    "dsm-core/sharing": [*HEAP, "dsm-core/op", "dsm-core/context"],
    "dsm-core": CORE,
    "aep-lib/image": [*CORE, "dsm-core"],
    "aep-lib/provider": [*BASE, *IMAGE, "kernel/*"],
    "shim/sys": BASE,
    "shim/stay_private": [],
    "shim/watch": [*BASE, "shim/sys"],
    "shim/backing": [*HEAP, "shim/sys"],
    "shim/context": [*CORE, *IMAGE, "shim/sys", "shim/backing"],
    "shim/driver": [*BASE, "dsm-core/heap", "dsm-core/op", "shim/watch", *JOINED],
    "shim/sharing": [*CORE, *JOINED, "shim/driver"],
    "preload": [*BASE, "dsm-core/heap", *CLIENT, "include/*"],
    "node": [*CORE, "dsm-core", *JOINED],
    "aep-lib/completer": [*BASE, "dsm-core/pool", *PROVIDER, "shim/sys", "shim/context"],
    "tools/cli": [*BASE, *PROVIDER, "dsm-core/era", "shim/sys", "shim/watch", "shim/context", "node"],
    "tools/gdb": [*CORE, "shim/watch"],
    "tools/corosync": BASE,
    "tools/daemon": [*CORE, *PROVIDER, "tools/corosync", "aep-lib/completer", "shim/sys", "shim/context", "node"],
    "tools/torture": [*CORE, "include/*"],
    "bench/flat/*": CORE,
    "bench/lightning/*": ["apps/*"],
    "bench/*": [*CORE, *CLIENT, "node", "include/*", "apps/*", "bench/flat/*", "bench/lightning/*"],
    "examples/*": ["include/*"],
    "tests/*": [*CORE, "dsm-core", *PROVIDER, "aep-lib/completer", *CLIENT, "preload", "node", "include/*",
                "tools/cli", "tools/daemon", "tools/torture", "bench/flat/*", "bench/lightning/*"],
}
# dsm-core also becomes the freestanding image: nothing but headers that need no libc behind them.
FREESTANDING = set(
    "array atomic bit climits compare concepts cstddef cstdint cstring initializer_list limits new"
    " numeric optional span string.h stddef.h stdint.h tuple type_traits utility version".split()
)
FREESTANDING |= {"algorithm", "immintrin.h", "x86intrin.h"}
# Sources of the library itself say what a kill at any instruction leaves.
CRASH_RULE = ("dsm-core/", "aep-lib/", "shim/", "preload/")
MAX_LINES = 500
SOURCE = re.compile(r"\.(c|h|cpp|hpp|cc|hh|py|sh|lua|pl|S)$|(^|/)(CMakeLists\.txt|aep|run)$")
CODE = re.compile(r"\.(c|h|cpp|hpp|cc|hh|S)$")
UNIT = re.compile(r"\.(c|h|cpp|hpp|cc|hh)$")
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
COMMENT_LINE = re.compile(r"(//|#(?!\s*(include|pragma|define|if|ifdef|ifndef)\b)|--)")


def layer_of(path):
    """The line of FOLDERS that a source, or what an #include names, belongs to; None: to none."""
    folder = path.rpartition("/")[0]
    if folder in FOLDERS:
        return folder
    parts = folder.split("/")
    whole = ("/".join(parts[:length]) + "/*" for length in range(len(parts), 0, -1))
    return next((layer for layer in whole if layer in FOLDERS), None)


def table_faults():
    """What the table itself says of the order: an arrow to a later line would be one upwards."""
    order = list(FOLDERS)
    for folder, used in FOLDERS.items():
        for one in used:
            if one not in order or order.index(one) >= order.index(folder):
                yield f"FOLDERS: {folder} may not be allowed {one}: it is not above it in the table"


def includes(lines):
    """(line number, whether it is quoted, name) of each #include."""
    for number, line in enumerate(lines, 1):
        if match := INCLUDE.match(line):
            yield number, match.group(1) == '"', match.group(2)


def include_faults(root, path, lines):
    user = layer_of(path)
    if user is None:
        yield 1, "a source outside the known folders (add its folder to FOLDERS)"
        return
    for number, quoted, name in includes(lines):
        used = layer_of(name)
        if quoted and not (root / name).is_file():
            yield number, f'"{name}" is no path from the repository root'
        elif used is not None and used != user and used not in FOLDERS[user]:
            yield number, f"{user} must not use {used} ({name})"
        elif not quoted and user.startswith("dsm-core") and name not in FREESTANDING:
            yield number, f"dsm-core must not use <{name}>: it is built freestanding too"


def cycles(graph):
    """The sets of nodes that reach each other, as sorted lists (Tarjan's algorithm)."""
    number, low, path, found = {}, {}, [], []

    def visit(node):
        number[node] = low[node] = len(number)
        path.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in number:
                visit(other)
            if other in path:
                low[node] = min(low[node], low[other])
        if low[node] == number[node]:
            members = [path.pop()]
            while members[-1] != node:
                members.append(path.pop())
            if len(members) > 1:
                found.append(sorted(members))

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return found


def cycle_faults(sources):
    """No two files may need each other, nor two folders. A unit, a header and the source of the same name, is one."""
    units, folders, first = {}, {}, {}
    for path, lines in sources.items():
        unit = UNIT.sub("", path)
        for number, quoted, name in includes(lines):
            used = UNIT.sub("", name)
            if not quoted or name not in sources or used == unit:
                continue
            units.setdefault(unit, set()).add(used)
            first.setdefault((unit, used), (path, number))
            here, there = unit.rpartition("/")[0], used.rpartition("/")[0]
            if here != there:
                folders.setdefault(here, set()).add(there)
                first.setdefault((here, there), (path, number))
    for kind, graph in (("files", units), ("folders", folders)):
        for members in cycles(graph):
            edge = next(edge for edge in sorted(first) if edge[0] in members and edge[1] in members)
            path, number = first[edge]
            yield f"{path}:{number}: a cycle of {kind}: {', '.join(members)}"


def opening_comment(path, lines):
    if path.endswith(".py"):
        return ast.get_docstring(ast.parse("\n".join(lines))) or ""
    body = lines[1:] if lines and lines[0].startswith("#!") else lines
    text = "\n".join(body).lstrip()
    if text.startswith("/*"):
        return text.partition("*/")[0]
    return "\n".join(itertools.takewhile(COMMENT_LINE.match, text.splitlines()))


def opening_faults(path, lines):
    """The purpose is the first thing in a file; the library's files add their crash rule."""
    opening = opening_comment(path, lines)
    if len(opening) < 20:
        yield 1, "the file does not open with a comment that says its purpose"
    elif path.startswith(CRASH_RULE) and CODE.search(path) and "crash" not in opening.lower():
        yield 1, 'the opening comment does not say the "Crash rule:"'


def faults(root, path, lines):
    if len(lines) > MAX_LINES:
        yield len(lines), f"more than {MAX_LINES} lines"
    yield from opening_faults(path, lines)
    if CODE.search(path):
        yield from include_faults(root, path, lines)


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    listed = subprocess.run(
        ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True, capture_output=True, text=True).stdout.split("\0")
    sources = {name: (root / name).read_text(encoding="utf-8").splitlines()
               for name in listed if SOURCE.search(name) and (root / name).is_file()}
    found = [f"{name}:{number}: {text}" for name, lines in sources.items()
             for number, text in faults(root, name, lines)]
    found += [*table_faults(), *cycle_faults({name: sources[name] for name in sources if CODE.search(name)})]
    print("\n".join([*found, f"source rules: {len(sources)} files, {len(found)} faults"]))
    return 1 if found or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
