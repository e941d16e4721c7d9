// Purpose: see world.hpp.
// Who calls it: see world.hpp.
// Crash rule: see world.hpp.
#include "tests/hosted/world.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/era/recovery.hpp"
#include "dsm-core/pool/superblock.hpp"
#include "dsm-core/sharing/records.hpp"
#include "dsm-core/sharing/topics.hpp"
#include "node/check_sharing.hpp"
#include "shim/context/context_file.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) static_cast<void>(address)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) static_cast<void>(address)
#endif

namespace aep::test {
namespace {

constexpr usize FORBIDDEN = MiB;  // behind what may be touched

}  // namespace

World::World(const WorldShape& shape) : shape_(shape) {
    make_pool();
    for (u32 node = 0; node < shape_.nodes; ++node) make_context(node);
}

World::~World() {
    for (u32 node = 0; node < shape_.nodes; ++node) {
        const Inside here(*this, node);
        ASAN_UNPOISON_MEMORY_REGION(reinterpret_cast<void*>(control_base()), CONTROL_WINDOW);
        munmap(reinterpret_cast<void*>(control_base()), CONTROL_WINDOW);
        munmap(reinterpret_cast<void*>(stacks_base()), usize{shape_.slots + 1} * STACK_STRIDE);
        close(files_[node]);
    }
    munmap(pool_, pool_mapped_);
}

void World::make_pool() {
    era::Shape shared{};
    if (shape_.nodes > 1) {
        // Small, so that numbers, lanes and rings run out.
        shared = {.nodes = shape_.nodes,
                  .lanes = 4,
                  .refs = 256 * shape_.nodes,
                  .objects = 256 * shape_.nodes,
                  .slots = 24,
                  .clients = shape_.clients + 1};
    }
    Superblock superblock;
    const u8 uuid[16] = {1};
    make_superblock(superblock, shape_.pool_bytes, uuid, shared, era::region_bytes(shared));
    pool_shape_ = shape_of(superblock);
    pool_mapped_ = superblock.chunks_offset;
    void* at = mmap(nullptr, pool_mapped_, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT_NE(at, MAP_FAILED);
    pool_ = static_cast<u8*>(at);
}

void World::make_context(u32 node) {
    const bool shared = shape_.nodes > 1;
    ContextPlan plan;
    plan.name = "hosted";
    plan.max_clients = shape_.clients;
    plan.max_slots = shape_.slots;
    plan.pool = pool_shape_;
    plan.pool_address = reinterpret_cast<u64>(pool_);
    plan.era_node = shared ? node : era::NO_NODE;
    plan.era_objects = shared ? pool_shape_.era.objects : 0;
    files_.push_back(memfd_create("aep-hosted", MFD_CLOEXEC));
    ASSERT_GE(files_.back(), 0);
    ASSERT_EQ(format_context(files_.back(), plan), 0);
    ContextConstants constants;
    const ContextFault fault = verify_context(files_.back(), constants);
    ASSERT_FALSE(fault) << fault.field;
    const Inside here(*this, node);
    ASSERT_EQ(map_control(files_.back(), constants), 0);
    ASSERT_EQ(map_stacks(files_.back(), constants, false), 0);
    context().node = node;
    context().node_generation = 1;
    open_records(shape_.records, shape_.records);
    sharing().exports_present.put(shape_.records);  // nobody else is there yet
    sharing().holders_present.put(shape_.records);
    if (!shared) return;
    era::LocalMemory memory;
    const era::NodeWord live = era::join(memory, era_tables(), node);
    ASSERT_NE(live.bits, 0u);
    context().era_generation = live.generation();
    era_tables().entry(node).generation.store(live.generation());
}

void open_records(u32 exports, u32 holders) {
    ASAN_UNPOISON_MEMORY_REGION(&export_at(0), exports * sizeof(Export));
    ASAN_UNPOISON_MEMORY_REGION(&side_at(0), exports * sizeof(ExportSide));
    ASAN_UNPOISON_MEMORY_REGION(&holder_at(0), holders * sizeof(Holder));
    ASAN_POISON_MEMORY_REGION(&export_at(exports), FORBIDDEN);
    ASAN_POISON_MEMORY_REGION(&side_at(exports), FORBIDDEN);
    ASAN_POISON_MEMORY_REGION(&holder_at(holders), FORBIDDEN);
    ASAN_POISON_MEMORY_REGION(ring_of(0),
                              MAILBOX_MESSAGES * sizeof(Message));  // client 0 is the host
}

std::string walk() {
    Findings found(Findings::ALL_DAY);
    check_sharing(found);
    std::string text;
    for (const Finding& f : std::move(found).list())
        text += fmt::format("{}: {} ({}, expected {})\n", f.where, f.what, f.found, f.expected);
    return text;
}

std::string remains() {
    std::string text = walk();
    const auto none = [&](const char* what, u64 count) {
        if (count != 0) text += fmt::format("{} {} are left\n", count, what);
    };
    const ShareHeader& s = sharing();
    const ShareCounts all = count_shares();
    none("exports", all.exports);
    none("holders", all.holders);
    none("orphans", all.orphans);
    none("groups", all.groups);
    none("extents", all.extents);
    none("exports that wait", s.deferred.count);
    none("exports that visit", s.visiting.count);
    for (const SlotLock* lock : {&s.names, &s.records, &s.numbers, &s.lingering})
        none("holders of a lock", lock->holder() != SlotLock::NO_SLOT);
    for (u32 i = 0; i <= context().max_clients; ++i)
        none("holders of a client's lock",
             share_client(i).lock.taken().holder() != SlotLock::NO_SLOT);
    for (u32 i = 0; i < MOST_TOPICS; ++i)
        none("holders of a topic's lock",
             inbox_at(first_topic() + i).lock.holder() != SlotLock::NO_SLOT);
    for (u32 i = 0; i < STRIPES; ++i)
        none("holders of a stripe's lock", stripe_at(i).lock.holder() != SlotLock::NO_SLOT);
    for (u32 i = 0; i <= s.exports_used; ++i)
        none("holders of an export's lock", export_at(i).lock.holder() != SlotLock::NO_SLOT);
    none("bytes of clients", bytes_of_clients());
    const PoolTables pool =
        tables_of(reinterpret_cast<void*>(context().pool_address), context().pool);
    const u64 ours = ChunkWord::owned(context().node, context().node_generation).bits;
    u64 cached = 0, astray = 0;
    for (u32 c = 0; c < context().chunk_count; ++c) {
        const u32 owner = chunk_owner(c).load();
        cached += owner == OWNER_CACHED;
        astray += owner != OWNER_CACHED && owner != OWNER_NOBODY;
        astray += (owner == OWNER_CACHED) != (pool.chunk(c).bits == ours);
        none("exports of a chunk", chunk_exports(c).load());
    }
    none("chunks astray", astray);
    if (context().chunks_cached.load() != cached) {
        text += fmt::format("the cache counts {} chunks of {}\n", context().chunks_cached.load(),
                            cached);
    }
    for (u32 i = 0; i < context().max_slots; ++i) {
        none("slots with something owed", slot_at(i).owes.load() != 0);
        none("entries of a log", undo_log_of(i).seen_length());
        if (shares_between_nodes()) none("pins", pin_of(i).load() != NO_RECORD);
    }
    for (u32 i = 0; shares_between_nodes() && i < MAX_LANES; ++i)
        none("lanes", lane_taken(i).load() != 0);
    return text;
}

std::string pool_remains(bool all_gone) {
    const era::Tables t = era_tables();
    std::map<u32, u32> found;
    std::string text;
    const auto see = [&](const era::Word& word) {
        const era::Cell cell{word.load()};
        if (cell.claimer() != era::NOBODY) text += "a claim is left\n";
        if (cell.holds()) ++found[cell.object()];
    };
    for (u32 node = 0; node < t.shape.nodes; ++node) {
        for (u32 i = 0; i < t.shape.refs; ++i) see(t.ref(node, i));
        for (u32 to = 0; to < t.shape.nodes; ++to)
            for (u32 i = 0; to != node && i < t.shape.slots; ++i) see(t.message(node, to, i));
        for (u32 i = 0; i < t.shape.lanes; ++i) {
            const era::RedoHead head{t.lane(t.writer(node, i)).redo.head.load()};
            if (head.kind() != era::RedoKind::none) text += "a record is left\n";
        }
    }
    for (u32 i = 0; i < t.shape.objects; ++i) {
        const u32 count = era::CountWord{t.count(i).load()}.count();
        const auto references = found.find(i);
        const u32 expected = references == found.end() ? 0 : references->second;
        if (count != expected)
            text += fmt::format("object {} counts {} of {}\n", i, count, expected);
        if (all_gone && t.count(i).load() != era::FREE_OBJECT.bits)
            text += fmt::format("object {} is left\n", i);
    }
    return text;
}

}  // namespace aep::test
