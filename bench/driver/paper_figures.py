"""The paper's figures and tables: what each shows, what the paper found, and which of our figures stand beside it.

Used by ../paper.py. Rows of applications are paper_rows.py's, rows of operations dsm_rows.py's, and those of memory are made here.
"""

from dataclasses import dataclass

from . import dsm_rows


@dataclass
class Figure:
    """`found`: what the paper says. `note`: what is different here."""

    name: str
    title: str
    found: str
    note: str = ""

    @property
    def stem(self):
        """Of its plot's file."""
        return self.name.lower().replace("figure ", "fig").replace("table ", "table").translate(str.maketrans("", "", "() "))


FIGURES = [
    Figure("Figure 2(b)", "How much of the time fault tolerance takes", "49.9 % of the time with 2 clients, 60.3 % with 16 (CXL-SHM)",
           "By the store with half reads: the part of the time that the same store in plain memory does not need. That one waits with a freed block "
           "until each member has been between two operations, which takes long where there are more members than processors: less than nothing "
           "says that it is the slower one."),
    Figure("Table 3", "Memory", "115 ns and 110 GB/s of its own memory, 253 ns and 28 GB/s of CXL memory (in order, all threads), 65.9 M compare-and-swaps a second",
           "One thread. There is no CXL memory here: what is emulated is its latency (`./aep bench --dsm --cxl-latency 253`)."),
    Figure("Figure 9(a)", "Allocation and free by threads", "more than 13 times CXL-SHM at every number of threads; metadata in local memory 1.33 times of metadata in the pool",
           "Metadata in the pool stands for itself by one flush of its lines an operation. The level below is our page heap; its "
           "alternatives in the paper, a buddy and a bitmap allocator, were left: see the design of the heap."),
    Figure("Figure 9(b)", "Memory beyond the objects", "some 16 bytes an object more than mimalloc, 8 more than CXL-SHM",
           "Bytes by which the process has grown beyond objects of 64 bytes."),
    Figure("Table 4", "Operations", "allocate 42.2 ns (a chunk 589.1) to 581.3, free 33.7 to 462.0, send + receive 86.1 within a node and 2027.3 between nodes to 2019.6"),
    Figure("Figure 10(a)", "One object there and back", "14.4 times CXL-SHM within a node; 11.74 to 12.93 M operations a second between nodes"),
    Figure("Figure 10(b)", "Lists and trees", "a tree of height 20 between nodes is walked in a twelfth of CXL-SHM's time"),
    Figure("Figure 11(a)", "Store, reads alone", "as fast as CXL-SHM, or a little faster"),
    Figure("Figure 11(b)", "Store, 95 % reads", "a little faster than CXL-SHM"),
    Figure("Figure 11(c)", "Store, half reads", "faster than CXL-SHM"),
    Figure("Figure 11(d)", "Store, 5 % reads and writes alone", "2.36 times CXL-SHM (writes alone)"),
    Figure("Figure 11(e)", "Store, by clients, beside Lightning", "several times Lightning, whose one lock bounds it"),
    Figure("Figure 12(a)", "A chain of 40 functions within a node", "1.20 times CXL-SHM"),
    Figure("Figure 12(c)", "PageRank within a node", "2.46 times CXL-SHM, more with more vertices; of its time (12(b)) 68.2 us of transfer become 1.6"),
    Figure("Figure 12(d)", "The chain between nodes", "as CXL-SHM",
           "Each function sleeps until its turn comes: who sleeps for another node's message looks for it between naps, which are the longer the longer "
           "it has slept (design of nodes). That is what the time between nodes is."),
    Figure("Figure 12(e)", "PageRank between nodes", "2.12 times CXL-SHM"),
    Figure("Figure 13", "Deaths", "253.4 M objects a second of a dead client to 17.4 M; throughput of others falls by less than 5 %, with CXL-SHM by more than 10 %; "
           "a dead node takes as long as one client of CXL-SHM"),
]

# Our rows of operations (dsm_rows): figure, the paper's times better than CXL-SHM.
_OPERATIONS = {
    "allocate, fast path": ("Table 4", 581.3 / 42.2),
    "allocate, takes a chunk (flat: a page), new memory": ("Table 4", 581.3 / 589.1),
    "free": ("Table 4", 462.0 / 33.72),
    "send + receive within a node, one thread": ("Table 4", 2019.6 / 86.1),
    "send + receive between nodes, by the protocol's library": ("Table 4", 2019.6 / 2027.3),
    **{f"threadtest, {n} thread{'s' if n > 1 else ''}, an allocation with its free": ("Figure 9(a)", 13.0) for n in dsm_rows.THREADS},
    "allocate + free, metadata in ordinary memory": ("Figure 9(a)", 1.33),
    "a dead client is recovered, objects a second": ("Figure 13", 253.4 / 17.4),
    "a dead node with as many objects as flat's client, all shared between nodes": ("Figure 13", 1.0),
    "the same, one object in 100 shared between nodes": ("Figure 13", 1.0),
}


def operations_regex():
    """For dsm.py's --only: exactly those rows."""
    import re
    return "^(" + "|".join(re.escape(name) for name in _OPERATIONS) + ")$"


def of_operation(entry):
    """dsm.py's entry of one row as one of ours: with its figure and the paper's ratio; or as it failed."""
    figure, ratio = _OPERATIONS[entry["name"]]
    made = {"figure": figure, "what": entry["name"], "unit": entry["unit"], "paper": ratio, "more": "a second" in entry["name"]}
    if "failed" in entry:
        return made | {"failed": entry["failed"]}
    second = "flat" if entry["second"] == "flat" else entry["second"]
    made |= {"sides": {"aep": entry["ours"], second: entry["flat"]}, "times": {second: entry["ratio"]}, "met": entry["ratio"] >= ratio}
    if "durable" in entry:
        made["sides"]["flat, durable"] = entry["durable"]
    return made


def of_application(row, sides, times):
    """One of paper_rows as an entry: medians of the sides, medians of how many times better than each baseline."""
    made = {"figure": row.figure, "what": row.what, "unit": row.unit, "paper": row.paper, "more": row.more, "sides": sides, "times": times}
    if row.paper is not None and "flat" in times:
        made["met"] = times["flat"] >= row.paper
    return made


def share_of_fault_tolerance(row, sides):
    """Figure 2(b): of the time of flat, and of ours, the part that `local` does not need, in percent."""
    shares = {side: 100 * (1 - value / sides["local"]) for side, value in sides.items() if side != "local"}
    return {"figure": row.figure, "what": row.what, "unit": "%", "paper": None, "more": False, "sides": shares, "times": {}}


