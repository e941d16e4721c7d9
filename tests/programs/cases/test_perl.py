"""perl: hashes, regular expressions, sort, fork with pipes, interpreter threads and sprintf"""

import hashlib
import re

NEEDS = {"/usr/bin/perl": "perl"}


def expected():
    table = {}
    for i in range(200000):
        table[f"k{i * 31 % 9973}"] = table.get(f"k{i * 31 % 9973}", 0) + i
    text = " ".join(f"w{i % 97}-{i * i % 1009}" for i in range(60000))
    replaced = re.sub(r"w(\d+)-(\d+)", lambda m: f"{m[2]}<{int(m[1]) + 1}>", text)
    return [
        "hash " + hashlib.sha256("".join(f"{k}:{table[k]}," for k in sorted(table)).encode()).hexdigest(),
        "regex " + hashlib.sha256(replaced.encode()).hexdigest(),
        "forks " + " ".join(f"{n}:{sum(range(0, 10000 * n, n)) if n else 0}" for n in range(20)),
        "threads " + " ".join(str(sum(i * n for i in range(20000))) for n in range(1, 7)),
        f"parent {len(table)}",
        "lines 12500 " + hashlib.sha256("".join(f"{i:08d}\n" for i in range(0, 100000, 8)).encode()).hexdigest(),
    ]


def test_perl(t):
    result = t.run(["/usr/bin/perl", "-w", t.script("work.pl")], stdin="go\n", active="perl")
    t.equal(result.text.splitlines(), expected(), "output of the script")
    t.equal(result.stderr, b"", "stderr of the script")
