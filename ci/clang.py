#!/usr/bin/env python3
"""What clang sees in the product's sources: its thread-safety analysis and the checks of .clang-tidy.

Called by ci/lint.sh. Usage: ci/clang.py [FILE...]     (default: every source of the product)
Takes the commands of the release build, which must be configured, with the headers that it makes. A source that was
clean is looked at again when it, a header of it, its command or a check has changed (build/clang/clean). Prints what is
wrong and exits 1. A first run takes some minutes on two processors, later ones some seconds.
"""

import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELEASE = ROOT / "build" / "release"
PLACE = ROOT / "build" / "clang"
PRODUCT = ("dsm-core", "shim", "preload", "aep-lib", "node", "tools")
# What clang does not know, or what changes nothing of the analysis.
DROPPED = re.compile(r"-(W|flto|mmemset|mmemcpy|mgeneral|ffile-prefix|fno-sanitize|fsanitize|g)")
OUR_WARNINGS = ["-Wthread-safety", "-Wthread-safety-reference", "-Wno-unknown-attributes"]


def command_of(entry):
    """The compiler's arguments as clang takes them."""
    words = shlex.split(entry["command"])
    first = next(i for i, word in enumerate(words) if word.endswith(("c++", "g++", "cc", "gcc")))
    kept = [word for word in words[first + 1:] if not DROPPED.match(word)]
    del kept[kept.index("-o"):kept.index("-o") + 2]
    return ["clang++", *OUR_WARNINGS, *kept]


def product_sources():
    """Each C++ source of the product with the command by which it is built in its own folder, or in the image alone."""
    chosen = {}
    for entry in json.loads((RELEASE / "compile_commands.json").read_text()):
        path = Path(entry["file"]).relative_to(ROOT)
        output = re.search(r" -o (\S+)", entry["command"])[1]
        if path.parts[0] not in PRODUCT or path.suffix != ".cpp" or not output.startswith(PRODUCT):
            continue
        if str(path) not in chosen or "aep_image.dir" not in output:
            chosen[str(path)] = {"directory": entry["directory"], "file": entry["file"],
                                 "arguments": command_of(entry)}
    return chosen


def key_of(entry):
    """Changes with whatever the answer depends on."""
    arguments = [word for word in entry["arguments"] if word != "-c"]
    text = subprocess.run([*arguments, "-E"], cwd=entry["directory"], capture_output=True, check=False).stdout
    config = (ROOT / ".clang-tidy").read_bytes()
    return hashlib.sha256(b"\0".join([text, config, " ".join(arguments).encode()])).hexdigest()


def check(path, entry):
    """What is said of it; empty: nothing."""
    stamp = PLACE / "clean" / key_of(entry)
    if stamp.exists():
        return ""
    run = subprocess.run(["clang-tidy", "--quiet", "-p", str(PLACE), entry["file"]], cwd=ROOT, capture_output=True,
                         text=True, check=False)
    if run.returncode == 0 and not run.stdout.strip():
        stamp.touch()
        return ""
    return run.stdout.replace(f"{ROOT}/", "").strip() or f"{path}: clang-tidy failed: {run.stderr.strip()}"


def main():
    sources = product_sources()
    wanted = [str(Path(name).resolve().relative_to(ROOT)) for name in sys.argv[1:]] or sorted(sources)
    if unknown := [path for path in wanted if path not in sources]:
        sys.exit(f"ci/clang.py: the release build does not build {', '.join(unknown)} for the product")
    (PLACE / "clean").mkdir(parents=True, exist_ok=True)
    (PLACE / "compile_commands.json").write_text(json.dumps(list(sources.values())))
    failed = False
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for said in pool.map(lambda path: check(path, sources[path]), wanted):
            if said:
                print(said, flush=True)
                failed = True
    return failed


if __name__ == "__main__":
    sys.exit(main())
