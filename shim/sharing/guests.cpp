// Purpose: see guests.hpp.
// Who calls it: see guests.hpp.
// Crash rule: see guests.hpp.
#include "shim/sharing/guests.hpp"

#include <errno.h>

#include "dsm-core/sharing/format.hpp"
#include "shim/backing/pool_attach.hpp"
#include "shim/sharing/held_lock.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

/// In a forked child: chunks that are private hold copies of the parent's objects.
bool inherited = false;

/// Whether it has been done for them, and for the pool as a whole.
bool is_accessible(ChunkSpan span) {
    if (!pool_is_accessible()) return false;
    do {
        if (pool.state(span.first) == ChunkView::other) return false;
    } while (++span.first < span.end);
    return true;
}

int guest_protection() {
    const bool read_only = pool.guests_read_only.load(std::memory_order_relaxed);
    return read_only ? PROT_READ : PROT_READ | PROT_WRITE;
}

/// The chunks [first, end).
bool protect(u32 first, u32 end, int protection) {
    return !sys::failed(sys::mprotect(chunk_address(ChunkIndex{first}),
                                      usize{end - first} * CHUNK_SIZE, protection));
}

/// Makes the chunks accessible, and the first time all there are: what an object points at may lie
/// anywhere.
[[gnu::noinline]] bool open_chunks(ChunkSpan span) {
    // Another thread's first object may be opening the pool: what ours points at is part of that.
    const HeldLock scope(pool.guests_lock, HeldKind::guests);
    if (scope.refused()) return false;
    if (!pool.guests_everywhere.load(std::memory_order_relaxed))
        span = {0, pool.tables.chunk_count};
    for (u32 c = span.first; c < span.end;) {
        u32 end = c;
        while (end < span.end && pool.state(end) == ChunkView::other) ++end;
        if (end == c) {
            ++c;
            continue;
        }
        // What another thread claims meanwhile is accessible, too.
        if (!protect(c, end, guest_protection())) return false;
        for (; c < end; ++c) pool.become_guest(c);
    }
    // release: whoever sees it finds all chunks accessible.
    pool.guests_everywhere.store(true, std::memory_order_release);
    return true;
}

}  // namespace

bool pool_is_accessible() { return pool.guests_everywhere.load(std::memory_order_acquire); }

bool make_pool_accessible() { return open_chunks({0, pool.tables.chunk_count}); }

bool make_accessible(u64 address, usize bytes) {
    const ChunkSpan span = chunks_of(address, bytes);
    return AEP_LIKELY(is_accessible(span)) || open_chunks(span);
}

long make_guests_read_only(bool read_only) {
    const HeldLock scope(pool.guests_lock, HeldKind::guests);
    if (scope.refused()) return -EDEADLK;
    if (read_only == pool.guests_read_only.load(std::memory_order_relaxed)) return 0;
    const bool opened = pool.guests_everywhere.load(std::memory_order_relaxed);
    if (read_only && opened) return -EBUSY;
    for (u32 c = 0; opened && c < pool.tables.chunk_count; ++c)
        if (pool.state(c) == ChunkView::guest && !protect(c, c + 1, PROT_READ | PROT_WRITE))
            return -ENOMEM;
    pool.guests_read_only.store(read_only, std::memory_order_relaxed);
    return 0;
}

bool make_writable(u64 address, usize bytes) {
    const ChunkSpan span = chunks_of(address, bytes);
    return protect(span.first, span.end, PROT_READ | PROT_WRITE);
}

bool is_writable(u64 address) {
    return !pool.guests_read_only.load(std::memory_order_relaxed) ||
           pool.state(chunk_index(address)) == ChunkView::ours;
}

bool is_copy_of_the_parents(const void* p) {
    const u32 chunk = chunk_index(reinterpret_cast<uptr>(p));
    return inherited && in_pool(chunk) && pool.state(chunk) == ChunkView::frozen;
}

void forget_guests() {
    inherited = true;
    pool.guests_lock.reset();
    pool.guests_everywhere.store(false, std::memory_order_relaxed);
    for (u32 i = 0; i < pool.tables.chunk_count; ++i)
        if (pool.state(i) == ChunkView::guest) pool.set_state(i, 1, ChunkView::other);
}

}  // namespace aep
