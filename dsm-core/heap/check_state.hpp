// Purpose: the parts that the walks of check.hpp are made of.
// Who calls it: check.cpp, check_arena.cpp, check_heap.cpp; nobody else.
// Crash rule: reads only.
#pragma once

#include "dsm-core/heap/check_report.hpp"
#include "dsm-core/heap/domain.hpp"

namespace aep {

inline u32 tag_of(const PageDesc* d) { return d->tag.load(std::memory_order_acquire); }

/// One walk. Every method returns false as soon as the report names a violation.
class HeapCheck {
  public:
    HeapCheck(const Domain& dom, CheckReport& report, CheckMoment moment)
        : dom_(dom), report_(report), moment_(moment) {}

    /// Everything; see check_domain.
    bool domain_wide();
    /// One held chunk's masks, bin and the tags of its free slices. Under the arena's lock, or
    /// idle.
    bool chunk_masks(ChunkIndex c) AEP_NOT_CHECKED;
    bool chunk_masks_locked(SliceIndex first, u32 slices);
    /// The lists of one heap. Sets pages_listed to how many pages they hold.
    bool heap_lists(const Heap* h, u64& pages_listed);
    /// One page: its descriptor, and with `blocks` every block's whereabouts.
    bool page(const PageDesc* d, bool blocks);
    /// That remote marks are on live blocks only and that the page is queued for them. Idle only.
    bool remote_marks(const PageDesc* d);

  private:
    bool require(bool holds, const char* what, const char* kind, uptr object, u64 found = 0,
                 u64 expected = 0) {
        if (AEP_LIKELY(holds)) return true;
        report_.broken = what;
        report_.kind = kind;
        report_.object = object;
        report_.found = found;
        report_.expected = expected;
        return false;
    }

    // check_arena.cpp
    bool chunks();
    bool slices_of_chunk(ChunkIndex c);
    bool run_at(SliceIndex first);
    bool clean_bitmaps(SliceIndex s, const char* kind);
    bool dirty_list() AEP_NOT_CHECKED;  // idle, as in what follows
    bool bins() AEP_NOT_CHECKED;

    // check_heap.cpp
    bool queue(const Heap* h, u32 c, u64& pages_listed);
    bool direct_table(const Heap* h);
    bool full_list(const Heap* h, u64& pages_listed);
    bool linked_page(const Heap* h, const PageDesc* d);
    bool live_bits(const PageDesc* d);
    bool hand(const PageDesc* d);

    // check.cpp
    bool heaps() AEP_NOT_CHECKED;
    bool heap_state(const Heap* h);
    bool list_of_heaps(const Heap* first, HeapState state, u64& length);
    bool remote_lists();
    bool totals();

    uptr domain_address() const { return reinterpret_cast<uptr>(&dom_); }

    const Domain& dom_;
    CheckReport& report_;
    CheckMoment moment_;
    u32 run_end_ = 0;   // slices before it belong to the run met last
    u32 run_kind_ = 0;  // its tag's kind
    u64 large_bytes_ = 0;
    u64 queued_pages_ = 0;  // descriptors whose remote_queued is set
    u64 heaps_pages_ = 0;   // sum of page_count
    u64 dirty_chunks_ = 0;  // chunks that say they are on the dirty list
    u64 binned_ = 0;        // chunks with a rank
};

}  // namespace aep
