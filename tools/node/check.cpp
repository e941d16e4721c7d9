// Purpose: the walk over a context that is in use: header, clients, slots, chunk owners against the
//          pool's table, metadata that must be clear, counters; and the pool's own walk.
// Who calls it: `aep check` through the daemon, tests.
// Crash rule: reads only.
#include <unistd.h>

#include <image_identity.hpp>
#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/pool/check.hpp"
#include "dsm-core/sharing/share_ops.hpp"
#include "shim/context_file.hpp"
#include "tools/node/check_sharing.hpp"
#include "tools/node/file_lock.hpp"
#include "tools/node/host.hpp"

namespace aep {
namespace {

using Findings = std::vector<Finding>;

/// How often something that running clients may be changing is looked at before it is believed.
constexpr int LOOKS = 64;

std::string named(const char* kind, u32 index) {
    return std::string(kind).append(" ").append(std::to_string(index));
}

/// Whether the broken state lasts: f() says that something is wrong.
template <class F>
bool stays(F&& f) {
    for (int i = 0; i < LOOKS; ++i) {
        if (!f()) return false;
        if (i > LOOKS / 2) usleep(100);
    }
    return true;
}

void check_header(int fd, Findings& found) {
    ContextHeader header;
    if (const ContextFault fault = verify_context(fd, header)) {
        found.push_back({"header", fault.field, fault.found, fault.expected});
    }
    const ContextHeader& h = context();
    if (h.image_hash != BUILT_IMAGE_HASH) {
        found.push_back({"header", "another image's", h.image_hash, BUILT_IMAGE_HASH});
    }
}

void check_clients(int fd, Findings& found) {
    for (u32 i = 1; i <= context().max_clients; ++i) {
        const ClientEntry& entry = client_at(i);
        const u32 state = entry.state.load(std::memory_order_acquire);
        if (state > static_cast<u32>(ClientState::recovering)) {
            found.push_back({named("client", i), "its state is none", state, 0});
            continue;
        }
        const bool locked = somebody_locks(fd, CLIENT_LOCKS_OFFSET + i);
        if (state == static_cast<u32>(ClientState::free)) {
            if (locked)
                found.push_back({named("client", i), "its entry is free, but it lives", 1, 0});
            const u64 domain = context_offset_of_meta(reinterpret_cast<uptr>(&domain_at(i)));
            const off_t data = lseek(fd, static_cast<off_t>(domain), SEEK_DATA);
            if (data >= 0 && static_cast<u64>(data) < domain + DOMAIN_STRIDE) {
                found.push_back({named("client", i), "its entry is free, its domain is not empty",
                                 static_cast<u64>(data) - domain, 0});
            }
        }
    }
}

void check_slots(int fd, Findings& found) {
    for (u32 i = 0; i < context().max_slots; ++i) {
        const Slot& slot = slot_at(i);
        const uptr top = stack_top_of(i);
        if (slot.stack_top != top) {
            found.push_back({named("slot", i), "its stack is another's", slot.stack_top, top});
        }
        const auto owner = [&] { return SlotOwner{slot.owner.load(std::memory_order_acquire)}; };
        const auto is_odd = [&] { return (slot.sequence.load() & 1) != 0; };
        if (owner().bits == 0) {
            if (stays([&] { return owner().bits == 0 && is_odd(); })) {
                found.push_back({named("slot", i), "nobody's, but an operation is open",
                                 slot.sequence.load(), slot.sequence.load() & ~1u});
            }
            continue;
        }
        if (i == host_slot() && stays([&] {
                return owner().bits != 0 &&
                       somebody_locks(fd, CLIENT_LOCKS_OFFSET + owner().client());
            })) {
            found.push_back(
                {named("slot", i), "the host's, but a living client has it", owner().client(), 0});
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
        if (stays(strange)) {
            found.push_back({named("slot", i), "it belongs to no client", owner().bits, 0});
        } else if (is_odd() && slot.op != 0 &&
                   stays([&] { return !known_operation(slot.op) && !known_share_op(slot.op); })) {
            found.push_back({named("slot", i), "an operation is open that is none", slot.op, 0});
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
            found.push_back({named("chunk", chunk), "nobody holds it, but it has a descriptor",
                             d->holder.load(), 0});
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
                found.push_back(
                    {named("slice", first + i), "nobody holds it, but it is in use", bits, 0});
            }
        }
    }
}

}  // namespace

std::vector<Finding> NodeHost::check() {
    Findings found;
    const int fd = context_fd_.get();
    check_header(fd, found);
    check_clients(fd, found);
    check_slots(fd, found);

    const PoolTables& tables = pool_->tables;
    const u64 ours = ChunkWord::owned(pool_->owner.node, pool_->owner.generation).bits;
    const auto now = [](u32 c) { return chunk_owner(c).load(std::memory_order_acquire); };
    u64 held = 0, cached = 0;
    for (u32 c = 0; c < context().chunk_count; ++c) {
        const u32 owner = now(c);
        const u32 client = owner & ~OWNER_CLAIMING;
        const bool special = owner == OWNER_NOBODY || owner == OWNER_CACHED ||
                             owner == OWNER_RETURNING || owner == OWNER_KEPT;
        cached += owner == OWNER_CACHED;
        held += owner != OWNER_NOBODY && (owner & OWNER_CLAIMING) == 0;
        if (!special && (client == 0 || client > context().max_clients)) {
            found.push_back({named("chunk", c), "its owner is none", owner, 0});
            continue;
        }
        const auto of_free_client = [&] {
            return now(c) == owner &&
                   client_at(client).state.load() == static_cast<u32>(ClientState::free);
        };
        if (!special && stays(of_free_client)) {
            found.push_back({named("chunk", c), "its owner is a client that is none", owner, 0});
        }
        const auto not_in_pool = [&] {
            const u32 o = now(c);
            return o != OWNER_NOBODY && o != OWNER_RETURNING && (o & OWNER_CLAIMING) == 0 &&
                   tables.chunk(c).bits != ours;
        };
        if (stays(not_in_pool)) {
            found.push_back({named("chunk", c), "it has an owner, but the pool says it is not ours",
                             tables.chunk(c).bits, ours});
        }
        if (stays([&] { return now(c) == OWNER_NOBODY && tables.chunk(c).bits == ours; })) {
            found.push_back({named("chunk", c), "the pool says it is ours, but nobody has it", 0,
                             OWNER_CACHED});
        }
        if (owner == OWNER_CACHED || owner == OWNER_NOBODY) {
            Findings unused;
            check_unused(fd, c, unused);
            // A client may have taken it meanwhile.
            if (!unused.empty() && now(c) == owner) {
                unused.clear();
                check_unused(fd, c, unused);
                if (now(c) == owner) found.insert(found.end(), unused.begin(), unused.end());
            }
        }
    }
    check_sharing(found);

    PoolReport report;
    const Superblock& s = pool_->file.superblock;
    if (!pool_check(reinterpret_cast<const void*>(pool_mapping_base(pool_->file)), s.file_bytes,
                    report)) {
        found.push_back({"pool at offset " + std::to_string(report.fault.offset),
                         report.fault.field, report.fault.found, report.fault.expected});
    }
    if (tables.node(pool_->owner.node).bits !=
        NodeWord::make(NodeState::live, pool_->owner.generation).bits) {
        found.push_back({"pool", "our node's entry is not live",
                         tables.node(pool_->owner.node).bits,
                         NodeWord::make(NodeState::live, pool_->owner.generation).bits});
    }
    if (poisoned()) found.push_back({"header", "poisoned: " + poison_text(), 2, 1});
    if (broken_ != 0) {
        found.push_back({"clients", "heaps of dead clients were broken", broken_, 0});
    }
    return found;
}

}  // namespace aep
