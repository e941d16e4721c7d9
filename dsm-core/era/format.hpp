// Purpose: the shared layout of the protocol between nodes: the words that nodes change by
//          compare-and-swap, the redo record of a transaction, and where each table lies.
// Who calls it: dsm-core/era; whoever creates a pool lays the tables out at an offset of its own.
// Crash rule: tables full of zeros are valid and empty. Every change of a word is one store or one
//             compare-and-swap; what a chain of them means after a kill is told by the redo
//             records.
//
//   nodes      one NodeEntry a node: is it alive, who recovers it, who is it
//   lanes      one LaneEntry a writer: its redo record, its epoch
//   seen       a row of words a node, a column a writer: the era matrix
//   refs       a row of cells a node: the references that it holds
//   rings      one ring of cells for each sender and receiver: references under way
//   objects    one ObjectEntry an object that nodes share (the root of a group)
//   directory  a row of DirectoryEntry a node: its clients, for those of other nodes
#pragma once

#include <atomic>

#include "dsm-core/pool/format.hpp"

namespace aep::era {

/// Every shared word. Accessed only through the Memory of flush.hpp.
using Word = std::atomic<u64>;
static_assert(Word::is_always_lock_free && sizeof(Word) == sizeof(u64));

/// A writer is one lane of one node, as a number: 1 + node * lanes + lane. A lane has one
/// transaction at a time; a node has as many lanes as clients may be inside a transaction at once.
inline constexpr u32 NOBODY = 0;
inline constexpr u32 MAX_WRITERS = 4095;

/// An object's count word: writer (12 bits) | era (34) | count (18). The writer and its era name
/// the transaction that wrote the word last.
struct CountWord {
    u64 bits;
    u32 writer() const { return static_cast<u32>(bits >> 52); }
    u64 era() const { return bits >> 18 & 0x3'ffff'ffff; }
    u32 count() const { return static_cast<u32>(bits) & 0x3'ffff; }
    static constexpr CountWord make(u32 writer, u64 era, u32 count) {
        return {u64{writer} << 52 | era << 18 | count};
    }
};
inline constexpr u32 MAX_COUNT = 0x3'ffff;
inline constexpr unsigned ERA_BITS = 34;
inline constexpr u64 MAX_ERA = (u64{1} << ERA_BITS) - 1;
/// No such object. A count of 0 with a writer is an object that this writer is reclaiming.
inline constexpr CountWord FREE_OBJECT{0};

/// An era that never comes again: the lane's epoch counts how often its 34 bits began anew.
constexpr u64 full_era(u64 epoch, u64 era) { return epoch << ERA_BITS | era; }

/// One line an object: nodes meet in its count word, and in no other's. The other words say what
/// the object is; its creator writes them before it creates it, and nobody until it is gone.
struct alignas(CACHE_LINE) ObjectEntry {
    Word count;        // CountWord
    Word address;      // in every process
    Word bytes;        // that may be used
    Word serial;       // of this use of the entry; 0: it was never used
    Word root;         // 1 + the object whose memory this is a part of; 0: it is one of its own
    Word root_serial;  // of that object: if it has another one, this part is gone
    Word head;         // of a group: its root's address, or its own while it has none; 0: no group
    Word head_bytes;   //
};
static_assert(sizeof(ObjectEntry) == CACHE_LINE);

/// A place that holds one reference: object + 1 (low 32 bits, 0: none) | writer that is changing it
/// (high 32 bits, NOBODY: at rest). A claim is what makes a redo exact: only its own writer sets
/// and removes it, and that writer begins nothing else before its record is retired.
struct Cell {
    u64 bits;
    bool holds() const { return static_cast<u32>(bits) != 0; }
    u32 object() const { return static_cast<u32>(bits) - 1; }
    u32 claimer() const { return static_cast<u32>(bits >> 32); }
    static constexpr Cell empty(u32 claimer = NOBODY) { return {u64{claimer} << 32}; }
    static constexpr Cell of(u32 object, u32 claimer = NOBODY) {
        return {u64{claimer} << 32 | (u64{object} + 1)};
    }
};

enum class NodeState : u8 {
    free = 0,        // nobody; holds nothing
    live = 1,        // takes part
    recovering = 2,  // declared dead; the writer `by` is undoing what it left
};

/// state (8 bits) | writer that recovers it (24) | generation (32). The generation grows each time
/// a node joins: who comes back after it was declared dead no longer finds its own word.
struct NodeWord {
    u64 bits;
    NodeState state() const { return static_cast<NodeState>(bits & 0xff); }
    u32 by() const { return static_cast<u32>(bits >> 8) & 0xff'ffff; }
    u32 generation() const { return static_cast<u32>(bits >> 32); }
    static constexpr NodeWord make(NodeState state, u32 generation, u32 by = NOBODY) {
        return {static_cast<u64>(state) | u64{by} << 8 | u64{generation} << 32};
    }
};

/// Each word on a line of its own: the first is read by everybody all the time.
struct NodeEntry {
    alignas(CACHE_LINE) Word word;      // NodeWord
    alignas(CACHE_LINE) Word doorbell;  // changes when others give up objects of its own
    Word mail;                          // hint: bit i: there may be messages from node i
    alignas(CACHE_LINE) Word beat;      // changes while the node lives (its lease)
    Word waiting;  // hint, in the first entry for all: bit i: node i waits for objects of its own
    // That it is to leave the pool (node/draining.hpp), and what keeps it, as its daemon says.
    Word leaving, clients_left, objects_left;
    Word announced;  // changes when what its directory says has changed
    // Who it is: for judging whether it lives, and for people. Of `generation`, else of nobody.
    alignas(CACHE_LINE) Word generation;
    Word pool_entry;       // in the pool's node table
    Word pool_generation;  // of that entry
    u8 boot_id[16];        // of the system that it runs on
    char name[16];         // of its context
    u64 machine;           // that it runs on: a hash of its machine-id; 0: it has none
};
static_assert(sizeof(NodeEntry) == 4 * CACHE_LINE);

enum class RedoKind : u8 {
    none = 0,     // nothing is under way
    attach = 1,   // count + 1, then the cell gets the object
    release = 2,  // count - 1, then the cell is emptied
    reclaim = 3,  // the release was the last one: the object's memory goes, then the object
    move = 4,     // the cell's reference goes to the cell `to`; the record itself is the commit
};

/// kind (8 bits) | era of the transaction, or of the last one if the kind is none.
struct RedoHead {
    u64 bits;
    RedoKind kind() const { return static_cast<RedoKind>(bits & 0xff); }
    u64 era() const { return bits >> 8; }
    static constexpr RedoHead make(RedoKind kind, u64 era) {
        return {static_cast<u64>(kind) | era << 8};
    }
};

/// One line, so that what memory has of it is what some moment had: `head` is stored last.
struct alignas(CACHE_LINE) RedoRecord {
    Word head;        // RedoHead
    Word object;      // index
    Word cell;        // offset of the cell in the tables
    Word to;          // offset of the second cell of a move
    u64 reserved[4];  // zero
};

struct LaneEntry {
    RedoRecord redo;
    alignas(CACHE_LINE) Word epoch;  // read by others, so not in the line of the record
    u64 reserved[7];                 // zero
};
static_assert(sizeof(LaneEntry) == 2 * CACHE_LINE);

/// A message: the cell of its reference, and for whom it is and by whom, as the layers above name
/// clients. These are written by whoever has claimed the cell.
struct MessageEntry {
    Word cell;
    Word to;
    Word from;
    // What the sender says of it, believed by nobody.
    Word tag;
    Word type;
    Word version;
    u64 reserved[2];  // zero
};
static_assert(CACHE_LINE == sizeof(MessageEntry));

/// Read and written word by word (base/copied.hpp).
struct alignas(u64) ClientName {
    char text[32];  // empty: none
};

/// A client that others can find. Its node writes it, under a lock of its own; others read it without (see_entry).
struct alignas(CACHE_LINE) DirectoryEntry {
    Word id;  // as the layers above name clients; 0: nobody
    ClientName name;
    Word claim;       // not 0: whether it may have the name is being found out
    Word version;     // odd while the others change
    Word attendance;  // since when it is there (sharing/peers.hpp); as the layers above write it
};
static_assert(sizeof(DirectoryEntry) == CACHE_LINE);

/// Chosen when the pool is created, the same for everybody.
using Shape = EraShape;

/// Whether the numbers fit the words above.
constexpr bool valid(const Shape& s) {
    return s.nodes != 0 && s.lanes != 0 && s.refs != 0 && s.objects != 0 && s.slots != 0 &&
           u64{s.nodes} * s.lanes <= MAX_WRITERS && s.objects < 0xffff'ffff;
}

/// Offsets and strides in the tables. Rows begin on a line of their own.
struct Layout {
    usize lanes, seen, seen_row, refs, refs_row, rings, ring, objects, directory, bytes;
};

/// Where everything lies for `shape`; `bytes` is the size of all. Nodes are at offset 0.
constexpr Layout layout_of(const Shape& s) {
    Layout l{};
    l.lanes = s.nodes * sizeof(NodeEntry);
    l.seen = l.lanes + usize{s.nodes} * s.lanes * sizeof(LaneEntry);
    l.seen_row = round_up((usize{s.nodes} * s.lanes + 1) * sizeof(Word), CACHE_LINE);
    l.refs = l.seen + s.nodes * l.seen_row;
    l.refs_row = round_up(s.refs * sizeof(Word), CACHE_LINE);
    l.rings = l.refs + s.nodes * l.refs_row;
    // tail (the sender's line), head (the receiver's line), cells
    l.ring = 2 * CACHE_LINE + round_up(s.slots * sizeof(MessageEntry), CACHE_LINE);
    l.objects = l.rings + usize{s.nodes} * s.nodes * l.ring;
    l.directory = l.objects + usize{s.objects} * sizeof(ObjectEntry);
    l.bytes = l.directory + usize{s.nodes} * s.clients * sizeof(DirectoryEntry);
    return l;
}

/// The tables in a mapping. `base` is a multiple of a cache line; the addresses may differ from
/// process to process, what is stored are offsets and indices. The chunk words are the pool's.
struct Tables {
    u8* base = nullptr;
    Shape shape{};
    Layout at{};
    Word* chunks = nullptr;
    u32 chunk_count = 0;

    u32 writer(u32 node, u32 lane) const { return 1 + node * shape.lanes + lane; }
    bool has_writer(u32 writer) const { return writer - 1 < shape.nodes * shape.lanes; }
    bool has_object(u64 object) const { return object < shape.objects; }
    /// shape.nodes: there is no such writer.
    u32 node_of(u32 writer) const {
        return has_writer(writer) ? (writer - 1) / shape.lanes : shape.nodes;
    }

    Word& word_at(usize offset) const { return *reinterpret_cast<Word*>(base + offset); }
    usize offset_of(const Word& word) const {
        return static_cast<usize>(reinterpret_cast<const u8*>(&word) - base);
    }
    template <class T>
    T& at_offset(usize offset) const {
        return *reinterpret_cast<T*>(base + offset);
    }
    NodeEntry& entry(u32 node) const { return at_offset<NodeEntry>(node * sizeof(NodeEntry)); }
    Word& node(u32 i) const { return entry(i).word; }
    /// Bit i: node i waits for other nodes to give up references to its objects.
    Word& waiting() const { return entry(0).waiting; }
    /// A bit for each node that there can be.
    u64 all_nodes() const { return shape.nodes < 64 ? (u64{1} << shape.nodes) - 1 : ~u64{0}; }
    LaneEntry& lane(u32 writer) const {
        return at_offset<LaneEntry>(at.lanes + (writer - 1) * sizeof(LaneEntry));
    }
    /// The largest era of `writer` that `node` has seen in a count word.
    Word& seen(u32 node, u32 writer) const {
        return word_at(at.seen + node * at.seen_row + writer * sizeof(Word));
    }
    Word& ref(u32 node, u32 i) const {
        return word_at(at.refs + node * at.refs_row + i * sizeof(Word));
    }
    usize ring(u32 from, u32 to) const {
        return at.rings + (usize{from} * shape.nodes + to) * at.ring;
    }
    /// Positions in the ring, which only grow: the next message comes after the one at `tail`, the
    /// oldest lies at `head`. Hints: wrong ones cost time and order only.
    Word& tail(u32 from, u32 to) const { return word_at(ring(from, to)); }
    Word& head(u32 from, u32 to) const { return word_at(ring(from, to) + CACHE_LINE); }
    MessageEntry& message_entry(u32 from, u32 to, u32 slot) const {
        return at_offset<MessageEntry>(ring(from, to) + 2 * CACHE_LINE +
                                       slot * sizeof(MessageEntry));
    }
    Word& message(u32 from, u32 to, u32 slot) const { return message_entry(from, to, slot).cell; }
    ObjectEntry& object(u32 i) const {
        return at_offset<ObjectEntry>(at.objects + i * sizeof(ObjectEntry));
    }
    Word& count(u32 i) const { return object(i).count; }
    DirectoryEntry& client(u32 node, u32 i) const {
        return at_offset<DirectoryEntry>(at.directory + (usize{node} * shape.clients + i) *
                                                            sizeof(DirectoryEntry));
    }
    /// The objects that `node` may create: [first, first + objects_per_node()).
    u32 objects_per_node() const { return shape.objects / shape.nodes; }
    u32 first_object(u32 node) const { return node * objects_per_node(); }
};

/// The tables of `shape` at `base`.
inline Tables tables_at(void* base, const Shape& shape, Word* chunks = nullptr,
                        u32 chunk_count = 0) {
    return {static_cast<u8*>(base), shape, layout_of(shape), chunks, chunk_count};
}

}  // namespace aep::era
