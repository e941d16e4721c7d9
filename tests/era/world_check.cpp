// Purpose: what must hold when nothing is under way: counts, cells, records, nodes.
// Who calls it: tests/era/world.cpp after each execution.
// Crash rule: this is the test of the crash rules.
#include <fmt/format.h>

#include "tests/era/world.hpp"

namespace aep::era::test {
namespace {

/// Calls `visit(node or NO_HOST, ref or slot, cell)` for every cell of the tables.
template <class Visit>
void each_cell(const Tables& t, Visit&& visit) {
    for (u32 node = 0; node < t.shape.nodes; ++node) {
        for (u32 i = 0; i < t.shape.refs; ++i) visit(node, i, Cell{t.ref(node, i).load()});
        for (u32 to = 0; to < t.shape.nodes; ++to)
            for (u32 i = 0; i < t.shape.slots; ++i)
                visit(NO_HOST, i, Cell{t.message(node, to, i).load()});
    }
}

/// Cells that refer to `object` and are at rest: a claimed one may be of a release that is through
/// with the count.
u32 references(const Tables& t, u32 object) {
    u32 count = 0;
    each_cell(t, [&](u32, u32, Cell cell) { count += cell.bits == Cell::of(object).bits; });
    return count;
}

}  // namespace

void World::fail(const std::string& what) {
    if (failure_.empty()) failure_ = std::string(plan_.name) + ": " + what;
}

void World::reclaim(u32 object) {
    const CountWord word{t.count(object).load()};
    if (word.count() != 0 || word.bits == FREE_OBJECT.bits)
        fail(fmt::format("object {} freed twice, or while its count is {}", object, word.count()));
    if (references(t, object) != 0) fail(fmt::format("object {} freed while referred to", object));
}

void World::check() {
    check_objects();
    check_cells();
    for (u32 host = 0; host < t.shape.nodes; ++host) check_node(host);
    check_chunks();
    check_hints();
    if (failure_.empty()) use_again();
}

void World::check_objects() {
    for (u32 object = 0; object < t.shape.objects; ++object) {
        const CountWord word{t.count(object).load()};
        const u32 found = references(t, object);
        if (word.count() != found)
            fail(fmt::format("object {} has count {}, references {}", object, word.count(), found));
        else if (found == 0 && word.bits != FREE_OBJECT.bits)
            fail(fmt::format("object {} at 0 was never freed", object));
    }
}

void World::check_cells() {
    each_cell(t, [this](u32, u32 i, Cell cell) {
        if (cell.claimer() != NOBODY) fail(fmt::format("cell {} is still claimed", i));
    });
    for (u32 writer = 1; writer <= t.shape.nodes * t.shape.lanes; ++writer)
        if (RedoHead{t.lane(writer).redo.head.load()}.kind() != RedoKind::none)
            fail(fmt::format("writer {} has a transaction that nobody finished", writer));
}

/// A dead machine has nothing, a live one exactly what its clients count on.
void World::check_node(u32 host) {
    const std::string name = "node " + std::to_string(host);
    const NodeWord word{t.node(host).load()};
    if (alive_[host] ? word.bits != words_[host].bits : word.state() != NodeState::free)
        fail(name + " is in the wrong state");
    for (u32 i = 0; i < t.shape.refs; ++i) {
        const auto expected = held.find({host, i});
        const Cell cell{t.ref(host, i).load()};
        if (cell.bits != (expected == held.end() ? Cell::empty() : Cell::of(expected->second)).bits)
            fail(fmt::format("{} lost or kept reference {}", name, i));
    }
    for (u32 from = 0; !alive_[host] && from < t.shape.nodes; ++from) {
        for (u32 i = 0; i < t.shape.slots; ++i)
            if (Cell{t.message(from, host, i).load()}.holds())
                fail(name + " is dead and has a message");
    }
}

/// Whoever looks where the hints say finds every message of a living node.
void World::check_hints() {
    LocalMemory local;
    for (u32 from = 0; from < t.shape.nodes; ++from) {
        for (u32 to = 0; alive_[from] && to < t.shape.nodes; ++to) {
            u32 there = 0;
            for (u32 i = 0; i < t.shape.slots; ++i)
                there += Cell{t.message(from, to, i).load()}.holds();
            u32 told = 0;
            each_message(local, t, from, to, false,
                         [&](const RemoteMessage&) { return ++told, false; });
            if (told != 0 && (t.entry(to).mail.load() >> from & 1) == 0)
                fail(fmt::format("{} is not told of messages from {}", to, from));
            if (told != there) {
                fail(fmt::format("of {} messages from {} to {} the hints tell of {}", there, from,
                                 to, told));
            }
        }
    }
}

void World::check_chunks() {
    for (u32 chunk = 0; chunk < t.chunk_count; ++chunk) {
        const auto expected = chunks.find(chunk);
        const u64 word =
            expected == chunks.end()
                ? FREE_CHUNK.bits
                : ChunkWord::owned(expected->second, words_[expected->second].generation()).bits;
        if (t.chunks[chunk].load() != word)
            fail(fmt::format("chunk {} was lost or not given back", chunk));
    }
}

/// Whoever is left can use every object, and a dead machine can come back.
void World::use_again() {
    for (u32 host = 0; host < t.shape.nodes; ++host) {
        act_as(host, 0);
        if (!alive_[host]) words_[host] = join(memory, t, host);
        Client again = client(host, 0);
        for (u32 object = 0; object < t.shape.objects; ++object) {
            for (u32 ref = 0; ref < t.shape.refs; ++ref) {
                if (held.contains({host, ref})) continue;
                const bool there = CountWord{t.count(object).load()}.count() != 0;
                const Status made = there ? again.attach(ref, object) : again.create(ref, object);
                const Status dropped = again.release(ref);
                if (made != Status::ok || dropped != (there ? Status::ok : Status::last))
                    fail(fmt::format("object {} cannot be used any more", object));
                break;
            }
        }
    }
}

}  // namespace aep::era::test
