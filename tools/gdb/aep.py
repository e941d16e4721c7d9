"""gdb's commands for a process that runs on libaepmalloc.so, or its core: aep heap, block, slots, sharing.

In gdb: source /usr/share/aep/gdb/aep.py. Where everything lies, layout.json beside this file says, which comes from the
build; no debug information is needed. Nothing is called in the process, and nothing of it is written.
"""

import json
import os

import gdb

LAYOUT = json.load(open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "layout.json"), encoding="utf-8"))
SLICE = 1 << LAYOUT["SLICE_SHIFT"]
CHUNK_SLICES = LAYOUT["SLICES_PER_CHUNK"]


def memory(address, count):
    return bytes(gdb.selected_inferior().read_memory(address, count))


def number(address, size=8):
    return int.from_bytes(memory(address, size), "little")


def field(name, base):
    """The value of a field, named TYPE.member, of what lies at `base`."""
    offset, size = LAYOUT[name]
    return number(base + offset, size)


def text_field(name, base):
    offset, size = LAYOUT[name]
    return memory(base + offset, size).split(b"\0")[0].decode("utf-8", "replace")


def bits(word):
    return bin(word).count("1")


def size_text(count):
    for unit in ("B", "KiB", "MiB"):
        if count < 1024 or unit == "MiB":
            return f"{count:.0f} {unit}" if count == int(count) else f"{count:.1f} {unit}"
        count /= 1024
    return ""


def inspected():
    """What the library exports for readers."""
    try:
        at = int(gdb.parse_and_eval("(unsigned long)&aep_inspected"))
    except gdb.error:
        raise gdb.GdbError("no libaepmalloc.so is loaded here (or its file is not found: see `info sharedlibrary`)")
    try:
        good = (field("Inspected.magic", at) == LAYOUT["INSPECTED_MAGIC"]
                and field("Inspected.bytes", at) == LAYOUT["Inspected"])
    except gdb.MemoryError:
        raise gdb.GdbError("the core lacks the library's data")
    if not good:
        raise gdb.GdbError("the libaepmalloc.so that is loaded is of another version than this file")
    return at


class Heap:
    """The heap of the process, read as it stands: of a running process not of one moment."""

    def __init__(self):
        at = inspected()
        self.domain = number(field("Inspected.domain", at))
        self.slices = number(field("Inspected.window_slices", at))
        self.index = (self.domain - LAYOUT["DOMAINS_BASE"]) // LAYOUT["DOMAIN_STRIDE"]
        self.watch = field("Inspected.watch", at)

    @staticmethod
    def desc(slice_number):
        return LAYOUT["DESCS"] + slice_number * LAYOUT["DESCS_STRIDE"]

    @staticmethod
    def slice_of(address):
        """None: outside the heap's window."""
        offset = address - LAYOUT["HEAP_BASE"]
        return offset >> LAYOUT["SLICE_SHIFT"] if 0 <= offset < LAYOUT["HEAP_WINDOW"] else None

    @staticmethod
    def address_of(slice_number):
        return LAYOUT["HEAP_BASE"] + (slice_number << LAYOUT["SLICE_SHIFT"])

    def chunk_desc(self, chunk):
        line = chunk % LAYOUT["CHUNK_DESC_LINES"] * LAYOUT["CHUNK_DESC_LINE"]
        return LAYOUT["CHUNK_DESCS"] + LAYOUT["CHUNK_DESCS_STRIDE"] * chunk + line

    def holds(self, chunk):
        """Whether a chunk is this process's; metadata of others' is not mapped, or not in the core."""
        try:
            return field("ChunkDesc.holder", self.chunk_desc(chunk)) == self.index + 1
        except gdb.MemoryError:
            return False

    def chunks(self):
        for chunk in range(self.slices // CHUNK_SLICES):
            if self.holds(chunk):
                yield chunk

    def runs(self):
        """(first slice, kind) of each page, large object and reserved run."""
        for chunk in self.chunks():
            used = ~field("ChunkDesc.free", self.chunk_desc(chunk))
            for i in range(CHUNK_SLICES):
                if used >> i & 1:
                    s = chunk * CHUNK_SLICES + i
                    kind = field("PageDesc.tag", self.desc(s)) & LAYOUT["TAG_KIND_MASK"]
                    if kind in (LAYOUT["TAG_PAGE"], LAYOUT["TAG_LARGE"], LAYOUT["TAG_RESERVED"]):
                        yield s, kind

    def head_of(self, s):
        """The first slice of the page or large object that slice `s` is part of; None: it is free."""
        chunk = s // CHUNK_SLICES
        if not self.holds(chunk) or field("ChunkDesc.free", self.chunk_desc(chunk)) >> s % CHUNK_SLICES & 1:
            return None
        kind = field("PageDesc.tag", self.desc(s)) & LAYOUT["TAG_KIND_MASK"]
        if kind == LAYOUT["TAG_TAIL"]:
            return s - field("PageDesc.slices", self.desc(s))  # head_delta
        while kind == 0 and s > 0:  # a further slice of a large object
            s -= 1
            kind = field("PageDesc.tag", self.desc(s)) & LAYOUT["TAG_KIND_MASK"]
        return s

    def words(self, s):
        """(live, freed by others, at hand) of each word of a page's bitmaps."""
        d = self.desc(s)
        count = -(-field("PageDesc.capacity", d) // LAYOUT["BLOCKS_A_WORD"])
        hand, size = field("PageDesc.hand", d), field("PageDesc.block_size", d)
        hand_word = (field("PageDesc.hand_base", d) - self.address_of(s)) // (size * LAYOUT["BLOCKS_A_WORD"])
        base = LAYOUT["BLOCK_BITS"] + s * LAYOUT["BLOCK_BITS_STRIDE"]
        for w in range(count):
            at = base + w * LAYOUT["BlockBits"]
            here = hand if w == hand_word else 0
            yield field("BlockBits.live", at), field("BlockBits.freed", at), here


class AepCommand(gdb.Command):
    """Commands for the heap of libaepmalloc.so: aep heap, aep block ADDRESS, aep slots, aep sharing."""

    def __init__(self):
        super().__init__("aep", gdb.COMMAND_DATA, gdb.COMPLETE_NONE, True)


class HeapCommand(gdb.Command):
    """Chunks, pages, blocks and large objects of the process's heap, by size class."""

    def __init__(self):
        super().__init__("aep heap", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        heap = Heap()
        chunks = list(heap.chunks())
        classes, large, reserved = {}, [], 0
        for s, kind in heap.runs():
            d = heap.desc(s)
            if kind == LAYOUT["TAG_PAGE"]:
                live = sum(bits(word & ~freed & ~hand) for word, freed, hand in heap.words(s))
                of_class = classes.setdefault(field("PageDesc.block_size", d), [0, 0, 0])
                of_class[0] += 1
                of_class[1] += live
                of_class[2] += field("PageDesc.capacity", d)
            elif kind == LAYOUT["TAG_LARGE"]:
                large.append(field("PageDesc.committed", d))
            else:
                reserved += 1
        blocks = sum(size * live for size, (_, live, _) in classes.items())
        print(f"domain {heap.index} at {heap.domain:#x}: {len(chunks)} chunks ({len(chunks) * 4} MiB), "
              f"{field('Domain.heaps_used', heap.domain)} heaps, "
              f"{field('Domain.abandoned_count', heap.domain)} of them abandoned")
        print(f"live blocks: {sum(live for _, live, _ in classes.values())} ({blocks} bytes); "
              f"large objects: {len(large)} ({size_text(sum(large))}); reserved runs: {reserved}")
        print(f"{'block':>8} {'pages':>7} {'live':>9} {'of':>9}")
        for size, (pages, live, capacity) in sorted(classes.items()):
            print(f"{size:>8} {pages:>7} {live:>9} {capacity:>9}")


class BlockCommand(gdb.Command):
    """What lies at an address: aep block ADDRESS (an expression)."""

    def __init__(self):
        super().__init__("aep block", gdb.COMMAND_DATA, gdb.COMPLETE_EXPRESSION)

    def invoke(self, argument, from_tty):
        if not argument:
            raise gdb.GdbError("aep block ADDRESS: of what?")
        address = int(gdb.parse_and_eval(f"(unsigned long)({argument})"))
        print(f"{address:#x}: {self.describe(Heap(), address)}")

    def describe(self, heap, address):
        s = heap.slice_of(address)
        if s is None:
            return "not in the heap's window: no block of this allocator, or a guarded one"
        if s >= heap.slices:
            return "in the heap's window, where nothing has been yet"
        head = heap.head_of(s)
        if head is None:
            return "free memory of the heap, or memory of another process of the context"
        d = heap.desc(head)
        tag = field("PageDesc.tag", d)
        kind, offset = tag & LAYOUT["TAG_KIND_MASK"], address - heap.address_of(head)
        if kind == LAYOUT["TAG_LARGE"]:
            size = field("PageDesc.committed", d)
            return f"{offset} bytes into a live large object of {size} bytes at {heap.address_of(head):#x}"
        if kind != LAYOUT["TAG_PAGE"]:
            return "in a run of slices that is reserved"
        size = field("PageDesc.block_size", d)
        index, inside = divmod(offset, size)
        owner = (tag >> LAYOUT["TAG_OWNER_SHIFT"]) % LAYOUT["HEAP_IDS"]
        shared = "; its page holds blocks that were sent, or samples" if tag & LAYOUT["TAG_SHARED"] else ""
        state = self.state_of(heap, head, index)
        return f"{inside} bytes into a {state} block of {size} bytes at {address - inside:#x} (heap {owner}){shared}"

    @staticmethod
    def state_of(heap, head, index):
        if index >= field("PageDesc.extended", heap.desc(head)):
            return "never used"
        live, freed, hand = list(heap.words(head))[index // LAYOUT["BLOCKS_A_WORD"]]
        bit = 1 << index % LAYOUT["BLOCKS_A_WORD"]
        if not live & bit or hand & bit:
            return "free"
        return "live" if not freed & bit else "freed (by a thread that does not own its page)"


def context():
    """The control area of the context that the process has joined."""
    base = LAYOUT["CONTROL_BASE"]
    try:
        magic = field("ContextConstants.magic", base)
    except gdb.MemoryError:
        raise gdb.GdbError("the process is in no context, or its core does not hold the context's memory, "
                           "which is shared: attach to a process of the context")
    if magic != LAYOUT["CONTEXT_MAGIC"] or field("ContextConstants.version", base) != LAYOUT["CONTEXT_VERSION"]:
        raise gdb.GdbError("the context is of another version than this file")
    return base


CLIENT_STATES = {1: "attaching", 2: "live", 3: "frozen", 4: "recovering"}


def clients(base):
    """(index, entry) of each client."""
    entries = base + field("ContextConstants.clients_offset", base)
    for index in range(1, field("ContextConstants.max_clients", base) + 1):
        entry = entries + index * LAYOUT["ClientEntry"]
        if field("ClientEntry.state", entry) != 0:
            yield index, entry


class SlotsCommand(gdb.Command):
    """The context's clients and their slots, with the operation that each is in."""

    def __init__(self):
        super().__init__("aep slots", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        base = context()
        print(f"context {text_field('ContextConstants.name', base)}")
        for index, entry in clients(base):
            print(f"client {index}: {CLIENT_STATES.get(field('ClientEntry.state', entry), '?')}, "
                  f"pid {field('ClientEntry.pid', entry)}, {text_field('ClientEntry.name', entry)}, "
                  f"{field('ClientEntry.chunks', entry)} chunks")
        slots = base + field("ContextConstants.slots_offset", base)
        for i in range(field("ContextConstants.max_slots", base)):
            slot = slots + i * LAYOUT["SLOT_STRIDE"]
            owner = field("Slot.owner", slot)
            if owner & 0xFF == 0:
                continue
            is_open = field("Slot.sequence", slot) % 2 == 1
            operation = LAYOUT["operations"][field("Slot.op", slot) % len(LAYOUT["operations"])]
            completer = field("Slot.completer", slot)
            print(f"slot {i}: client {owner >> 8 & 0xFFFFFF}, thread {field('Slot.tid', slot)}, "
                  f"{field('Slot.operations', slot)} operations so far; "
                  + (f"inside {operation}" if is_open else "outside")
                  + (f", being completed by {completer}" if completer else ""))


class SharingCommand(gdb.Command):
    """What the context's clients share: objects, holders, messages that wait."""

    def __init__(self):
        super().__init__("aep sharing", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        base = context()
        share = base + LAYOUT["SHARE_OFFSET"]
        # Each client counts its own; client 0 is nobody, who has what dead owners and other nodes have.
        names = ("exports", "foreign", "groups", "objects_held", "sent", "received")
        nobody = share + LAYOUT["SHARE_CLIENTS"]
        all_clients = [nobody + index * LAYOUT["ShareClient"]
                       for index in range(field("ContextConstants.max_clients", base) + 1)]
        counts = {name: sum(field(f"ShareClient.{name}", client) for client in all_clients) for name in names}
        counts["groups"] &= 0xFFFFFFFF  # those of one client may be less than none
        counts["orphans"] = field("ShareClient.exports", nobody) - field("ShareClient.foreign", nobody)
        print("{exports} objects, {groups} groups among them, {orphans} of dead owners; {objects_held} holders; "
              "{sent} sent, {received} received".format(**counts))
        for index, entry in clients(base):
            client = share + LAYOUT["SHARE_CLIENTS"] + index * LAYOUT["ShareClient"]
            inbox = client + LAYOUT["ShareClient.inbox"][0]
            if field("Inbox.open", inbox) == 1:
                print(f"client {index} (pid {field('ClientEntry.pid', entry)}): "
                      f"name '{text_field('ShareClient.name_words', client)}', "
                      f"{field('Inbox.messages', inbox)} messages wait")


AepCommand()
HeapCommand()
BlockCommand()
SlotsCommand()
SharingCommand()
