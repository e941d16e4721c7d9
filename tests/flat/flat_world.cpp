// Purpose: see flat_world.hpp.
// Who calls it: tests/flat/*.cpp.
// Crash rule: this is the test of the crash rules.
#include "tests/flat/flat_world.hpp"

#include <fmt/format.h>

#include <set>

namespace aep::flat::test {
namespace {

struct Died {};

/// Calls `visit(client or clients, cell)` for every cell; messages belong to nobody.
template <class Visit>
void each_cell(const era::Tables& t, Visit&& visit) {
    for (u32 client = 0; client < t.shape.nodes; ++client) {
        for (u32 i = 0; i < t.shape.refs; ++i) visit(client, era::Cell{t.ref(client, i).load()});
        for (u32 to = 0; to < t.shape.nodes; ++to)
            for (u32 i = 0; i < t.shape.slots; ++i)
                visit(t.shape.nodes, era::Cell{t.message(client, to, i).load()});
    }
}

}  // namespace

FlatWorld::FlatWorld() {
    static_assert(GEOMETRY.pages << (GEOMETRY.page_shift - GRANULE_SHIFT) == BLOCKS);
    space_ = std::make_unique<u8[]>(Pool::bytes(GEOMETRY) + CACHE_LINE);
    const uptr base = round_up(reinterpret_cast<uptr>(space_.get()), CACHE_LINE);
    pool_ = std::make_unique<Pool>(reinterpret_cast<void*>(base), GEOMETRY);
}

void FlatWorld::begin() {
    memory.reset(pool_->tables(), Pool::metadata_bytes(GEOMETRY));
    failure_.clear();
    for (u32 i = 0; i < GEOMETRY.clients; ++i) {
        held_[i].clear();
        alive_[i] = true;
        memory.host = memory.caller = i;
        clients_[i] = std::make_unique<SimClient>(memory, *pool_, i);
    }
    memory.write_back_all();
}

SimClient& FlatWorld::as(u32 who) {
    memory.host = memory.caller = who;
    return *clients_[who];
}

bool FlatWorld::dies_at(u32 who, u64 last, u64 evicted, const std::function<void()>& operation) {
    u64 accesses = 0;
    as(who);
    memory.before = [&](Access, const Word&) {
        ++accesses;
        if (accesses == evicted)
            for (const usize line : memory.dirty(who)) memory.evict(line);
        if (accesses == last) throw Died{};
    };
    bool died = false;
    try {
        operation();
    } catch (const Died&) {
        died = true;
    }
    memory.before = [](Access, const Word&) {};
    return died;
}

void FlatWorld::crash(u32 who) {
    const std::vector<usize> lines = memory.dirty(who);
    const bool few = lines.size() <= 4;
    const u32 kept = choices_.choose_evenly(few ? 1U << lines.size() : 2);
    for (usize i = 0; i < lines.size(); ++i)
        memory.settle(lines[i], few ? (kept >> i & 1) == 0 : kept == 0);
    alive_[who] = false;
    held_[who].clear();
}

void FlatWorld::recover(u32 dead, u32 by) {
    const Status status = as(by).recover(dead);
    if (status != Status::ok && status != Status::no_node)
        fail(fmt::format("recovery of client {} says {}", dead, static_cast<int>(status)));
}

void FlatWorld::fail(const std::string& what) {
    if (failure_.empty()) failure_ = what;
}

void FlatWorld::check() {
    check_counts();
    check_held();
    if (failure_.empty()) use_all();
}

/// Every count is the number of references, and no cell is half changed.
void FlatWorld::check_counts() {
    const era::Tables& t = pool_->tables();
    std::vector<u32> references(t.shape.objects);
    each_cell(t, [&](u32, era::Cell cell) {
        if (cell.claimer() != era::NOBODY)
            fail("a cell is still claimed");
        else if (cell.holds())
            ++references[cell.object()];
    });
    for (u32 i = 0; i < t.shape.objects; ++i) {
        const era::CountWord word{t.count(i).load()};
        if (word.count() != references[i]) {
            fail(fmt::format("object {} has count {}, references {}", i, word.count(),
                             references[i]));
        } else if (references[i] == 0 && word.bits != era::FREE_OBJECT.bits) {
            fail(fmt::format("object {} at 0 was never freed", i));
        }
    }
}

/// A client has what it was told that it has, a dead one nothing: no reference, no page.
void FlatWorld::check_held() {
    const era::Tables& t = pool_->tables();
    usize found[GEOMETRY.clients + 1] = {};
    each_cell(t, [&](u32 client, era::Cell cell) { found[client] += cell.holds(); });
    for (u32 i = 0; i < GEOMETRY.clients; ++i) {
        for (const Ref ref : held_[i])
            if (t.ref(i, ref.cell).load() != era::Cell::of(ref.object).bits)
                fail(fmt::format("client {} lost a reference", i));
        if (found[i] != held_[i].size()) fail(fmt::format("client {} has a reference too many", i));
        for (u32 page = 0; page < t.chunk_count; ++page) {
            const ChunkWord word{t.chunks[page].load()};
            if (!alive_[i] && word.bits != FREE_CHUNK.bits && word.node() == i)
                fail("a page is still the dead client's");
        }
    }
}

/// Drops everything, lets the dead join again, and then allocates every block exactly once.
void FlatWorld::use_all() {
    for (u32 i = 0; i < GEOMETRY.clients; ++i) {
        if (!alive_[i]) {
            memory.host = memory.caller = i;
            clients_[i] = std::make_unique<SimClient>(memory, *pool_, i);
            if (!clients_[i]->joined()) {
                fail(fmt::format("client {} cannot join again", i));
                return;
            }
        }
        for (const Ref ref : held_[i])
            if (as(i).release(ref) != Status::ok)
                fail(fmt::format("client {} cannot drop a reference", i));
        for (u32 from = 0; from < GEOMETRY.clients; ++from) {
            Ref ref{};
            while (from != i && as(i).receive(from, ref) == Status::ok) as(i).release(ref);
        }
    }
    std::set<u32> objects;
    for (u32 i = 0; i < GEOMETRY.clients; ++i) {
        Ref ref{};
        while (as(i).allocate(GRANULE, ref) == Status::ok) {
            if (!objects.insert(ref.object).second) {
                fail(fmt::format("object {} was allocated twice", ref.object));
                return;
            }
        }
    }
    if (objects.size() != BLOCKS) fail(std::to_string(BLOCKS - objects.size()) + " blocks leaked");
}

}  // namespace aep::flat::test
