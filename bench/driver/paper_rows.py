"""What `./aep bench --paper` compares: the applications (apps/) as in the paper's figures.

Used by ../paper.py. A row is one program with the same words over ours and over the others; its figure, and the paper's
ratio of ours to CXL-SHM, which flat `published` stands for here.
"""

from dataclasses import dataclass

BASELINES = ("flat", "lightning")  # of our own
IN_BENCH = (*BASELINES, "zeromq", "boost", "redis")  # what the programs of bench/apps run over; the rest those of apps/
COPIED = ("local", "unix", "tcp", "zeromq", "boost")


@dataclass
class Row:
    """`remote`: ours runs between two nodes, of which `stay` processes one after the other are on one. `paper`: times better than CXL-SHM. `more`: more is better."""

    figure: str
    what: str
    program: str
    words: tuple
    value: str
    paper: float | None
    unit: str = "us"
    remote: bool = False
    stay: int = 1
    more: bool = False
    others: tuple = ("flat", *COPIED)


def rows(quick):
    calls = ("--calls", 3000 if quick else 30_000)
    trees = ("--calls", 5 if quick else 20)
    load = ("--operations", 20_000 if quick else 200_000, "--keys", 2000 if quick else 10_000)
    rounds = ("--rounds", 30 if quick else 300)
    found = [Row("Figure 10(a)", "one object there and back, within a node", "rpc", calls, "call_us", 14.4),
             Row("Figure 10(a)", "the same, between nodes", "rpc", calls, "call_us", 11.74 / 12.93, remote=True)]
    for height in (10, 15) if quick else (10, 15, 20):
        words = ("--shape", "tree", "--height", height, *trees)
        for remote in (False, True):
            where = "between nodes" if remote else "within a node"
            found.append(Row("Figure 10(b)", f"a tree of height {height}, built, {where}", "rpc", words, "build_us", None, remote=remote))
            found.append(Row("Figure 10(b)", f"the same, sent, walked and back, {where}", "rpc", words, "call_us",
                             12 if remote and height == 20 else None, remote=remote))
    for part, reads, ratio in (("a", 100, 1.0), ("b", 95, 1.0), ("c", 50, None), ("d", 5, None), ("d", 0, 2.36)):
        for zipf in (0, 0.99):
            keys = "Zipf" if zipf else "uniform"
            found.append(Row(f"Figure 11({part})", f"KV, {reads} % reads, {keys} keys, 2 clients", "kv", ("--reads", reads, "--zipf", zipf, *load),
                             "operations_per_second", ratio, unit="/s", more=True, others=("flat", *COPIED, "redis")))
    for clients in (1, 2, 4, 8):
        for zipf in (0, 0.99):
            keys = "Zipf" if zipf else "uniform"
            found.append(Row("Figure 11(e)", f"KV, half reads, {keys} keys, {clients} client{'s' if clients > 1 else ''}", "kv",
                             ("--reads", 50, "--zipf", zipf, "--clients", clients, *load), "operations_per_second", None, unit="/s", more=True,
                             others=("lightning", "local")))
    for clients in (2, 4, 8, 16):
        found.append(Row("Figure 2(b)", f"KV, half reads, {clients} clients", "kv", ("--reads", 50, "--clients", clients, *load),
                         "operations_per_second", None, unit="/s", more=True, others=("flat", "local")))
    for size in (1024, 65_536, 1 << 20) if quick else (1024, 16_384, 65_536, 1 << 20, 16 << 20):
        others = ("flat", *COPIED) if size < 128 << 10 else COPIED
        for remote in (False, True):
            where = "between nodes" if remote else "within a node"
            ratio = 1.20 if size == 65_536 and not remote else None
            found.append(Row("Figure 12(d)" if remote else "Figure 12(a)", f"a chain of 40 functions, state of {size >> 10} KiB, {where}", "chain",
                             ("--bytes", size, *rounds), "round_us", ratio, remote=remote, others=others))
    for vertices in (1000, 10_000) if quick else (1000, 10_000, 100_000, 1_000_000):
        words = ("--vertices", vertices, "--jobs", max(1, min(20, 100_000 // vertices)))
        for remote, ratio in ((False, 2.46), (True, 2.12)):
            where = "between nodes" if remote else "within a node"
            values = [("job_ms", "a job", ratio)]
            if vertices == 10_000:
                values += [(f"{part}_ms", f"of it {part}, all functions together", None) for part in ("memory", "reckoning", "sending")]
            found += [Row("Figure 12(e)" if remote else "Figure 12(c)", f"PageRank, {vertices:,} vertices, {where}: {what}", "pagerank", words, value,
                          target, unit="ms", remote=remote) for value, what, target in values]
    for stay in (2, 4, 10):
        local = f"{100 * (stay - 1) // stay} % of its steps within a node"
        found.append(Row("Figure 12(d)", f"the chain, state of 64 KiB, {local}", "chain", ("--bytes", 65_536, *rounds), "round_us", None,
                         remote=True, stay=stay))
        found.append(Row("Figure 12(e)", f"PageRank, 10,000 vertices, {100 * (stay - 1) // stay} % of its neighbours within a node", "pagerank",
                         ("--vertices", 10_000, "--jobs", 10), "job_ms", None, unit="ms", remote=True, stay=stay))
    return found
