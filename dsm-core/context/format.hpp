// Purpose: the context's format: the DRAM file that all clients of one tenant on one node share.
//          Every noun of it is defined here, a comment a field.
// Who calls it: the image (aep-lib), the client side (shim), the daemon and its tools.
// Crash rule: a word that several processes write changes by one atomic operation. What a client
//             alone writes (its domain, its slots) is put right, or thrown away, after its death.
//
// The file is sparse. Offsets and addresses are the same for every context; how much of each part
// is used is chosen at creation and written in the header.
//
//   offset              address                     what
//   0                   CONTROL_BASE                header, sharing, client table, slots, chunk
//                                                   owners, log; sharing's records; undo logs
//   STACKS_OFFSET       STACKS_BASE                 one AEP stack a slot, between unmapped guards
//   DESCS_OFFSET        DESCS_BASE                  the descriptors of the pool's slices
//   META_OFFSET         META_BASE                   the heap's other metadata, then the domains
#pragma once

#include "dsm-core/base/slot_lock.hpp"
#include "dsm-core/context/log_ring.hpp"
#include "dsm-core/op/operations.hpp"
#include "dsm-core/pool/format.hpp"

namespace aep {

// ---- Addresses (x86-64, 4-level paging): one top-level entry, and one OS page outside it.

// For ThreadSanitizer as in layout.hpp: half a TiB is ours, of which the heap has the lower part.
#if defined(__SANITIZE_THREAD__)
inline constexpr uptr CONTEXT_BASE = 0x0050'0000'0000;
#else
inline constexpr uptr CONTEXT_BASE = 0x4000'0000'0000;
#endif
inline constexpr usize IMAGE_WINDOW = 1 * GiB;  // the image's text lies at CONTEXT_BASE
/// What comes next, a kernel that protects the image gives to data of its own. The context's file
/// is to it what it calls a pool.
inline constexpr uptr CONTROL_BASE = CONTEXT_BASE + 128 * GiB;
inline constexpr usize CONTROL_WINDOW = 2 * GiB;
inline constexpr uptr STACKS_BASE = CONTROL_BASE + 3 * GiB;
inline constexpr uptr SHADOW_ENTRY = CONTEXT_BASE - 0x1'0000;  // one OS page of text

/// Where the calling thread's context has its tables, and its stacks.
#if defined(AEP_HOSTED)
/// A hosted build (README.md) may have several contexts in a process, each at a place of its own; a thread is in one.
inline thread_local uptr hosted_control = CONTROL_BASE;
inline uptr control_base() { return hosted_control; }
#else
constexpr uptr control_base() { return CONTROL_BASE; }
#endif
inline uptr stacks_base() { return control_base() + (STACKS_BASE - CONTROL_BASE); }

// ---- File offsets

inline constexpr u64 STACKS_OFFSET = 4 * GiB;
inline constexpr u64 DESCS_OFFSET = 16 * GiB;  // descriptors have a place of their own
inline constexpr usize DESCS_WINDOW = DESCS.stride * MAX_SLICES;
inline constexpr u64 META_OFFSET = 64 * GiB;
static_assert(DESCS_OFFSET + DESCS_WINDOW <= META_OFFSET);
inline constexpr u64 CONTEXT_FILE_BYTES = META_OFFSET + META_WINDOW;
/// Bytes that OFD locks are set on, one a client. Both end when the last descriptor and the last
/// mapping of their open file description are gone.
inline constexpr u64 CLIENT_LOCKS_OFFSET = u64{1} << 60;  // held while the process lives
inline constexpr u64 FROZEN_LOCKS_OFFSET = u64{1} << 61;  // while it or a descendant maps its heap
inline constexpr u64 COMPLETER_LOCK_OFFSET = u64{1} << 62;  // held by the completer that works

constexpr u64 context_offset_of_meta(uptr address) {
    return address - DESCS_BASE < DESCS_WINDOW ? DESCS_OFFSET + (address - DESCS_BASE)
                                               : META_OFFSET + (address - META_BASE);
}

// ---- The header

inline constexpr u64 CONTEXT_MAGIC = 0x0058'5443'5045'4100;  // "\0AEPCTX\0"
inline constexpr u32 CONTEXT_VERSION = 14;

enum class ContextState : u32 {
    live = 1,
    poisoned = 2,  // an operation was left open for good: nothing new may begin
    fenced = 3,    // other nodes have declared this one dead: it must not touch the pool
};

/// The first OS page: constant after creation. Nobody goes on reading it in the file, which all
/// clients may write: it is read and verified once, and whoever maps the control area has a copy of
/// its own there (shim/context/context_file.hpp).
struct ContextConstants {
    u64 magic;         // CONTEXT_MAGIC
    u32 version;       // CONTEXT_VERSION
    u32 header_bytes;  // sizeof(ContextConstants)
    u64 layout_hash;   // CONTEXT_LAYOUT_HASH of the program that created it
    u64 image_hash;    // of the image that all its clients run
    u8 uuid[16];
    char name[64];
    u32 uid;           // the tenant
    u32 max_clients;   // clients have index 1 .. max_clients, and their domain the same
    u32 max_slots;     // of the clients and, the last one, of the host
    u32 chunk_count;   // of the pool
    u64 pool_address;  // of its superblock in every process
    u8 pool_uuid[16];
    PoolShape pool;
    u64 clients_offset;  // in the control area
    u64 slots_offset;
    u64 owners_offset;
    u64 log_offset;
    u64 control_bytes;  // all that is always in memory
    u64 window_bytes;   // all of the control area
    u32 era_node;       // which node of the pool's nodes it is (dsm-core/era); NO_NODE: none
    u32 era_objects;    // that nodes can share; 0: with NO_NODE
    u64 checksum;       // over all bytes before it
};
static_assert(sizeof(ContextConstants) <= OS_PAGE_SIZE);

/// The second OS page: words that change.
struct alignas(OS_PAGE_SIZE) ContextWords {
    // The node that the context is in the pool; changes when the node was declared dead meanwhile.
    std::atomic<u32> node;
    std::atomic<u32> node_generation;
    std::atomic<u32> era_generation;  // of era_node
    std::atomic<u32> pool_caches;  // era::PoolCaches: how what is shared between nodes is written
    std::atomic<u32> apart;        // 1: without quorum: nothing crosses nodes until there is
    std::atomic<u32> barriers;     // 1: the host and who completes operations take part in them, so
                                   // that clients' locks may be biased (base/every_thread.hpp)

    std::atomic<u32> state;     // ContextState
    std::atomic<u32> provider;  // Provider
    // Why it is poisoned; written before `state`.
    u32 poison_op;
    u32 poison_slot;
    u32 poison_pid;
    char poison_client[16];

    // Limits in bytes of chunks held; 0: none.
    std::atomic<u64> context_limit;
    std::atomic<u64> client_limit;  // what a new client gets

    /// A hint: a thread that is killed between a chunk's word and this leaves it wrong, until the
    /// host counts them (node/chunk_cache.hpp). Who takes a chunk before its giver has counted it makes it -1 for that moment:
    /// read by chunks_in_cache().
    std::atomic<u64> chunks_cached;
    // Counters for people.
    std::atomic<u32> next_chunk;  // where the search for free chunks begins
    std::atomic<u64> attached;    // clients so far
    std::atomic<u64> recovered;
    std::atomic<u64> recovered_chunks;
    std::atomic<u64> recovered_ns;  // time spent
    std::atomic<u64> captured;      // operations that were open when their thread was killed
    std::atomic<u64> completed;
    std::atomic<u64> undone;  // of those that were not completed
};

struct ContextHeader : ContextConstants, ContextWords {};
inline constexpr usize CONTEXT_CONSTANTS_BYTES = OS_PAGE_SIZE;
static_assert(sizeof(ContextHeader) == CONTEXT_CONSTANTS_BYTES + OS_PAGE_SIZE);

/// What of sharing is always in memory comes first; what is made present as it is needed comes
/// last, behind all that can be always in memory. Both at the same place in every context: the
/// sharing operations find their records without a look at the header.
inline constexpr u64 SHARE_OFFSET = round_up(sizeof(ContextHeader), OS_PAGE_SIZE);
inline constexpr u64 RECORDS_OFFSET = 128 * MiB;

/// An undo log a slot (dsm-core/sharing/logged.hpp), behind the records: present as long as the slot is somebody's.
inline constexpr u64 LOGS_OFFSET = 1 * GiB;
inline constexpr usize LOG_STRIDE = 16 * KiB;
inline uptr log_of_slot(u32 slot) {
    return control_base() + LOGS_OFFSET + usize{slot} * LOG_STRIDE;
}

/// What keeps an operation whole although its thread is killed: ebpf and kernel see to it that it
/// completes, rollback undoes it. none: nothing does, for tests.
enum class Provider : u32 { none = 0, ebpf = 1, kernel = 2, rollback = 3 };

// ---- Clients

enum class ClientState : u32 {
    free = 0,
    attaching = 1,  // entered by the daemon, not yet answered by the process
    live = 2,
    frozen = 3,      // its process is gone, descendants still map its heap
    recovering = 4,  // its process is gone and its memory is being taken back
};

/// One attached process. Line 0 is written by the daemon, line 1 by the client's operations.
struct alignas(64) ClientEntry {
    std::atomic<u32> state;       // ClientState
    std::atomic<u32> generation;  // grows at each attach
    u32 pid;                      // in the daemon's pid namespace
    u32 uid;
    u64 start_time;  // of the process, clock ticks since boot
    u64 attached_ns;
    char name[16];
    std::atomic<u64> limit;  // bytes of chunks; 0: none
    /// 1: an operation on its heap was left open when it died: the heap goes unseen.
    std::atomic<u32> left_open;
    u32 reserved;

    std::atomic<u64> chunks;        // held now
    std::atomic<u64> peak;          // chunks
    std::atomic<u32> private_heap;  // 1: its heap and metadata left the context by a fork
    std::atomic<u32> slots;         // in use
    u64 reserved2[5];
};
static_assert(sizeof(ClientEntry) == 128);

// ---- Slots

enum class SlotState : u32 { free = 0, used = 1 };

/// state | client << 8 | generation of the client << 32: one word, so that taking a slot is one
/// CAS.
struct SlotOwner {
    u64 bits;
    SlotState state() const { return static_cast<SlotState>(bits & 0xff); }
    u32 client() const { return static_cast<u32>(bits >> 8) & 0xff'ffff; }
    u32 generation() const { return static_cast<u32>(bits >> 32); }
    static constexpr SlotOwner make(u32 client, u32 generation) {
        return {static_cast<u64>(SlotState::used) | u64{client} << 8 | u64{generation} << 32};
    }
};

/// One thread's way into the image. `sequence` is odd exactly while an operation is open; it
/// changes in image text and on the slot's stack only.
struct alignas(64) Slot {
    u64 user_rsp;                // where the operation returns to
    u64 stack_top;               // initial stack pointer in the image; holds the slot's address
    std::atomic<u32> sequence;   // odd: inside
    u32 op;                      // number of the operation (op/operations.hpp)
    std::atomic<u64> owner;      // SlotOwner
    std::atomic<u32> tid;        // of the thread, in its own pid namespace: for people
    std::atomic<u32> completer;  // pid of the completer that finishes its operation; 0: none
    u64 operations;              // entered so far
    std::atomic<u32> owes;  // what its operation has still to do when it has happened; 0: nothing
                            // (sharing/turn.hpp)
    std::atomic<u32>
        turns;  // odd while its operation may change what is shared: for walks without locks

    /// The operation and its Reply, of the types that `op` says.
    alignas(64) u8 request[MESSAGE_BYTES.request];
    alignas(8) u8 reply[MESSAGE_BYTES.reply];
};
inline constexpr usize SLOT_STRIDE = 1024;
static_assert(sizeof(Slot) <= SLOT_STRIDE);
// entry.S knows these.
static_assert(offsetof(Slot, user_rsp) == 0 && offsetof(Slot, stack_top) == 8 &&
              offsetof(Slot, sequence) == 16);

inline constexpr usize STACK_BYTES = 256 * KiB;     // usable
inline constexpr usize STACK_STRIDE = 512 * KiB;    // the lower half is never accessible
inline constexpr usize STACK_COMMITTED = 16 * KiB;  // made present when the slot is taken

inline uptr stack_of_slot(u32 slot) {  // lowest usable byte
    return stacks_base() + usize{slot} * STACK_STRIDE + (STACK_STRIDE - STACK_BYTES);
}
/// What the slot's stack_top is; who does not trust the slot's clients computes it.
inline uptr stack_top_of(u32 slot) { return stack_of_slot(slot) + STACK_BYTES - 64; }

// ---- Chunk owners: one word a chunk of the pool

/// Who has a chunk: a client's index, or one of these. Only a chunk whose word says CACHED,
/// RETURNING or a client may be the node's in the pool's table.
enum ChunkOwner : u32 {
    OWNER_NOBODY = 0,               // not the node's
    OWNER_CACHED = 0xff'ffff,       // the node's, nobody's: taken before the pool is asked
    OWNER_KEPT = 0xff'fffd,         // a dead client's, kept while exports lie in it
    OWNER_RETURNING = 0xff'fffe,    // from the cache on its way to the pool, by the daemon
    OWNER_CLAIMING = 0x8000'0000u,  // with a client's index: about to be claimed in the pool
};

// ---- Where the parts are

inline ContextHeader& context() { return *reinterpret_cast<ContextHeader*>(control_base()); }
/// Others have declared the node dead. True: that was not known so far.
inline bool fence_context() {
    u32 live = static_cast<u32>(ContextState::live);
    // release: who sees it does not touch the pool any more.
    return context().state.compare_exchange_strong(live, static_cast<u32>(ContextState::fenced));
}
inline ClientEntry& client_at(u32 index) {  // 1 .. max_clients
    return reinterpret_cast<ClientEntry*>(control_base() + context().clients_offset)[index];
}
inline Slot& slot_at(u32 index) {  // 0 .. max_slots-1
    return *reinterpret_cast<Slot*>(control_base() + context().slots_offset +
                                    usize{index} * SLOT_STRIDE);
}
/// The slot where the host performs operations for dead clients. Clients take those before it.
inline u32 host_slot() { return context().max_slots - 1; }
inline u32 index_of(const Slot& slot) {
    return static_cast<u32>(
        (reinterpret_cast<uptr>(&slot) - control_base() - context().slots_offset) / SLOT_STRIDE);
}
inline std::atomic<u32>& chunk_owner(u32 chunk) {
    return reinterpret_cast<std::atomic<u32>*>(control_base() + context().owners_offset)[chunk];
}

inline LogRing& log_ring() {
    return *reinterpret_cast<LogRing*>(control_base() + context().log_offset);
}

constexpr u64 context_layout_hash() {
    const u64 facts[] = {
        CONTEXT_VERSION,
        CONTROL_BASE,
        STACKS_BASE,
        STACKS_OFFSET,
        META_OFFSET,
        META_BASE,
        DESCS_BASE,
        STACK_STRIDE,
        STACK_BYTES,
        SLOT_STRIDE,
        sizeof(ContextHeader),
        sizeof(ClientEntry),
        LOGS_OFFSET,
        LOG_STRIDE,
        sizeof(LogRing),
        sizeof(Slot),
        sizeof(Heap),
        sizeof(PageDesc),
        sizeof(Domain),
        sizeof(ChunkDesc),
        DOMAINS_BASE,
        DOMAIN_STRIDE,
        CHUNK_DESCS.base,
        CLASS_COUNT,
        operations_hash(),
        POOL_LAYOUT_HASH,
    };
    return fnv1a(facts);
}
inline constexpr u64 CONTEXT_LAYOUT_HASH = context_layout_hash();

}  // namespace aep
