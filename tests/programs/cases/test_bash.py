"""bash: pipelines, subshells, process substitution, here-documents, jobs and hundreds of forks"""

import hashlib

NEEDS = {"/usr/bin/bash": "bash", "/usr/bin/seq": "coreutils", "/usr/bin/sha256sum": "coreutils"}
SCRIPT = "work.bash"
FORKS = 400


def expected():
    words = [f"key{i * 7919 % 1000}" for i in range(1, 2001)]
    table = {}
    for i, word in enumerate(words, 1):
        table[word] = table.get(word, 0) + i
    joined = "".join(f"{key}={table[key]}\n" for key in sorted(table))
    lines = [f"line {i} of here" for i in range(1, 6)]
    return [
        f"pipeline {sum(i * i for i in range(1, 3001) if i % 3 == 0)}",
        f"subshells {FORKS * (FORKS + 1) // 2}",
        "nested 0 1 2 3 4 5 6 7 8 9 10 11 12",
        "procsub 333 lines shared",
        "here " + hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest(),
        "jobs " + " ".join(f"{i}:{i * 3 % 7}" for i in range(1, 41)),
        "table " + hashlib.sha256(joined.encode()).hexdigest(),
        f"string {len('abc' * 2 ** 15)} {hashlib.sha256(b'cba' * 2 ** 15).hexdigest()}",
        "coproc 5050",
        "trap 7 cleaned",
        "deep 2000",
        "done",
    ]


def test_bash(t):
    result = t.run(["/usr/bin/bash", "-eu", t.script(SCRIPT), str(FORKS)], stdin="go\n", active="bash")
    t.equal(result.text.splitlines(), expected(), "output of the script")
    t.equal(result.stderr, b"", "stderr of the script")
