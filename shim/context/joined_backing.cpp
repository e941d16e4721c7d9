// Purpose: see joined_backing.hpp.
// Who calls it: process.cpp through `Backing`.
// Crash rule: a chunk is the node's, its cache's or ours, by operations that complete; what a dead
//             client had is taken back by recovery. A chunk goes back clean.
//
// A store to the context's memory never fails: what an operation or the fast path may write is made
// present before. Chunk and page descriptors with the chunk, bitmaps with the first page that needs
// them; both stay until the chunk goes back.
#include "shim/context/joined_backing.hpp"

#include <errno.h>

#include <iterator>

#include "dsm-core/heap/arena.hpp"
#include "shim/backing/anonymous_backing.hpp"
#include "shim/backing/freeze.hpp"
#include "shim/backing/futex_waiters.hpp"
#include "shim/backing/pool_attach.hpp"
#include "shim/backing/pool_backing.hpp"
#include "shim/backing/pool_clean.hpp"
#include "shim/backing/pool_pages.hpp"
#include "shim/backing/populate.hpp"
#include "shim/context/context_views.hpp"
#include "shim/context/door.hpp"
#include "shim/context/join.hpp"
#include "shim/sys/message.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

bool froze_chunks = false;      // by the fork that is going on
bool said_unreachable = false;  // one message is enough
u32 present_end = 0;            // chunks below it have their descriptors in memory

// ---- chunks

usize bytes_of(const MetaArray& array, u32 chunks) {
    return array.stride * SLICES_PER_CHUNK * chunks;
}

/// Descriptors up to the end of ours are looked at, whosever they are.
bool commit_chunk_metadata(u32 first, u32 count) {
    const u32 end = first + count;
    if (end > present_end) {
        const u32 more = end - present_end;
        const uptr descs = DESCS.base + bytes_of(DESCS, present_end);
        const uptr chunk_descs = CHUNK_DESCS.base + CHUNK_DESCS.stride * present_end;
        constexpr int BOTH = PROT_READ | PROT_WRITE;
        if (sys::failed(sys::mprotect(descs, bytes_of(DESCS, more), BOTH)) ||
            sys::failed(sys::mprotect(chunk_descs, CHUNK_DESCS.stride * more, BOTH)) ||
            !populate(descs, bytes_of(DESCS, more)) ||
            !populate(chunk_descs, CHUNK_DESCS.stride * more))
            return false;
        present_end = end;
    }
    // Recovery may have emptied them since.
    return populate(DESCS.base + bytes_of(DESCS, first), bytes_of(DESCS, count)) &&
           populate(CHUNK_DESCS.base + CHUNK_DESCS.stride * first, CHUNK_DESCS.stride * count) &&
           protect_bitmaps(first, count, PROT_READ | PROT_WRITE);
}

/// Bitmaps of chunks that go back: they are clear, and their memory is the context's.
void drop_bitmaps(u32 first, u32 count) {
    sys::madvise(BLOCK_BITS.base + bytes_of(BLOCK_BITS, first), bytes_of(BLOCK_BITS, count),
                 MADV_REMOVE);
    protect_bitmaps(first, count, PROT_NONE);
}

/// Gives chunks back to the node; `clean`: to the pool.
void return_chunks(u32 first, u32 count, bool clean) {
    {
        const LockScope scope(pool.guests_lock);
        const bool stays = pool.guests_everywhere.load(std::memory_order_relaxed);
        close_chunks_here(first, count, stays);
        pool.set_state(first, count, stays ? ChunkView::guest : ChunkView::other);
    }
    for (u32 i = first; i < first + count; ++i)
        perform_in_image(op::ReturnChunk{.chunk = ChunkIndex{i}, .clean = clean});
}

ChunkRun claim(u32 count, u32 align, ChunkIndex exact) {
    const auto reply =
        perform_in_image(op::ClaimChunks{.count = count, .alignment = align, .at = exact});
    if (reply.status != Status::ok) {
        if (reply.status != Status::miss) report_refusal(reply.status);
        return {};
    }
    const u32 first = raw(reply.first);
    const bool clean = reply.clean;
    const bool usable = (metadata_is_shared() ? commit_chunk_metadata(first, count)
                                              : map_private_metadata(first, count)) &&
                        !sys::failed(open_chunks_here(first, count));
    if (!usable) {
        return_chunks(first, count, clean);
        return {};
    }
    const bool huge = choose_pool_pages(chunk_address(ChunkIndex{first}), count);
    pool.set_state(first, count, ChunkView::ours);
    return {.first = ChunkIndex{first},
            .count = count,
            .zero = clean,
            .dirty = !clean,
            .coarse = huge || pool.file.is_copied_by_fork()};
}

ChunkRun provide_beyond(long error, u32 count, u32 align) {
    if (!said_unreachable) {
        said_unreachable = true;
        message("context ", this_client.name, ": process ", sys::getpid(),
                " cannot take memory from it: ", Errno{error}, "; going on with private memory");
    }
    return anonymous_provide(count, align, NO_CHUNK);
}

ChunkRun joined_provide(u32 count, u32 align, ChunkIndex at) {
    if (count == 0 || !is_power_of_two(align)) return {};
    if (at != NO_CHUNK && !in_pool(raw(at))) {
        // The context's domain has room for chunks of the pool alone.
        if (heap_in_context.load(std::memory_order_relaxed)) return {};
        return anonymous_provide(count, align, at);
    }
    if (!this_client.attached) {
        const long result = join_again();
        if (sys::failed(result))
            return at == NO_CHUNK ? provide_beyond(result, count, align) : ChunkRun{};
    }
    if (at != NO_CHUNK && raw(at) % align != 0) return {};
    return claim(count, align, at);
}

bool joined_release(ChunkIndex first, u32 count) {
    const u32 begin = raw(first);
    if (!in_pool(begin)) return anonymous_release(first, count);
    const uptr address = chunk_address(first);
    const usize bytes = usize{count} * CHUNK_SIZE;
    for (u32 i = begin; i < begin + count; ++i) {
        if (pool.state(i) == ChunkView::ours) continue;
        for (usize at = 0; at < bytes; at += CHUNK_SIZE)
            purge_pool_memory(address + at, CHUNK_SIZE);
        return false;
    }
    if (!clean_chunks(pool.file, address, bytes)) return false;
    if (!metadata_is_private(begin)) drop_bitmaps(begin, count);
    return_chunks(begin, count, true);
    return true;
}

// ---- what is in them

u64 joined_commit_page(SliceIndex first) {
    const u32 chunk = raw(chunk_of(first));
    if (!in_pool(chunk)) return ~u64{0};
    const uptr bits = reinterpret_cast<uptr>(block_bits_of(first));
    const uptr begin = round_down(bits, OS_PAGE_SIZE);
    const uptr end = round_up(bits + BLOCK_BITS.stride, OS_PAGE_SIZE);
    if (!populate(begin, end - begin)) return 0;
    // All slices whose bitmaps share these OS pages are present, too.
    u64 all = 0;
    for (u32 s = 0; s < SLICES_PER_CHUNK; ++s) {
        const SliceIndex slice{raw(first_slice(ChunkIndex{chunk})) + s};
        const uptr at = reinterpret_cast<uptr>(block_bits_of(slice));
        if (at >= begin && at + BLOCK_BITS.stride <= end) all |= u64{1} << s;
    }
    return all;
}

bool joined_commit_domain(uptr address, usize bytes) {
    return !sys::failed(sys::mprotect(address, bytes, PROT_READ | PROT_WRITE)) &&
           populate(address, bytes);
}

// ---- fork

bool is_own(u32 chunk) {
    const ChunkView state = pool.state(chunk);
    return state == ChunkView::ours || state == ChunkView::pinned;
}

bool joined_fork_prepare() {
    froze_chunks = false;
    for (u32 i = 0; i < pool.tables.chunk_count; ++i) froze_chunks = froze_chunks || is_own(i);
    if (heap_in_context.load(std::memory_order_relaxed)) {
        // From here on nobody else may look at it: operations run directly.
        client_at(this_client.index).private_heap.store(1, std::memory_order_release);
        heap_in_context.store(false, std::memory_order_relaxed);
        // What is private must be made present anew before it is written.
        for (u32 c = 0; c < pool.tables.chunk_count; ++c)
            if (is_own(c)) chunk_desc(ChunkIndex{c})->bitmaps = 0;
    }
    return freeze_context_metadata() && freeze_own_chunks(pool);
}

void joined_fork_parent() {
    drop_staged_copies();
    if (froze_chunks) wake_shared_waiters(pool);
    froze_chunks = false;
}

void joined_fork_child() {
    pool_in_child();
    take_staged_copies(pool);
    froze_chunks = false;
}

constexpr Backing JOINED = {
    .provide = joined_provide,
    .commit = commit_pool_memory,
    .commit_page = joined_commit_page,
    .purge = purge_pool_memory,
    .release = joined_release,
    .commit_domain = joined_commit_domain,
    .is_scarce = pool_is_scarce,
    .fork_prepare = joined_fork_prepare,
    .fork_parent = joined_fork_parent,
    .fork_child = joined_fork_child,
    .max_chunks = MAX_CHUNKS,
};

}  // namespace

const Backing* joined_backing() {
    metadata_begins_at(
        ChunkIndex{static_cast<u32>(round_up(pool.tables.chunk_count, CHUNKS_PER_META_GROUP))});
    heap_in_context.store(true, std::memory_order_relaxed);
    return &JOINED;
}

}  // namespace aep
