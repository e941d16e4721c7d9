"""Writes a small git repository with a history that is the same every time.

Used by workloads.py: 60 files, 300 commits of 5 changed files each.
"""

import os
import subprocess

FILES, COMMITS, CHANGES, LINES = 60, 300, 5, 120


def write_history(folder):
    env = {"PATH": "/usr/bin:/bin", "HOME": folder, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    subprocess.run(["git", "init", "-q", "-b", "main", folder], env=env, check=True)
    subprocess.run(["git", "-C", folder, "fast-import", "--quiet"], env=env, check=True, input=_stream())


def _stream():
    contents = [[f"file {f} line {n}: {_number(f * LINES + n) % 997}\n" for n in range(LINES)] for f in range(FILES)]
    parts = []
    for commit in range(COMMITS):
        message = f"Commit {commit}\n".encode()
        parts.append(b"commit refs/heads/main\ncommitter A Writer <writer@example.org> %d +0000\ndata %d\n%s"
                     % (1_700_000_000 + 3600 * commit, len(message), message))
        changed = range(FILES) if commit == 0 else [_number(commit * 100 + c) % FILES for c in range(CHANGES)]
        for number in changed:
            lines = contents[number]
            lines[_number(commit * 7 + number) % len(lines)] = f"changed in {commit}: {_number(commit)}\n"
            data = "".join(lines).encode()
            parts.append(b"M 100644 inline dir%d/file%d.txt\ndata %d\n%s\n" % (number % 7, number, len(data), data))
    return b"".join(parts)


def _number(seed):
    return (seed * 6364136223846793005 + 1442695040888963407 >> 20) & 0xFFFFFF
