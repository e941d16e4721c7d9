// Purpose: the walk over a context that is in use: header, clients, slots, chunk owners against the
//          pool's table, metadata that must be clear, counters; and the pool's own walk.
// Who calls it: `aep check` through the daemon, tests.
// Crash rule: reads only.
#include <unistd.h>

#include "dsm-core/base/copied.hpp"
#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/era/flush.hpp"
#include "dsm-core/era/judge.hpp"
#include "dsm-core/pool/check.hpp"
#include "dsm-core/sharing/share_ops.hpp"
#include "node/check_sharing.hpp"
#include "node/file_lock.hpp"
#include "node/findings.hpp"
#include "shim/context/context_file.hpp"

namespace aep {
namespace {

std::string named(const char* kind, u32 index) {
    return std::string(kind).append(" ").append(std::to_string(index));
}

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

void check_clients(int fd, Findings& found) {
    for (u32 i = 1; i <= context().max_clients && !found.over(); ++i) {
        const ClientEntry& entry = client_at(i);
        const u32 state = entry.state.load(std::memory_order_acquire);
        if (state > static_cast<u32>(ClientState::recovering)) {
            found.add(named("client", i), "its state is none", state, 0);
            continue;
        }
        const bool locked = somebody_locks(fd, CLIENT_LOCKS_OFFSET + i);
        if (state == static_cast<u32>(ClientState::free)) {
            if (locked) found.add(named("client", i), "its entry is free, but it lives", 1, 0);
            const u64 domain = context_offset_of_meta(reinterpret_cast<uptr>(&domain_at(i)));
            const off_t data = lseek(fd, static_cast<off_t>(domain), SEEK_DATA);
            if (data >= 0 && static_cast<u64>(data) < domain + DOMAIN_STRIDE) {
                found.add(named("client", i), "its entry is free, its domain is not empty",
                          static_cast<u64>(data) - domain, 0);
            }
        }
    }
}

void check_slots(int fd, Findings& found) {
    for (u32 i = 0; i < context().max_slots && !found.over(); ++i) {
        const Slot& slot = slot_at(i);
        const uptr top = stack_top_of(i);
        if (const u64 stack = copied(slot.stack_top); stack != top) {
            found.add(named("slot", i), "its stack is another's", stack, top);
        }
        const auto owner = [&] { return SlotOwner{slot.owner.load(std::memory_order_acquire)}; };
        const auto operation = [&] { return copied(slot.op); };
        const auto is_odd = [&] { return (slot.sequence.load() & 1) != 0; };
        if (owner().bits == 0) {
            if (found.stays([&] { return owner().bits == 0 && is_odd(); })) {
                found.add(named("slot", i), "nobody's, but an operation is open",
                          slot.sequence.load(), slot.sequence.load() & ~1u);
            }
            continue;
        }
        if (i == host_slot() && found.stays([&] {
                return owner().bits != 0 &&
                       somebody_locks(fd, CLIENT_LOCKS_OFFSET + owner().client());
            })) {
            found.add(named("slot", i), "the host's, but a living client has it", owner().client(),
                      0);
        }
        const auto strange = [&] {
            const SlotOwner o = owner();
            if (o.bits == 0) return false;
            const u32 c = o.client();
            if (c == 0 && i == host_slot()) return false;  // for no client in particular
            return o.state() != SlotState::used || c == 0 || c > context().max_clients ||
                   client_at(c).state.load() == static_cast<u32>(ClientState::free) ||
                   client_at(c).generation.load() != o.generation();
        };
        if (found.stays(strange)) {
            found.add(named("slot", i), "it belongs to no client", owner().bits, 0);
        } else if (is_odd() && operation() != 0 && found.stays([&] {
                       const u32 op = operation();
                       return !known_operation(op) && !known_share_op(op);
                   })) {
            found.add(named("slot", i), "an operation is open that is none", operation(), 0);
        }
    }
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
        if ((d->free | d->zero | d->committed | d->dirty | d->rank | d->holder.load()) != 0) {
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
            if (array.base == DESCS.base) {
                bits = kind_of(reinterpret_cast<const PageDesc*>(slice)->tag.load());
            } else {
                for (usize w = 0; w < each; ++w) bits |= slice[w];
            }
            if (bits != 0) {
                found.add(named("slice", first + i), "nobody holds it, but it is in use", bits, 0);
            }
        }
    }
}

/// What the nodes have written between them.
void check_words_of_nodes(const era::Tables& t, Findings& found) {
    era::LocalMemory memory;
    era::each_damage(memory, t, [&](const era::Damage& d) {
        found.add("node " + std::to_string(d.node + 1),
                  std::string("no sound node wrote its ") + d.what + " at offset " +
                      std::to_string(d.offset),
                  d.found, 0);
    });
}

}  // namespace

std::vector<Finding> NodeHost::check(u64 longest_ns) {
    Findings found(monotonic_ns() + longest_ns);
    const int fd = context_fd_.get();
    check_header(fd, found);
    check_clients(fd, found);
    check_slots(fd, found);

    const PoolTables& tables = pool_->tables;
    const u64 ours = ChunkWord::owned(pool_->owner.node, pool_->owner.generation).bits;
    const auto now = [](u32 c) { return chunk_owner(c).load(std::memory_order_acquire); };
    for (u32 c = 0; c < context().chunk_count && !found.over(); ++c) {
        const u32 owner = now(c);
        const u32 client = owner & ~OWNER_CLAIMING;
        const bool special = owner == OWNER_NOBODY || owner == OWNER_CACHED ||
                             owner == OWNER_RETURNING || owner == OWNER_KEPT;
        if (!special && (client == 0 || client > context().max_clients)) {
            found.add(named("chunk", c), "its owner is none", owner, 0);
            continue;
        }
        const auto of_free_client = [&] {
            return now(c) == owner &&
                   client_at(client).state.load() == static_cast<u32>(ClientState::free);
        };
        if (!special && found.stays(of_free_client)) {
            found.add(named("chunk", c), "its owner is a client that is none", owner, 0);
        }
        const auto not_in_pool = [&] {
            const u32 o = now(c);
            return o != OWNER_NOBODY && o != OWNER_RETURNING && (o & OWNER_CLAIMING) == 0 &&
                   tables.chunk(c).bits != ours;
        };
        if (found.stays(not_in_pool)) {
            found.add(named("chunk", c), "it has an owner, but the pool says it is not ours",
                      tables.chunk(c).bits, ours);
        }
        if (found.stays([&] { return now(c) == OWNER_NOBODY && tables.chunk(c).bits == ours; })) {
            found.add(named("chunk", c), "the pool says it is ours, but nobody has it", 0,
                      OWNER_CACHED);
        }
        if (owner == OWNER_CACHED || owner == OWNER_NOBODY) {
            Findings first(found.end_ns());
            check_unused(fd, c, first);
            // A client may have taken it meanwhile.
            if (!first.empty() && now(c) == owner) {
                Findings second(found.end_ns());
                check_unused(fd, c, second);
                if (now(c) == owner) found.add(second);
            }
        }
    }
    check_sharing(found);

    if (membership_ != nullptr) check_words_of_nodes(membership_->tables(), found);

    PoolReport report;
    const Superblock& s = pool_->file.superblock;
    if (!pool_check(reinterpret_cast<const void*>(pool_mapping_base(pool_->file)), s.file_bytes,
                    report)) {
        found.add("pool at offset " + std::to_string(report.fault.offset), report.fault.field,
                  report.fault.found, report.fault.expected);
    }
    if (tables.node(pool_->owner.node).bits !=
        NodeWord::make(NodeState::live, pool_->owner.generation).bits) {
        found.add("pool", "our node's entry is not live", tables.node(pool_->owner.node).bits,
                  NodeWord::make(NodeState::live, pool_->owner.generation).bits);
    }
    if (poisoned()) found.add("header", "poisoned: " + poison_text(), 2, 1);
    if (membership_ != nullptr && membership_->damaged() != 0) {
        found.add("nodes", "words that no sound node wrote were skipped by recovery",
                  membership_->damaged(), 0);
    }
    if (broken_ != 0) {
        found.add("clients", "heaps of dead clients were broken", broken_, 0);
    }
    return std::move(found).list();
}

}  // namespace aep
