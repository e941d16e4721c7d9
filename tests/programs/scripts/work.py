"""Run by cases/python_work.py; prints one JSON object, each member of which is computed a second time over there."""

import hashlib
import json
import mmap
import os
import random
import re
import sys
import threading

sys.stdin.readline()  # held back until the preload has been seen in us
out = {}

table = {f"k{i}": i * i for i in range(200000)}
again = json.loads(json.dumps(table))
for key in random.Random(1).sample(sorted(again), 100000):
    again[key] = again.pop(key)
out["json"] = hashlib.sha256(json.dumps(again, sort_keys=True).encode()).hexdigest()

text = "\n".join(f"row {i}: {'seven' if i % 7 == 0 else 'other'} {'x' * (i % 50)}" for i in range(50000))
out["regex"] = len(re.findall(r"^row (?P<n>\d+): (seven) (x*)$", text, re.MULTILINE))

a, b = 1, 1
for _ in range(20000):
    a, b = b, a + b
sys.set_int_max_str_digits(0)
out["big"] = hashlib.sha256(str(b % 10 ** 3000).encode()).hexdigest()

sums = [0] * 8
boxes = [[] for _ in range(8)]


def work(n):
    for i in range(n * 20000, (n + 1) * 20000):
        boxes[(n + i) % 8].append(str(i))  # strings made here are dropped by whoever sorts that box
        sums[n] += i


threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for t in threads:
    t.start()
for t in threads:
    t.join()
out["threads"] = sums
assert sum(len(box) for box in boxes) == 160000
boxes.clear()

# Children and parent go on from the same heap: nobody may see what another has written.
own = []
children = []
for n in range(24):
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        table.clear()
        values = [n * i for i in range(1000)]
        for _ in range(20):
            table.update((f"c{n}-{i}", [n] * 10) for i in range(500))
        assert all(v == [n] * 10 for v in table.values()) and len(table) == 500
        os.write(w, json.dumps([n, sum(values)]).encode())
        os._exit(0)
    os.close(w)
    own += [f"{n}:{i}" for i in range(500)]
    children.append((pid, r))
out["children"] = []
for pid, r in children:
    out["children"].append(json.loads(os.read(r, 4096)))
    os.close(r)
    assert os.waitpid(pid, 0) == (pid, 0)
assert all(table[f"k{i}"] == i * i for i in range(200000)) and len(table) == 200000
assert own == [f"{n}:{i}" for n in range(24) for i in range(500)]
out["own"] = len(own)

with mmap.mmap(-1, 1 << 20) as area:
    area[:5] = b"hello"
    assert bytes(area[:5]) == b"hello"

try:
    bytearray(1 << 48)
    out["huge"] = "allocated"
except MemoryError:
    out["huge"] = "MemoryError"

order = list(range(100000))
random.Random(2).shuffle(order)
pieces = [bytes([i & 255]) * (i % 3000) for i in order[:20000]]
assert all(p == bytes([i & 255]) * (i % 3000) for i, p in zip(order, pieces))
order.sort()
out["sorted"] = [order[0], order[-1]]
print(json.dumps(out))
