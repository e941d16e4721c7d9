// Purpose: see checker.hpp.
// Who calls it: see checker.hpp.
// Crash rule: see checker.hpp.
#include "node/checker.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "dsm-core/base/copied.hpp"
#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/era/flush.hpp"
#include "dsm-core/era/judge.hpp"
#include "dsm-core/pool/check.hpp"
#include "dsm-core/sharing/share_ops.hpp"
#include "node/check_sharing.hpp"
#include "node/context_state.hpp"
#include "shim/context/context_file.hpp"

namespace aep {
namespace {

std::string named(const char* kind, u32 index) { return fmt::format("{} {}", kind, index); }

void check_header(int fd, Findings& found) {
    // In the file: what we go by is a copy, which nobody can change.
    ContextConstants constants;
    if (const ContextFault fault = verify_context(fd, constants)) {
        found.add("header", fault.field, fault.found, fault.expected);
    } else if (constants.checksum != context().checksum) {
        found.add("header", "its constants are others than when the context was opened",
                  constants.checksum, context().checksum);
    }
}

void check_clients(const ServedContext& served, Findings& found) {
    for (u32 i = 1; i <= context().max_clients && !found.over(); ++i) {
        const ClientEntry& entry = client_at(i);
        const u32 state = entry.state.load(std::memory_order_acquire);
        if (state > static_cast<u32>(ClientState::recovering)) {
            found.add(named("client", i), "its state is none", state, 0);
            continue;
        }
        const bool locked = served.lives(i);
        if (state == static_cast<u32>(ClientState::free)) {
            if (locked) found.add(named("client", i), "its entry is free, but it lives", 1, 0);
            const u64 domain = context_offset_of_meta(reinterpret_cast<uptr>(&domain_at(i)));
            const off_t data = lseek(served.fd(), static_cast<off_t>(domain), SEEK_DATA);
            if (data >= 0 && static_cast<u64>(data) < domain + DOMAIN_STRIDE) {
                found.add(named("client", i), "its entry is free, its domain is not empty",
                          static_cast<u64>(data) - domain, 0);
            }
        }
    }
}

void check_slot(u32 index, const ServedContext& served, Findings& found) {
    const Slot& slot = slot_at(index);
    const std::string name = named("slot", index);
    const uptr top = stack_top_of(index);
    if (const u64 stack = copied(slot.stack_top); stack != top)
        found.add(name, "its stack is another's", stack, top);
    const auto owner = [&] { return SlotOwner{slot.owner.load(std::memory_order_acquire)}; };
    const auto operation = [&] { return copied(slot.op); };
    const auto is_odd = [&] { return (slot.sequence.load() & 1) != 0; };
    if (owner().bits == 0) {
        if (found.stays([&] { return owner().bits == 0 && is_odd(); })) {
            found.add(name, "nobody's, but an operation is open", slot.sequence.load(),
                      slot.sequence.load() & ~1u);
        }
        return;
    }
    if (index == host_slot() &&
        found.stays([&] { return owner().bits != 0 && served.lives(owner().client()); }))
        found.add(name, "the host's, but a living client has it", owner().client(), 0);
    const auto strange = [&] {
        const SlotOwner o = owner();
        if (o.bits == 0) return false;
        const u32 c = o.client();
        if (c == 0 && index == host_slot()) return false;  // for no client in particular
        return o.state() != SlotState::used || c == 0 || c > context().max_clients ||
               client_at(c).state.load() == static_cast<u32>(ClientState::free) ||
               client_at(c).generation.load() != o.generation();
    };
    const auto unknown = [&] { return !is_operation(operation()); };
    if (found.stays(strange))
        found.add(name, "it belongs to no client", owner().bits, 0);
    else if (is_odd() && operation() != 0 && found.stays(unknown))
        found.add(name, "an operation is open that is none", operation(), 0);
}

void check_slots(const ServedContext& served, Findings& found) {
    for (u32 i = 0; i < context().max_slots && !found.over(); ++i) check_slot(i, served, found);
}

/// The bits of a chunk's descriptor and its slices' tags that must be zero while nobody holds it.
/// Of the file, not of its mapping: a look at what has no memory there would make some, and there
/// may be none left.
void check_unused(int fd, u32 chunk, Findings& found) {
    const auto copy_of = [fd](uptr address, usize bytes) {
        std::vector<u64> words(bytes / sizeof(u64));
        const u64 at = context_offset_of_meta(address);
        const off_t data = lseek(fd, static_cast<off_t>(at), SEEK_DATA);
        const bool some = data >= 0 && static_cast<u64>(data) < at + bytes;
        if (!some || pread(fd, words.data(), bytes, static_cast<off_t>(at)) < 0) words.clear();
        return words;
    };
    const std::vector<u64> own =
        copy_of(reinterpret_cast<uptr>(chunk_desc(ChunkIndex{chunk})), sizeof(ChunkDesc));
    if (!own.empty()) {
        const auto* d = reinterpret_cast<const ChunkDesc*>(own.data());
        if ((d->free | d->zero | d->committed | d->dirty | d->bitmaps | d->rank |
             d->holder.load()) != 0) {
            found.add(named("chunk", chunk), "nobody holds it, but it has a descriptor",
                      d->holder.load(), 0);
        }
    }
    const u32 first = raw(first_slice(ChunkIndex{chunk}));
    for (const MetaArray& array : {DESCS, BLOCK_BITS}) {
        const std::vector<u64> words =
            copy_of(array.base + array.stride * first, array.stride * SLICES_PER_CHUNK);
        const usize each = array.stride / sizeof(u64);
        for (u32 i = 0; i < SLICES_PER_CHUNK && !words.empty(); ++i) {
            const u64* slice = words.data() + each * i;
            u64 bits = 0;
            if (array.base == DESCS.base)
                bits = kind_of(reinterpret_cast<const PageDesc*>(slice)->tag.load());
            else
                for (usize w = 0; w < each; ++w) bits |= slice[w];
            if (bits != 0)
                found.add(named("slice", first + i), "nobody holds it, but it is in use", bits, 0);
        }
    }
}

/// What the nodes have written between them.
void check_words_of_nodes(const era::Tables& t, Findings& found) {
    era::LocalMemory memory;
    era::each_damage(memory, t, [&](const era::Damage& d) {
        found.add(named("node", d.node + 1),
                  fmt::format("no sound node wrote its {} at offset {}", d.what, d.offset), d.found,
                  0);
    });
}

}  // namespace

/// The chunk's word in the context against the pool's, and what lies in it.
void Checker::check_chunk(u32 chunk, Findings& found) const {
    const PoolTables& tables = pool_.tables();
    const u64 ours = ChunkWord::owned(pool_.owner().node, pool_.owner().generation).bits;
    const auto now = [chunk] { return chunk_owner(chunk).load(std::memory_order_acquire); };
    const u32 owner = now();
    const u32 client = owner & ~OWNER_CLAIMING;
    const bool special = owner == OWNER_NOBODY || owner == OWNER_CACHED ||
                         owner == OWNER_RETURNING || owner == OWNER_KEPT;
    if (!special && (client == 0 || client > context().max_clients)) {
        found.add(named("chunk", chunk), "its owner is none", owner, 0);
        return;
    }
    const auto of_free_client = [&] {
        return now() == owner &&
               client_at(client).state.load() == static_cast<u32>(ClientState::free);
    };
    if (!special && found.stays(of_free_client))
        found.add(named("chunk", chunk), "its owner is a client that is none", owner, 0);
    const auto not_in_pool = [&] {
        const u32 o = now();
        return o != OWNER_NOBODY && o != OWNER_RETURNING && (o & OWNER_CLAIMING) == 0 &&
               tables.chunk(chunk).unmarked().bits != ours;
    };
    if (found.stays(not_in_pool)) {
        found.add(named("chunk", chunk), "it has an owner, but the pool says it is not ours",
                  tables.chunk(chunk).bits, ours);
    }
    const auto not_here = [&] {
        return now() == OWNER_NOBODY && tables.chunk(chunk).unmarked().bits == ours;
    };
    if (found.stays(not_here)) {
        found.add(named("chunk", chunk), "the pool says it is ours, but nobody has it", 0,
                  OWNER_CACHED);
    }
    if (owner == OWNER_CACHED || owner == OWNER_NOBODY) {
        Findings first(found.end_ns());
        check_unused(served_.fd(), chunk, first);
        // A client may have taken it meanwhile.
        if (!first.empty() && now() == owner) {
            Findings second(found.end_ns());
            check_unused(served_.fd(), chunk, second);
            if (now() == owner) found.add(second);
        }
    }
}

/// The pool's own walk, and our entry in it.
void Checker::check_pool(Findings& found) const {
    PoolReport report;
    if (!pool_check(reinterpret_cast<const void*>(pool_mapping_base(pool_.file())),
                    pool_.file().superblock.file_bytes, report)) {
        found.add(fmt::format("pool at offset {}", report.fault.offset), report.fault.field,
                  report.fault.found, report.fault.expected);
    }
    const u64 entry = pool_.tables().node(pool_.owner().node).bits;
    const u64 live = PoolNodeWord::make(PoolNodeState::live, pool_.owner().generation).bits;
    if (entry != live) found.add("pool", "our node's entry is not live", entry, live);
}

/// What others have found before.
void Checker::check_verdicts(Findings& found) const {
    if (is_fenced()) {
        found.add("header",
                  "fenced: other nodes have declared this one dead and taken its references back: "
                  "end its clients, "
                  "then aep down and aep up",
                  1, 0);
    }
    if (is_poisoned()) found.add("header", fmt::format("poisoned: {}", poison_text()), 2, 1);
    const Membership* const membership = member_.membership();
    if (membership != nullptr && membership->damaged() != 0) {
        found.add("nodes", "words that no sound node wrote were skipped by recovery",
                  membership->damaged(), 0);
    }
    for (u32 i = 0; membership != nullptr && i < membership->tables().shape.nodes; ++i) {
        if (!membership->is_suspect(i)) continue;
        found.add(fmt::format("node {}", i + 1),
                  "suspect: it gives no sign of life, and nobody knows that it is cut off", 1, 0);
    }
    if (membership != nullptr && !membership->has_quorum()) {
        found.add("nodes", "this one has no quorum: it shares nothing with others until it has", 0,
                  1);
    }
    if (verifier_.broken() != 0)
        found.add("clients", "heaps of dead clients were broken", verifier_.broken(), 0);
}

std::vector<Finding> Checker::check(u64 longest_ns) const {
    Findings found(monotonic_ns() + longest_ns);
    check_header(served_.fd(), found);
    check_clients(served_, found);
    check_slots(served_, found);
    for (u32 c = 0; c < context().chunk_count && !found.over(); ++c) check_chunk(c, found);
    check_sharing(found);
    if (member_.membership() != nullptr)
        check_words_of_nodes(member_.membership()->tables(), found);
    check_pool(found);
    check_verdicts(found);
    return std::move(found).list();
}

}  // namespace aep
