// Purpose: see directory.hpp.
// Who calls it: see directory.hpp.
// Crash rule: see directory.hpp.
#include "dsm-core/sharing/directory.hpp"

namespace aep {
namespace {

/// Looks at a claim that another node has to decide first: some milliseconds.
constexpr u32 PATIENCE = 100'000;

/// Whether that client of another node has the name, or is to have it of two that claim it now:
/// `first` says that its node comes before ours. One that comes after gives way when it sees our
/// claim; if it had looked before, it gets the name. So its decision is waited for.
template <class Memory>
bool has_name(Memory& m, const era::DirectoryEntry& entry, bool first, const char* name) {
    for (u32 looks = 0; looks < PATIENCE; ++looks) {
        // The claim before the id: it goes when the id is there.
        if (m.load(entry.claim) == 0) return m.load(entry.id) != 0 && same_name(entry.name, name);
        if (!same_name(entry.name, name)) return false;
        if (first) return true;
        __builtin_ia32_pause();
    }
    return true;  // in doubt nobody gets it
}

}  // namespace

bool claim_name(u32 client, const char* name) {
    const era::Tables t = era_tables();
    const u32 node = context().era_node;
    if (client >= t.shape.clients) return find_elsewhere(name).bits == 0;
    era::DirectoryEntry& own = t.client(node, client);
    return with_pool_memory([&](auto& memory) {
        memory.store(own.id, 0);
        __builtin_memcpy(own.name, name, sizeof own.name);
        memory.store(own.claim, 1);
        memory.flush(own.claim);
        memory.fence();
        // seq_cst: of two that claim at once, at least one sees the other.
        std::atomic_thread_fence(std::memory_order_seq_cst);
        for (u32 other = 0; other < t.shape.nodes; ++other) {
            if (other == node || !era::is_live(t, other)) continue;
            for (u32 i = 1; i < t.shape.clients; ++i) {
                if (has_name(memory, t.client(other, i), other < node, name)) return false;
            }
        }
        return true;
    });
}

void announce(u32 client) {
    const era::Tables t = era_tables();
    if (client >= t.shape.clients) return;
    era::DirectoryEntry& entry = t.client(context().era_node, client);
    const ShareClient& c = share_client(client);
    with_pool_memory([&](auto& memory) {
        memory.store(entry.id, 0);
        if (c.open != 0) {
            __builtin_memcpy(entry.name, c.name(), sizeof entry.name);
            memory.store(entry.id, id_of(client).bits);  // release: after the name
        }
        memory.store(entry.claim, 0);  // after the id
        memory.flush(entry.id);
        memory.fence();
        return 0;
    });
}

bool is_claiming(u32 client) {
    if (!shares_between_nodes()) return false;
    const era::Tables t = era_tables();
    return client < t.shape.clients && t.client(context().era_node, client).claim.load() != 0;
}

bool is_reachable(const era::Tables& t, ShareId id) {
    const u32 node = id.node();
    if (node >= t.shape.nodes || id.client() >= t.shape.clients) return false;
    return era::is_live(t, node) && t.client(node, id.client()).id.load() == id.bits;
}

}  // namespace aep
