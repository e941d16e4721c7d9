#!/usr/bin/env python3
"""What the README and the guides tell people to type is typed, word for word, in a fresh copy of the sources; links lead somewhere.

Usage: ci/documents.py [PAGE...]     (default: README.md, docs/quickstart.md, docs/guide/*.md)
Called by documents.sh. A page's ```sh blocks run in order, in one shell, which ends at the first command that fails: that line
of the page is named. What a page leaves running must end by itself. A block that cannot run here says why in its first line,
`# not run by CI: WHY`, where readers see it, too; such blocks are counted and named. A command of ours in another block is a fault:
nobody would notice when it does not work any more.

As root each page has its own processes, /dev/shm, /run and /tmp, which end with it: contexts of the same names are not touched.
"""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FENCE = re.compile(r"^ {0,3}```\s*(\S*)")
NOT_RUN = re.compile(r"^# not run by CI: (.+)$")
OURS = re.compile(r"^\s*(?:\./aep|aepd?|ci/\w+\.sh)\s")
SECONDS = 600  # for a page; nothing in it takes a tenth of that but building
AROUND = """
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    mount -t tmpfs tmpfs /run
    if [ -d /sys/fs/bpf ]; then mount -t bpf bpf /sys/fs/bpf || true; fi # pins, too, end with the page
    exec "$@" """


def read(page):
    with open(os.path.join(ROOT, page), encoding="utf-8") as text:
        return text.read().split("\n")


def script_of(page):
    """The page as a script whose lines have the page's numbers; (line, why) of blocks that are not run; faults."""
    script, left_out, faults = ["set -eE; trap 'echo \"FAILED: $page:$LINENO: $BASH_COMMAND\" >&2' ERR # "], [], []
    kind, runs = None, False
    for number, line in enumerate(read(page), 1):
        fence, text = FENCE.match(line), ":"
        if fence and kind is None:
            kind, runs = fence[1] or "text", False
            first = number + 1
        elif fence:
            kind = None
        elif kind == "sh":
            why = NOT_RUN.match(line) if number == first else None
            if number == first:
                runs = why is None
            if why:
                left_out.append((number, why[1]))
            text = line if runs else ":"
        elif OURS.match(line) and (kind is not None or line.startswith("    ")):
            faults.append(f"{page}:{number}: a command outside a ```sh block is not tried: {line.strip()}")
        # Within what goes on over several lines nothing may come between.
        script.append(text if kind == "sh" or text != ":" else "")
    if kind is not None:
        faults.append(f"{page}: a block that does not end")
    # The first line of a page is its title, and the script's preparations.
    script[0:2] = [script[0] + script[1]]
    script.append("for job in $(jobs -p); do wait $job || { echo \"FAILED: $page: job $job: status $?\" >&2; exit 1; }; done")
    return "\n".join(script) + "\n", left_out, faults


def copy_sources(place):
    """What is in the repository, or would be."""
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True,
                           check=True).stdout.split(b"\0")
    for name in filter(None, names):
        source, target = os.path.join(os.fsencode(ROOT), name), os.path.join(os.fsencode(place), name)
        if os.path.lexists(source):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def run(page, script, place):
    """Whether all of it went well. Its output is shown if not."""
    # An ordinary shell's surroundings; tests/world.sh has none, and gives no context.
    env = {k: v for k, v in os.environ.items() if not k.startswith("AEP_") and k not in ("LD_PRELOAD", "XDG_RUNTIME_DIR")}
    env["page"] = page
    words = ["bash", "--norc", "-c", script]
    if os.geteuid() == 0:
        words = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc", "bash", "-ec", AROUND, "-", *words]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        try:
            done = subprocess.run(words, cwd=place, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                  timeout=SECONDS, check=False)
            good, why = done.returncode == 0, f"status {done.returncode}"
        except subprocess.TimeoutExpired:
            good, why = False, f"it has not ended after {SECONDS} s"
        if not good:
            output.seek(0)
            print("".join(output.readlines()[-60:]), end="")
            print(f"documents: {page}: {why}")
    return good


def main():
    os.chdir(ROOT)
    pages = sys.argv[1:] or ["README.md", "docs/quickstart.md", *sorted(glob.glob("docs/guide/*.md"))]
    failed = 0
    left_out = []
    with tempfile.TemporaryDirectory(prefix="aep-documents-") as place:
        copy_sources(place)
        for page in pages:
            script, not_run, faults = script_of(page)
            left_out += [(page, *each) for each in not_run]
            print("".join(f"{fault}\n" for fault in faults), end="")
            good = not faults
            good = run(page, script, place) and good
            failed += not good
            print(f"documents: {page}: {'good' if good else 'FAILED'}", flush=True)
    print(f"documents: {len(pages)} pages; failed: {failed}; blocks that are not run: {len(left_out)}")
    for page, line, why in left_out:
        print(f"documents: not run: {page}:{line}: {why}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
