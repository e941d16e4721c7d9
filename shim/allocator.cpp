// Purpose: the allocator behind its inline fast path: it drives the operations and does what they
// may not do: system
//          calls, zeroing, copying.
// Who calls it: allocator.hpp's fast path, preload/.
// Crash rule: between two operations a client holds at most a reserved run, which recovery finds by
// its tag.
#include "shim/allocator.hpp"

#include <cstring>

#include "dsm-core/heap/remote.hpp"
#include "shim/emergency.hpp"
#include "shim/libc_heap.hpp"
#include "shim/report.hpp"
#include "shim/slow_path.hpp"
#include "shim/thread.hpp"

namespace aep {

namespace {

/// The clock is looked at once in so many requests that are above the direct sizes, so that memory
/// freed before goes back to the system although a program now lives from its pages.
constexpr u32 TICKS_PER_LOOK = 16;
__thread u32 ticks __attribute__((tls_model("initial-exec"))) = 0;

/// A calloc of at least this many dirty bytes gets fresh memory rather than a memset: it may never
/// be touched.
constexpr usize FRESH_ABOVE = 8 * MiB;

u32 slices_for(usize size) { return static_cast<u32>((size + SLICE_SIZE - 1) >> SLICE_SHIFT); }
usize offset_in_window(const void* p) { return reinterpret_cast<uptr>(p) - HEAP_BASE; }

/// A page of class `c` in heap `h` that has a free block; null: no memory.
PageDesc* page_with_room(Heap* h, u32 c) {
    const u64 now = now_ms();
    purge_if_due(now);
    const Reply found = transact({.op = Op::find_page, .heap = h, .a = c, .now = now});
    if (found.status == Status::ok) return reinterpret_cast<PageDesc*>(found.value);
    const Run run = obtain_run(h, page_slices(c), 1);
    if (!run || !commit_page_metadata(run, c)) return nullptr;
    const Reply born = transact({.op = Op::page_birth, .heap = h, .a = c, .run = run});
    return reinterpret_cast<PageDesc*>(born.value);
}

/// A block by operations alone.
uptr take_block(Heap* h, u32 c, bool& fresh_zero) {
    for (int attempt = 0; attempt < 2; ++attempt) {
        const Reply r = transact({.op = Op::take_block, .heap = h, .a = c, .now = now_ms()});
        fresh_zero = r.mask != 0;
        if (r.status == Status::ok) return r.value;
        if (r.status != Status::miss || page_with_room(h, c) == nullptr) return 0;
    }
    return 0;
}

uptr pop_from(Heap* h, u32 c, bool& fresh_zero) {
    if (AEP_UNLIKELY(settings().pure)) return take_block(h, c, fresh_zero);
    PageDesc* d = h->queues[c].head;
    if (d->free_count == 0) {
        d = page_with_room(h, c);
        if (d == nullptr) return 0;
    }
    return page_pop_tracked(d, d->free_count, fresh_zero);
}

/// A block of class `c` from the heap of those that have none of their own.
void* allocate_shared(u32 c, bool& fresh_zero) {
    if (!process_start()) return nullptr;
    DriverScope scope(shared_heap_lock);
    Heap* h = shared_heap();
    return h == nullptr ? nullptr : reinterpret_cast<void*>(pop_from(h, c, fresh_zero));
}

/// A block of class `c` for the calling thread, whether it has a heap or not.
void* allocate_class(u32 c, bool& fresh_zero) {
    Heap* h = attached_heap();
    const SlowPath here;
    if (AEP_UNLIKELY(here.nested())) {
        fresh_zero = false;
        return emergency_allocate(class_size(c), 1);
    }
    if (AEP_LIKELY(h != nullptr)) return reinterpret_cast<void*>(pop_from(h, c, fresh_zero));
    return allocate_shared(c, fresh_zero);
}

void* allocate_large(usize size, usize alignment, bool& fresh_zero) {
    if (alignment > HEAP_WINDOW / 2 || size > HEAP_WINDOW) return nullptr;
    const SlowPath here;
    if (AEP_UNLIKELY(here.nested())) {
        fresh_zero = false;
        return emergency_allocate(size, alignment);
    }
    if (!process_start()) return nullptr;
    purge_if_due(now_ms());
    const u32 alignment_slices =
        alignment <= SLICE_SIZE ? 1 : static_cast<u32>(alignment >> SLICE_SHIFT);
    const Run run = obtain_run(current_heap(), slices_for(size == 0 ? 1 : size), alignment_slices);
    if (!run) return nullptr;
    transact({.op = Op::large_birth, .a = raw(run.first), .b = run.slices});
    fresh_zero = run.zero;
    return reinterpret_cast<void*>(run.address());
}

/// What a pointer into the window points at.
struct Target {
    PageDesc* page;  // head
    u32 kind;        // TAG_...
    u32 owner;
    u32 bit;  // bitmap index; >= MAX_BITS: cannot be a block's start
};

Target target_of(const void* p) {
    const usize offset = offset_in_window(p);
    PageDesc* d = desc_at_offset(offset);
    u32 tag = d->tag.load(std::memory_order_acquire);
    if (kind_of(tag) == TAG_TAIL) {
        d -= d->head_delta;
        tag = d->tag.load(std::memory_order_acquire);
    }
    Target t{d, kind_of(tag), tag >> TAG_OWNER_SHIFT, MAX_BITS};
    if (is_page_kind(t.kind)) {
        t.bit = bit_index(static_cast<u32>(reinterpret_cast<uptr>(p) - d->base), d->bit_shift);
    }
    return t;
}

bool is_page(const Target& t) { return is_page_kind(t.kind); }

bool is_live_block(const Target& t) { return page_is_live(t.page, t.bit); }

/// Whether the address lies in a chunk of ours, and not of another client of the context.
bool is_ours(const void* p) {
    return domain().arena.holds(chunk_desc(chunk_of(slice_at(reinterpret_cast<uptr>(p)))));
}

/// Whether the slice is part of a run: only a large object's further slices are, without a tag of
/// their own.
bool in_large_object(uptr address) {
    const SliceIndex s = slice_at(address);
    const ChunkDesc* chunk = chunk_desc(chunk_of(s));
    return domain().arena.holds(chunk) && (chunk->free >> (raw(s) % SLICES_PER_CHUNK) & 1) == 0;
}

void report_not_live(const void* p, const Target& t) {
    const uptr address = reinterpret_cast<uptr>(p);
    if (!is_ours(p)) return report_bad_free(address, BadFree::foreign);
    const bool interior =
        is_page(t) ? (address - t.page->base) % t.page->block_size != 0 : in_large_object(address);
    report_bad_free(address, interior ? BadFree::interior : BadFree::not_live);
}

/// Puts a freed block on a page that was exhausted or becomes empty.
void push_exhausted(Heap* h, PageDesc* d, u32 entry) {
    // A page that was exhausted but is still the current one needs no list work.
    if (d->free_count == 0 && d->in_full_list == 0) return page_push(d, entry);
    const u64 now = now_ms();
    transact(
        {.op = Op::free_local, .heap = h, .a = reinterpret_cast<u64>(d), .b = entry, .now = now});
    purge_if_due(now);
}

/// A block on a page by an operation alone; `h` null: the page is another thread's.
void free_by_operation(void* p, Heap* h, const Target& t) {
    const u64 page = reinterpret_cast<u64>(t.page);
    if (h == nullptr) {
        if (transact({.op = Op::free_foreign, .a = page, .b = t.bit}).status != Status::ok)
            report_bad_free(reinterpret_cast<uptr>(p), BadFree::twice);
        return;
    }
    const u64 now = now_ms();
    const Reply r = transact({.op = Op::free_block, .heap = h, .a = page, .b = t.bit, .now = now});
    if (r.status != Status::ok) report_not_live(p, t);
    purge_if_due(now);
}

/// free by a signal handler on top of this thread's slow path: a block is marked, as another
/// thread's free would, and a large object waits.
void deallocate_nested(void* p, const Target& t) {
    if (t.kind == TAG_LARGE && reinterpret_cast<uptr>(p) == t.page->base && is_ours(p)) {
        if (!defer_free(t.page)) report_bad_free(reinterpret_cast<uptr>(p), BadFree::twice);
        return;
    }
    if (!is_page(t) || !is_own_heap(t.owner) || !is_live_block(t)) return report_not_live(p, t);
    switch (page_mark_remote(t.page, t.bit)) {
        case RemoteMark::marked:
            return;
        case RemoteMark::already_marked:
            return report_bad_free(reinterpret_cast<uptr>(p), BadFree::twice);
        case RemoteMark::first_of_page:
            remote_requeue(t.page);  // without locks
    }
}

void deallocate_in_page(void* p, const Target& t) {
    Heap* h = current_heap();
    if (h != nullptr && t.owner == h->id()) {
        if (AEP_UNLIKELY(page_is_marked(t.page, t.bit))) {
            return report_bad_free(reinterpret_cast<uptr>(p), BadFree::twice);
        }
        if (AEP_UNLIKELY(settings().pure)) return free_by_operation(p, h, t);
        if (!page_clear_bit(t.page, t.bit)) return report_not_live(p, t);
        const u32 entry =
            static_cast<u32>(reinterpret_cast<uptr>(p) - t.page->base) >> t.page->entry_shift;
        if (t.page->free_count - 1 < t.page->free_limit) return page_push(t.page, entry);
        return push_exhausted(h, t.page, entry);
    }
    if (AEP_UNLIKELY(!is_live_block(t))) return report_not_live(p, t);
    if (AEP_UNLIKELY(settings().pure)) return free_by_operation(p, nullptr, t);
    switch (page_mark_remote(t.page, t.bit)) {
        case RemoteMark::marked:
            return;
        case RemoteMark::already_marked:
            return report_bad_free(reinterpret_cast<uptr>(p), BadFree::twice);
        case RemoteMark::first_of_page:
            transact({.op = Op::queue_page, .a = reinterpret_cast<u64>(t.page)});
    }
}

void deallocate_large(void* p) {
    const u64 now = now_ms();
    const uptr address = reinterpret_cast<uptr>(p);
    const Reply r = address % SLICE_SIZE != 0
                        ? Reply{.status = Status::not_live}
                        : transact({.op = Op::free_large, .a = address, .now = now});
    if (r.status != Status::ok) return report_not_live(p, target_of(p));
    purge_if_due(now);
}

/// Tries to give the large object at `p` `slices` slices without moving it.
bool resize_large_in_place(void* p, PageDesc* d, u32 slices) {
    const SlowPath here;
    if (AEP_UNLIKELY(here.nested())) return false;
    const u64 address = reinterpret_cast<u64>(p);
    const u32 old_slices = d->slices;
    if (slices < old_slices) {
        transact({.op = Op::shrink_large, .a = address, .b = slices, .now = now_ms()});
        return true;
    }
    if (slices == old_slices) return true;
    for (;;) {
        const Reply r = transact({.op = Op::grow_large, .a = address, .b = slices});
        if (r.status == Status::ok) {
            if (r.run.committed) return true;
            if (backing().commit(r.run.address(), r.run.bytes())) {
                transact({.op = Op::commit_run, .a = raw(r.run.first), .b = r.run.slices});
                return true;
            }
            transact({.op = Op::shrink_large, .a = address, .b = old_slices, .now = now_ms()});
            return false;
        }
        if (r.status != Status::beyond_end) return false;
        const usize end = usize{raw(slice_at(address))} + slices;
        const usize have = usize{r.value} * SLICES_PER_CHUNK;
        const u32 chunks = static_cast<u32>((end - have + SLICES_PER_CHUNK - 1) / SLICES_PER_CHUNK);
        if (!extend_window(static_cast<u32>(r.value), chunks)) return false;
    }
}

void* move_block(void* p, usize old_usable, usize size, usize reserve) {
    void* q = allocate(reserve);
    if (q == nullptr && reserve != size) q = allocate(size);
    if (q == nullptr) return nullptr;
    std::memcpy(q, p, old_usable < size ? old_usable : size);
    deallocate(p);
    return q;
}

}  // namespace

namespace detail {

void deallocate_exhausted(PageDesc* d, u32 entry) {
    const SlowPath here;
    if (AEP_UNLIKELY(here.nested())) {
        // The interrupted thread was about to leave its heap alone, but had not yet: the block's
        // bit is clear. As if it were not: then it is an ordinary block of a page in other hands.
        const u32 offset = entry << d->entry_shift;
        page_set_bit(d, offset >> d->bit_shift);
        void* p = reinterpret_cast<void*>(d->base + offset);
        return deallocate_nested(p, target_of(p));
    }
    push_exhausted(current_heap(), d, entry);
}

void deallocate_slow(void* p) {
    if (p == nullptr) return;
    if (!owns(p)) {
        if (AEP_UNLIKELY(emergency_owns(p))) {
            if (!emergency_free(p)) report_bad_free(reinterpret_cast<uptr>(p), BadFree::not_live);
            return;
        }
        if (is_libc_block(p)) return libc_free(p);
        return report_bad_free(reinterpret_cast<uptr>(p), BadFree::foreign);
    }
    const SlowPath here;
    const Target t = target_of(p);
    if (AEP_UNLIKELY(here.nested())) return deallocate_nested(p, t);
    if (AEP_LIKELY(is_page(t) && is_own_heap(t.owner))) return deallocate_in_page(p, t);
    if (t.kind == TAG_LARGE && is_ours(p)) return deallocate_large(p);
    report_not_live(p, t);
}

}  // namespace detail

void* allocate_slow(usize size) {
    bool fresh_zero;
    if (AEP_UNLIKELY(size > MAX_CLASS_SIZE)) return allocate_large(size, SLICE_SIZE, fresh_zero);
    const u32 c = class_of(size);
    Heap* h = attached_heap();
    const SlowPath here;
    if (AEP_UNLIKELY(here.nested())) return emergency_allocate(size, 1);
    if (AEP_UNLIKELY(++ticks % TICKS_PER_LOOK == 0 && h != nullptr)) purge_if_due(now_ms());
    if (AEP_LIKELY(h != nullptr)) return reinterpret_cast<void*>(pop_from(h, c, fresh_zero));
    return allocate_shared(c, fresh_zero);
}

void* allocate_zeroed(usize total) {
    // Pages of the direct classes do not know which of their blocks are still untouched.
    if (total <= MAX_DIRECT) {
        void* small = allocate(total);
        return AEP_LIKELY(small != nullptr) ? std::memset(small, 0, total) : nullptr;
    }
    bool fresh_zero = false;
    void* p = total <= MAX_CLASS_SIZE ? allocate_class(class_of(total), fresh_zero)
                                      : allocate_large(total, SLICE_SIZE, fresh_zero);
    if (p == nullptr || fresh_zero) return p;
    if (total >= FRESH_ABOVE && backing().commit == nullptr) {
        const uptr address = reinterpret_cast<uptr>(p);
        if (backing().purge(address, round_up(total, SLICE_SIZE))) return p;
    }
    return std::memset(p, 0, total);
}

void* allocate_aligned(usize alignment, usize size) {
    bool fresh_zero;
    if (alignment <= MIN_ALIGNMENT) return allocate(size);
    if (alignment <= SLICE_SIZE && size <= MAX_CLASS_SIZE) {
        const u32 c = class_of_aligned(size, alignment);
        if (c < CLASS_COUNT) return allocate_class(c, fresh_zero);
    }
    return allocate_large(size, alignment, fresh_zero);
}

void* reallocate(void* p, usize size) {
    if (AEP_UNLIKELY(!owns(p)) && !emergency_owns(p) && is_libc_block(p)) {
        return libc_realloc(p, size);
    }
    const usize usable = usable_size(p);
    if (AEP_UNLIKELY(usable == 0)) {
        detail::deallocate_slow(p);  // reports what it is
        return nullptr;
    }
    // A block keeps its place while at least half of it is used.
    if (size <= usable && (size >= usable / 2 || usable <= 32)) return p;
    if (AEP_UNLIKELY(size > HEAP_WINDOW)) return nullptr;
    if (usable > MAX_CLASS_SIZE && size > MAX_CLASS_SIZE) {
        PageDesc* d = desc_of(slice_at(reinterpret_cast<uptr>(p)));
        if (resize_large_in_place(p, d, slices_for(size))) return p;
    }
    // What grows once will grow again: leave room, more for what is expensive to move.
    const usize room = size <= usable ? 0 : size / (size <= MAX_CLASS_SIZE ? 8 : 4);
    void* moved = move_block(p, usable, size, size + room);
    return moved == nullptr && size <= usable ? p : moved;
}

usize usable_size(void* p) {
    if (AEP_UNLIKELY(!owns(p))) {
        if (emergency_owns(p)) return emergency_size(p);
        return p != nullptr && is_libc_block(p) ? libc_usable_size(p) : 0;
    }
    const Target t = target_of(p);
    if (AEP_LIKELY(is_page(t))) {
        return is_own_heap(t.owner) && is_live_block(t) ? t.page->block_size : 0;
    }
    if (t.kind != TAG_LARGE || reinterpret_cast<uptr>(p) != t.page->base || !is_ours(p)) return 0;
    return usize{t.page->slices} << SLICE_SHIFT;
}

bool trim() {
    const SlowPath here;
    if (here.nested() || !process_start()) return false;
    if (Heap* h = current_heap()) transact({.op = Op::trim, .heap = h, .now = now_ms()});
    return purge_all();
}

}  // namespace aep
