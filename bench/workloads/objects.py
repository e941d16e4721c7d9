"""An allocation-heavy Python program: words counted, objects linked and sorted, text built and parsed.

Run by bench/driver/workloads.py, with Python's own small-object allocator and without it
(PYTHONMALLOC=malloc). Prints sums that are the same on every run. An argument says how many times.
"""

import json
import sys

MASK = (1 << 64) - 1


class Node:
    def __init__(self, key, text):
        self.key, self.text, self.links = key, text, []


def numbers(seed, count):
    for _ in range(count):
        seed = (seed * 6364136223846793005 + 1442695040888963407) & MASK
        yield seed >> 33


def main():
    nodes = [Node(n, f"node-{n % 9973}") for n in numbers(1, 60000)]
    for node, other in zip(nodes, numbers(2, len(nodes))):
        node.links.append(nodes[other % len(nodes)])
    words = {}
    for node in nodes:
        words.setdefault(node.text, []).append(node.key)
    nodes.sort(key=lambda node: (node.text, node.key))
    print(len(words), sum(len(node.links[0].text) for node in nodes))
    text = json.dumps({word: keys for word, keys in words.items()})
    print(len(text), sum(len(keys) for keys in json.loads(text).values()))
    lines = [",".join(str(n) for n in numbers(seed, 20)) for seed in range(6000)]
    print(sum(sum(map(int, line.split(","))) for line in lines) & MASK)


for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
    main()
