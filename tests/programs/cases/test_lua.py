"""lua5.4: tables, strings, closures, coroutines and a collector that runs all the time"""

import hashlib
import re

NEEDS = {"/usr/bin/lua5.4": "lua5.4"}


def expected():
    table = {}
    for i in range(1, 300001):
        key = f"k{i * 37 % 20011}"
        table[key] = table.get(key, 0) + i
    mixed = 0
    for key in sorted(table):
        mixed = (mixed * 31 + table[key] + len(key)) % 1000000007
    text = " ".join(f"{i}={i * i % 1013}" for i in range(1, 20001))
    swapped = re.sub(r"(\d+)=(\d+)", r"\2:\1", text)
    rolling = 0
    for char in swapped.encode():
        rolling = (rolling * 131 + char) % 1000000007

    def place(row, columns, left, right):
        if row == 8:
            return 1
        return sum(place(row + 1, columns | 1 << c, left | 1 << (row + c), right | 1 << (row - c + 8))
                   for c in range(8) if not (columns >> c & 1 or left >> (row + c) & 1 or right >> (row - c + 8) & 1))

    return [
        f"table {mixed}",
        f"gsub {len(swapped)} {rolling}",
        f"coroutines {sum(i * n for n in range(1, 501) for i in range(1, 21))}",
        f"queens {place(0, 0, 0, 0)}",
        "weak 0",
        f"popen {hashlib.sha256(b''.join(b'%d' % i + bytes([10]) for i in range(1, 5001))).hexdigest()}",
    ]


def test_lua(t):
    result = t.run(["/usr/bin/lua5.4", t.script("work.lua")], stdin="go\n", active="lua5.4")
    t.equal(result.text.splitlines(), expected(), "output of the script")
    t.equal(result.stderr, b"", "stderr of the script")
