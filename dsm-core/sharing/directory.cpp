// Purpose: see directory.hpp.
// Who calls it: see directory.hpp.
// Crash rule: see directory.hpp.
#include "dsm-core/sharing/directory.hpp"

namespace aep {
namespace {

/// Between two looks at what somebody else is about to change; the `looks`th ends. Every thousandth is followed by a nap: that one
/// may not be running, or have died.
void pause_after(u32 looks) {
    constexpr u32 SPINS = 1000;
    constexpr detail::Timespec NAP{0, 1'000'000};
    if (looks % SPINS != SPINS - 1) return __builtin_ia32_pause();
    detail::nap(NAP);
}

/// Looks at a claim that another node has to decide first: a fifth of a second.
constexpr u32 PATIENCE = 200'000;

/// What an entry says at one moment.
struct Listed {
    u64 id = 0;
    bool claiming = false;
    ClientName name{};
    u64 attendance = 0;
};

/// A client's attendance in a word: stays (32 bits) | names (31) | whether it died.
u64 attendance_word(u32 client) {
    const Attendance& s = attendance_of(client);
    return u64{s.stays} | (u64{s.names} & 0x7fff'ffff) << 32 | u64{s.died & 1} << 63;
}

/// False: it is being changed, or its client died changing it.
template <class Memory>
bool see_entry(Memory& m, const era::DirectoryEntry& entry, Listed& listed) {
    const u64 version = m.load(entry.version);
    // The claim before the id: it goes when the id is there.
    listed.claiming = m.load(entry.claim) != 0;
    listed.id = m.load(entry.id);
    listed.name = copied(entry.name);
    listed.attendance = m.load(entry.attendance);
    // acquire: the version is looked at again after all that.
    std::atomic_thread_fence(std::memory_order_acquire);
    return version % 2 == 0 && m.load(entry.version) == version;
}

/// Changes an entry of this node's, for a scope. Under the lock of names.
template <class Memory>
class Change {
  public:
    Change(Memory& m, era::DirectoryEntry& entry)
        : m_(m), entry_(entry), odd_(m.load(entry.version) | 1) {
        m_.store(entry_.version, odd_);
        // release: whoever sees a change that follows sees the odd version.
        std::atomic_thread_fence(std::memory_order_release);
    }
    ~Change() { m_.store(entry_.version, odd_ + 1); }
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;

  private:
    Memory& m_;
    era::DirectoryEntry& entry_;
    u64 odd_;
};

/// Whether that client of another node has the name, or is to have it of two that claim it now:
/// `first` says that its node comes before ours. One that comes after gives way when it sees our
/// claim; if it had looked before, it gets the name. So its decision is waited for.
template <class Memory>
bool has_name(Memory& m, const era::DirectoryEntry& entry, bool first, const char* name) {
    for (u32 looks = 0; looks < PATIENCE; ++looks) {
        Listed listed;
        if (see_entry(m, entry, listed)) {
            const bool same = same_name(listed.name.text, name);
            if (!listed.claiming) return listed.id != 0 && same;
            if (!same) return false;
            if (first) return true;
        }
        pause_after(looks);
    }
    return true;  // in doubt nobody gets it
}

/// Whether the client has the name at one moment: its generation then; 0: no.
u32 generation_if_called(u32 client, const char* name) {
    const ShareClient& c = share_client(client);
    const std::atomic<u64>& version = sharing().names_version;
    for (u32 looks = 0; context().state.load(std::memory_order_acquire) !=
                        static_cast<u32>(ContextState::poisoned);
         ++looks) {
        const u64 before = version.load(std::memory_order_acquire);
        const bool called = is_called(c, name);
        const u32 generation = c.inbox.generation.load();
        // acquire: the version is looked at again after all that.
        std::atomic_thread_fence(std::memory_order_acquire);
        if (before % 2 == 0 && version.load(std::memory_order_relaxed) == before)
            return called ? generation : 0;
        // Who died in an operation is waited for as with a lock: until recovery comes by.
        pause_after(looks);
    }
    return 0;
}

}  // namespace

ShareId find_here(const char* name) {
    for (u32 i = 1; i <= context().max_clients; ++i) {
        if (!is_called(share_client(i), name)) continue;
        if (const u32 generation = generation_if_called(i, name); generation != 0)
            return id_of(i, generation);
    }
    return {};
}

ShareId find_elsewhere(const char* name) {
    const era::Tables t = era_tables();
    const era::LocalMemory memory;  // nothing is written
    // Looks in vain: of a client that died changing its entry the change may last.
    u32 patience = 10'000;
    for (u32 node = 0; node < t.shape.nodes; ++node) {
        if (node == context().era_node || !era::is_live(t, node)) continue;
        for (u32 i = 1; i < t.shape.clients; ++i) {
            Listed listed;
            bool seen;
            while (!(seen = see_entry(memory, t.client(node, i), listed)) && patience != 0) {
                --patience;
                __builtin_ia32_pause();
            }
            if (seen && listed.id != 0 && same_name(listed.name.text, name))
                return ShareId{listed.id};
        }
    }
    return {};
}

u64 begin_claim(u32 client, const char* name) {
    const era::Tables t = era_tables();
    if (client >= t.shape.clients) return 0;
    era::DirectoryEntry& own = t.client(context().era_node, client);
    return with_pool_memory([&](auto& memory) {
        {
            const Change change(memory, own);
            memory.store(own.id, 0);
            ClientName text{};
            __builtin_memcpy(text.text, name, sizeof text.text);
            put_copy(own.name, text);
            memory.store(own.claim, 1);
        }
        memory.flush(own.claim);
        memory.fence();
        // seq_cst: of two that claim at once, at least one sees the other.
        std::atomic_thread_fence(std::memory_order_seq_cst);
        return memory.load(own.version);
    });
}

bool may_have_claimed(u32 client, const char* name) {
    const era::Tables t = era_tables();
    const u32 node = context().era_node;
    if (client >= t.shape.clients) return find_elsewhere(name).bits == 0;
    return with_pool_memory([&](auto& memory) {
        for (u32 other = 0; other < t.shape.nodes; ++other) {
            if (other == node || !era::is_live(t, other)) continue;
            for (u32 i = 1; i < t.shape.clients; ++i)
                if (has_name(memory, t.client(other, i), other < node, name)) return false;
        }
        return true;
    });
}

bool still_claims(u32 client, u64 claim) {
    const era::Tables t = era_tables();
    if (client >= t.shape.clients) return true;
    return t.client(context().era_node, client).version.load() == claim;
}

void announce(u32 client) {
    const era::Tables t = era_tables();
    if (client >= t.shape.clients) return;
    era::DirectoryEntry& entry = t.client(context().era_node, client);
    const ShareClient& c = share_client(client);
    with_pool_memory([&](auto& memory) {
        {
            const Change change(memory, entry);
            memory.store(entry.id, 0);
            if (c.takes_part()) {
                put_copy(entry.name, c.name());
                memory.store(entry.id, id_of(client).bits);  // release: after the name
            }
            memory.store(entry.attendance, attendance_word(client));
            memory.store(entry.claim, 0);  // after the id
        }
        // After the change, for those who go by it.
        era::Word& changes = t.entry(context().era_node).announced;
        memory.store(changes, memory.load(changes) + 1);
        memory.flush(entry.id);
        memory.flush(changes);
        memory.fence();
        return 0;
    });
}

NodeSigns signs_of(const era::Tables& t, u32 node) {
    const era::NodeWord word{t.node(node).load()};
    if (word.state() != era::NodeState::live) return {};
    return {word.generation(), t.entry(node).announced.load()};
}

bool look_elsewhere(u32 node, u32 client, op::LookAtPeer::Reply& seen) {
    const era::LocalMemory memory;  // nothing is written
    Listed listed;
    const bool whole = see_entry(memory, era_tables().client(node, client), listed);
    seen = {.stays = static_cast<u32>(listed.attendance),
            .names = static_cast<u32>(listed.attendance >> 32) & 0x7fff'ffff,
            .died = static_cast<u32>(listed.attendance >> 63),
            .id = {listed.id}};
    __builtin_memcpy(seen.name.text, listed.name.text, sizeof seen.name.text);
    return whole && !listed.claiming;
}

bool is_claiming(u32 client) {
    if (!shares_between_nodes()) return false;
    const era::Tables t = era_tables();
    if (client >= t.shape.clients) return false;
    const era::DirectoryEntry& entry = t.client(context().era_node, client);
    return entry.claim.load() != 0 || entry.version.load() % 2 != 0;
}

namespace {

/// Whether the node has the generation that the id names.
bool is_of_its_life(const era::Tables& t, ShareId id) {
    const u32 generation = era::NodeWord{t.node(id.node()).load()}.generation();
    return (generation & 0xff) == id.node_generation();
}

}  // namespace

bool is_reachable(const era::Tables& t, ShareId id) {
    const u32 node = id.node();
    if (node >= t.shape.nodes || !era::is_live(t, node)) return false;
    if (id.inbox() >= FIRST_FURTHER) return is_of_its_life(t, id);
    return id.inbox() < t.shape.clients && t.client(node, id.inbox()).id.load() == id.bits;
}

}  // namespace aep
