// Purpose: what a pointer into the heap window points at, and whose it is.
// Who calls it: allocator.cpp and deallocate.cpp.
// Crash rule: no state.
#pragma once

#include "shim/driver/process.hpp"
#include "shim/driver/slow_path.hpp"

namespace aep {

/// What a pointer into the window points at. All of it comes from the pointer and the descriptor's
/// line 1: a thread that frees another's block does not touch the line that the owner writes at
/// each malloc and free.
struct Target {
    PageDesc* page;  // head
    u32 tag;
    u32 kind;   // TAG_...
    u32 index;  // of the block; NO_BLOCK: none begins there
};

/// `head`: the descriptor of a page's or object's first slice, with its tag; `offset`: bytes from there.
[[gnu::always_inline]] inline Target target_in(PageDesc* head, u32 tag, u32 offset) {
    const u32 kind = kind_of(tag);
    Target t{head, tag, kind, NO_BLOCK};
    if (AEP_LIKELY(kind == TAG_PAGE)) t.index = block_index(offset, head->magic);
    return t;
}

/// In a further slice of a page, which `d` describes.
[[gnu::always_inline]] inline Target target_behind(const void* p, PageDesc* d) {
    PageDesc* head = d - d->head_delta;
    const u32 offset =
        (d->head_delta << SLICE_SHIFT) + static_cast<u32>(reinterpret_cast<uptr>(p) % SLICE_SIZE);
    return target_in(head, head->tag.load(std::memory_order_acquire), offset);
}

[[gnu::always_inline]] inline Target target_of(const void* p, PageDesc* d) {
    const u32 tag = d->tag.load(std::memory_order_acquire);
    return kind_of(tag) == TAG_TAIL ? target_behind(p, d)
                                    : target_in(d, tag, reinterpret_cast<uptr>(p) % SLICE_SIZE);
}

inline Target target_of(const void* p) { return target_of(p, desc_at(reinterpret_cast<uptr>(p))); }

inline bool is_page(const Target& t) { return t.kind == TAG_PAGE; }

/// Whether the calling thread's heap owns the page; the static heap of a thread without one owns
/// none.
inline bool is_own(const Target& t) { return (t.tag ^ thread_heap->tag) < 1u << TAG_OWNER_SHIFT; }

/// Whether the address lies in a chunk of ours, and not of another client of the context.
inline bool is_ours(const void* p) {
    return domain().arena.holds(chunk_desc(chunk_of(slice_at(reinterpret_cast<uptr>(p)))));
}

/// Whether a live block of this process begins there.
inline bool is_live_here(const void* p, Target t) {
    if (is_page(t)) {
        return is_own_heap(t.tag >> TAG_OWNER_SHIFT) && page_is_live(t.page, t.index) &&
               !page_is_marked(t.page, t.index);
    }
    return t.kind == TAG_LARGE && reinterpret_cast<uptr>(p) == base_of(t.page) && is_ours(p);
}

}  // namespace aep
