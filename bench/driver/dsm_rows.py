"""What `./aep bench --dsm` compares: the runs of each side, the rows made of their figures, and the targets.

Used by ../dsm.py. A run is a program with its arguments; it prints figures by name. A row takes one figure of a run
of ours and one of a run of the flat baseline, from the same round. Flat runs by two rules (bench/flat/client.hpp):
`published`, with which everything is compared, and `durable`, whose figures stand beside.
"""

from dataclasses import dataclass, replace

OURS, FLAT, NODES = "aep_bench_dsm", "aep_bench_flat", "aep_bench_nodes"
THREADS = (1, 2, 4, 8)


@dataclass
class Run:
    """`peer`: it needs the other end, a second process: on our own node, or `remote` on another one. `rule`: of flat."""

    name: str
    program: str
    case: str
    count: int
    peer: bool = False
    remote: bool = False
    rule: str = ""

    def arguments(self):
        return [*([self.rule] if self.rule else []), self.case, str(self.count)]


@dataclass
class Row:
    """`ours` and `flat`: (run, figure). Figures are costs, less is better, unless `more` is said.

    `targets`: (what, limit); what is "times" (at least so many times better than flat), "cost" (at most so many times
    the cost of flat), "at_most" or "at_least" (our own figure)."""

    name: str
    unit: str
    ours: tuple
    flat: tuple | None
    targets: tuple = ()
    more: bool = False
    plain: str = "flat"  # what the second column is

    def durable(self):
        """The same figure of flat by its other rule; None: the row is not about flat."""
        return (durable_run(self.flat[0]), self.flat[1]) if self.plain == "flat" else None


def durable_run(name):
    return name.replace("flat_", "durable_", 1)


def runs(quick, with_nodes):
    batches = 300 if quick else 2000
    blocks = 100_000 if quick else 400_000
    listed = 30_000 if quick else 500_000
    height = 14 if quick else 20
    dead = 50_000 if quick else 500_000
    calls, streamed = (4000, 20_000) if quick else (20_000, 100_000)
    ours = [Run("operations", OURS, "operations", batches), Run("refills", OURS, "refills", blocks),
            Run("transfers", OURS, "transfers", batches), Run("metadata", OURS, "metadata", 2 * blocks),
            Run("flushed", OURS, "flushed", batches),
            *(Run(f"threadtest_{n}", OURS, "threadtest", n) for n in THREADS),
            Run("rpc", OURS, "rpc", calls, peer=True), Run("stream", OURS, "stream", streamed, peer=True),
            Run("list", OURS, "list", listed, peer=True), Run("list_blocks", OURS, "list_blocks", listed, peer=True),
            Run("tree", OURS, "tree", height, peer=True), Run("tree_blocks", OURS, "tree_blocks", height, peer=True),
            Run("nodes_transfers", NODES, "transfers", batches), Run("nodes_recovery", NODES, "recovery", dead),
            Run("roots_recovery", NODES, "recovery", dead // 100)]
    if with_nodes:
        ours += [Run("remote_rpc", OURS, "rpc", calls, True, True), Run("remote_stream", OURS, "stream", streamed, True, True),
                 Run("remote_tree", OURS, "tree", height, True, True)]
    works = [("operations", batches), ("refills", blocks), ("transfers", batches), ("metadata", 2 * blocks), ("rpc", calls),
             ("stream", streamed), ("list", listed), ("tree", height), ("recovery", dead)]
    flat = [Run("flat_" + name, FLAT, name, count, rule="published") for name, count in works]
    flat += [Run(f"flat_threadtest_{n}", FLAT, "threadtest", n, rule="published") for n in THREADS]
    flat += [replace(run, name=durable_run(run.name), rule="durable") for run in flat]
    return ours + flat


def rows(with_nodes):
    table = [
        Row("allocate, fast path", "ns", ("operations", "alloc"), ("flat_operations", "alloc"), (("times", 13.3),)),
        Row("allocate, takes a page, memory new to the process", "ns", ("refills", "new_page"), ("flat_refills", "new_page")),
        Row("allocate, takes a page, memory used before", "ns", ("refills", "used_page"), ("flat_refills", "used_page")),
        Row("allocate, takes a chunk (flat: a page), new memory", "ns", ("refills", "new_chunk"), ("flat_refills", "new_page")),
        Row("free", "ns", ("operations", "free"), ("flat_operations", "free"), (("times", 13.3),)),
        Row("send + receive within a node, one thread", "ns", ("transfers", "transfer"), ("flat_transfers", "transfer"),
            (("times", 23.4), ("at_most", 90))),
        Row("the receiver drops its reference", "ns", ("transfers", "drop"), ("flat_transfers", "drop")),
        Row("stream within a node, two processes, dropped on arrival", "ns", ("stream", "stream"), ("flat_stream", "stream")),
        Row("RPC within a node (there and back), two processes", "ns", ("rpc", "rpc"), ("flat_rpc", "rpc")),
        Row("send + receive between nodes, by the protocol's library", "ns", ("nodes_transfers", "transfer"),
            ("flat_transfers", "transfer"), (("cost", 1.05),)),
        Row("the first reference between nodes, made and dropped (flat: allocate + free)", "ns", ("nodes_transfers", "export"),
            ("flat_operations", "pair")),
    ]
    if with_nodes:
        table += [
            Row("stream between nodes, two contexts", "ns", ("remote_stream", "stream"), ("flat_stream", "stream"), (("cost", 1.05),)),
            Row("RPC between nodes, two contexts", "ns", ("remote_rpc", "rpc"), ("flat_rpc", "rpc")),
            Row("tree between nodes, in one block, a node, memory used before", "ns", ("remote_tree", "all"), ("flat_tree", "all"),
                (("times", 12),)),
            Row("tree between nodes, in one block, a node, memory new to both", "ns", ("remote_tree", "new_all"),
                ("flat_tree", "new_all"), (("times", 12),)),
        ]
    table += [Row(f"threadtest, {n} thread{'s' if n > 1 else ''}, an allocation with its free", "ns", (f"threadtest_{n}", "pair"),
                  (f"flat_threadtest_{n}", "pair")) for n in THREADS]
    table += [
        Row("list, built in one block and walked by the receiver, a node, memory used before", "ns", ("list", "all"), ("flat_list", "all")),
        Row("list, each node a block", "ns", ("list_blocks", "all"), ("flat_list", "all")),
        Row("tree, built in one block and walked by the receiver, a node, memory used before", "ns", ("tree", "all"), ("flat_tree", "all")),
        Row("tree, each node a block", "ns", ("tree_blocks", "all"), ("flat_tree", "all")),
        Row("metadata of a 64-byte object (flat: in the pool)", "B", ("metadata", "bytes_64"), ("flat_metadata", "bytes_64"),
            (("at_most", 8),)),
        Row("metadata of a 256-byte object", "B", ("metadata", "bytes_256"), ("flat_metadata", "bytes_256")),
        Row("metadata of a 1024-byte object", "B", ("metadata", "bytes_1024"), ("flat_metadata", "bytes_1024")),
        Row("allocate + free, metadata in ordinary memory", "ns", ("operations", "pair"), ("flushed", "pair"),
            plain="ours, its metadata lines flushed each time"),
        Row("a dead client is recovered, objects a second", "M/s", ("client_recovery", "rate"), ("flat_recovery", "rate"),
            (("at_least", 250),), more=True),
        Row("a dead node with as many objects as flat's client, all shared between nodes", "ms", ("nodes_recovery", "ms"),
            ("flat_recovery", "ms"), (("cost", 1.0),)),
        Row("the same, one object in 100 shared between nodes", "ms", ("roots_recovery", "ms"), ("flat_recovery", "ms"),
            (("cost", 1.0),)),
    ]
    return table


def derive(run, figures):
    """Figures that are sums or other units of a run's own."""
    if run in ("operations", "flushed", "flat_operations", "durable_operations"):
        figures["pair"] = figures["alloc"] + figures["free"]
    if "objects_per_second" in figures:
        figures["rate"] = figures["objects_per_second"] / 1e6
    return figures


def judge(row, value, ratio):
    """[(text, met)] of a row's targets; ratio: how many times better than flat."""
    verdicts = []
    for what, limit in row.targets:
        if what == "times":
            verdicts.append((f"at least {limit:g} x flat", ratio is not None and ratio >= limit))
        elif what == "cost":
            verdicts.append((f"at most {limit:g} x the cost of flat", ratio is not None and 1 / ratio <= limit))
        elif what == "at_most":
            verdicts.append((f"at most {limit:g} {row.unit}", value <= limit))
        else:
            verdicts.append((f"at least {limit:g} {row.unit}", value >= limit))
    return verdicts
