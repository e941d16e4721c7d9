// Purpose: the walks of check.hpp, over the parts in check_arena.cpp and check_heap.cpp.
// Who calls it: tests; the checked build after every operation.
// Crash rule: reads only.
#include "dsm-core/heap/check.hpp"

#include "dsm-core/heap/check_state.hpp"

namespace aep {

namespace {

uptr address_of(const Heap* h) { return reinterpret_cast<uptr>(h); }

}  // namespace

bool HeapCheck::heap_state(const Heap* h) {
    const HeapState state = h->state.load(std::memory_order_relaxed);
    return require(h->empty_page == &dom_.empty_page, "a heap knows another empty page", "heap",
                   address_of(h)) &&
           require(state != HeapState::unused || h->page_count == 0, "an unused heap has pages",
                   "heap", address_of(h), h->page_count) &&
           require(moment_ != CheckMoment::idle ||
                       (h->sequence.load(std::memory_order_relaxed) & 1) == 0,
                   "an operation is open though none is: fork would wait forever", "heap",
                   address_of(h), h->sequence.load(std::memory_order_relaxed));
}

bool HeapCheck::list_of_heaps(const Heap* first, HeapState state, u64& length) {
    length = 0;
    for (const Heap* h = first; h != nullptr; h = h->next)
        if (!require(++length <= dom_.heaps_used, "a list of heaps has no end", "heap",
                     address_of(h)) ||
            !require(h->state.load(std::memory_order_relaxed) == state,
                     "a heap is on the list of another state", "heap", address_of(h)))
            return false;
    return true;
}

bool HeapCheck::heaps() {
    const Domain& dom = dom_;
    u64 abandoned = 0, unused = 0;
    for (u32 n = 1; n <= dom.heaps_used; ++n) {
        const u32 id = index_of(dom) * HEAP_IDS + n;
        const Heap* h = heap_at(dom, n);
        u64 pages_listed = 0;
        if (!require(h->id() == id && kind_of(h->tag) == TAG_PAGE, "a heap has another's tag",
                     "heap", address_of(h), h->tag, id) ||
            !heap_state(h) || !heap_lists(h, pages_listed))
            return false;
        const HeapState state = h->state.load(std::memory_order_relaxed);
        heaps_pages_ += h->page_count;
        abandoned += state == HeapState::abandoned;
        unused += state == HeapState::unused;
    }
    u64 length = 0;
    return list_of_heaps(dom.abandoned, HeapState::abandoned, length) &&
           require(length == abandoned, "an abandoned heap is on no list", "domain",
                   domain_address(), length, abandoned) &&
           require(length == dom.abandoned_count.load(std::memory_order_relaxed),
                   "the count of abandoned heaps is wrong", "domain", domain_address(),
                   dom.abandoned_count.load(std::memory_order_relaxed), length) &&
           list_of_heaps(dom.unused, HeapState::unused, length) &&
           require(length == unused, "an unused heap is on no list", "domain", domain_address(),
                   length, unused);
}

/// Pages that say that they are queued for collection are on exactly one heap's list.
bool HeapCheck::remote_lists() {
    u64 listed = 0;
    for (u32 n = 0; n <= dom_.heaps_used; ++n) {
        const PageDesc* d = heap_at(dom_, n)->remote_pages.load(std::memory_order_relaxed);
        if (!require(n != 0 || d == nullptr, "a page is queued to no heap: it is never collected",
                     "page", d == nullptr ? 0 : slice_address(slice_of(d))))
            return false;
        for (; d != nullptr; d = d->remote_next)
            if (!require(d->remote_queued.load(std::memory_order_relaxed) != 0,
                         "a page on a remote list does not know it", "page",
                         slice_address(slice_of(d))) ||
                !require(++listed <= queued_pages_, "the remote lists hold a page twice", "page",
                         slice_address(slice_of(d))))
                return false;
    }
    return require(listed == queued_pages_, "a page thinks that it is on a remote list", "domain",
                   domain_address(), queued_pages_, listed);
}

bool HeapCheck::totals() {
    const Domain& dom = dom_;
    const PageDesc& empty = dom.empty_page;
    return require(empty.hand == 0 && empty.until == 0 && empty.extended == 0 &&
                       empty.next == nullptr && empty.tag.load(std::memory_order_relaxed) == 0,
                   "the empty page was written to", "domain", domain_address()) &&
           require(report_.pages == heaps_pages_, "pages belong to no heap's lists", "domain",
                   domain_address(), heaps_pages_, report_.pages) &&
           require(dom.large_count.load(std::memory_order_relaxed) == report_.large_objects,
                   "the count of large objects is wrong", "domain", domain_address(),
                   dom.large_count.load(std::memory_order_relaxed), report_.large_objects) &&
           require(dom.large_bytes.load(std::memory_order_relaxed) == large_bytes_,
                   "the bytes of large objects are wrong", "domain", domain_address(),
                   dom.large_bytes.load(std::memory_order_relaxed), large_bytes_) &&
           require(moment_ != CheckMoment::idle || report_.reserved_runs == 0,
                   "a run is reserved though no operation is open: it is lost", "domain",
                   domain_address(), report_.reserved_runs) &&
           require(
               moment_ != CheckMoment::idle || dom.visitors.load(std::memory_order_relaxed) == 0,
               "an operation is open though none is: fork would wait forever", "domain",
               domain_address(), dom.visitors.load(std::memory_order_relaxed));
}

bool HeapCheck::domain_wide() { return chunks() && heaps() && remote_lists() && totals(); }

bool check_domain(const Domain& dom, CheckReport& report, CheckMoment moment) {
    report = {};
    return HeapCheck(dom, report, moment).domain_wide();
}

bool check_heap(const Heap* h, const PageDesc* deep, CheckReport& report) {
    HeapCheck check(domain_at(h->id() / HEAP_IDS), report, CheckMoment::underway);
    u64 pages_listed = 0;
    return check.heap_lists(h, pages_listed) && (deep == nullptr || check.page(deep, true));
}

}  // namespace aep
