"""python3: JSON, regular expressions, dictionaries, big integers, threads, fork, mmap and MemoryError"""

import hashlib
import json

NEEDS = {"/usr/bin/python3": "python3"}


def expected():
    a, b = 1, 1
    for _ in range(20000):
        a, b = b, a + b
    squares = {f"k{i}": i * i for i in range(200000)}
    digest = hashlib.sha256(json.dumps(squares, sort_keys=True).encode()).hexdigest()
    return {
        "json": digest,
        "regex": sum(1 for i in range(50000) if i % 7 == 0),
        "big": hashlib.sha256(str(b % 10 ** 3000).encode()).hexdigest(),
        "threads": [sum(range(n * 20000, (n + 1) * 20000)) for n in range(8)],
        "children": [[n, n * 1000 * 999 // 2] for n in range(24)],
        "own": 24 * 500,
        "huge": "MemoryError",
        "sorted": [0, 99999],
    }


def test_python_work(t):
    result = t.run(["/usr/bin/python3", t.script("work.py")], stdin="go\n", active="python3.11")
    t.equal(json.loads(result.text), expected(), "output of the script")
    t.equal(result.stderr, b"", "stderr of the script")
    if t.ours and t.mode == "pool":
        # More than the pool has: an exception, not a signal, and a process that goes on working.
        exhaust = ("blocks = []\ntry:\n  while len(blocks) < 2048: blocks.append(bytearray(1 << 20))\nexcept MemoryError:\n"
                   "  n = len(blocks); blocks.clear(); again = [bytearray(1 << 20) for _ in range(n // 2)]\n"
                   "  print('exhausted', n > 100, len(again) == n // 2)\n")
        result = t.run(["/usr/bin/python3", "-c", exhaust])
        t.equal(result.text, "exhausted True True\n", "a process that uses the pool up")
