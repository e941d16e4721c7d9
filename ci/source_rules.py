#!/usr/bin/env python3
"""Checks what clang-format cannot: the include graph, the opening comments, the file sizes.

Called by ci/lint.sh. Usage: ci/source_rules.py [ROOT]     (default: this repository)
Prints one line for each broken rule, as file:line: message, and exits 1 if there is any.
"""

import ast
import itertools
import re
import subprocess
import sys
from pathlib import Path

# Each layer and the layers it may include (itself always). The longest matching prefix counts.
LAYERS = {
    "dsm-core/base": [],
    "dsm-core/pool": ["dsm-core/base"],
    "dsm-core/heap": ["dsm-core/base", "dsm-core/pool"],
    "dsm-core/era": ["dsm-core/base", "dsm-core/pool"],
    "dsm-core": [],
    "aep-lib": ["dsm-core", "kernel/uapi"],
    "aep-lib/completer": ["dsm-core", "aep-lib", "shim"],
    "include": [],
    "shim": ["dsm-core", "aep-lib"],
    "preload": ["dsm-core", "shim", "include"],
    "node": ["dsm-core", "aep-lib", "shim"],
    "tools": ["dsm-core", "aep-lib", "shim", "node", "include"],
    "bench": ["dsm-core", "shim", "node", "include"],
    "bench/flat": ["dsm-core"],
    "examples": [],
    "kernel": [],
    "kernel/uapi": [],
    "tests": ["dsm-core", "aep-lib", "shim", "preload", "node", "tools", "include", "bench/flat"],
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
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
COMMENT_LINE = re.compile(r"(//|#(?!\s*(include|pragma|define|if|ifdef|ifndef)\b)|--)")


def layer_of(path):
    fitting = [layer for layer in LAYERS if path == layer or path.startswith(layer + "/")]
    return max(fitting, key=len, default=None)


def may_include(user, used):
    return any(used == ok or used.startswith(ok + "/") for ok in [user, *LAYERS[user]])


def include_faults(root, path, lines):
    user = layer_of(path)
    if user is None:
        yield 1, "a source outside the known layers (add its folder to LAYERS)"
        return
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quoted, name = match.group(1) == '"', match.group(2)
        used = layer_of(name)
        if quoted and not (root / name).is_file():
            yield number, f'"{name}" is no path from the repository root'
        elif used is not None and not may_include(user, used):
            yield number, f"{user} must not use {used} ({name})"
        elif not quoted and user.startswith("dsm-core") and name not in FREESTANDING:
            yield number, f"dsm-core must not use <{name}>: it is built freestanding too"


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


def faults(root, path):
    lines = (root / path).read_text(encoding="utf-8").splitlines()
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
    sources = [name for name in listed if SOURCE.search(name) and (root / name).is_file()]
    found = [f"{name}:{number}: {text}" for name in sources for number, text in faults(root, name)]
    print("\n".join([*found, f"source rules: {len(sources)} files, {len(found)} faults"]))
    return 1 if found or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
