// Purpose: a domain for one test: mapped in the test's own child, driven by operations directly,
// without backing and
//          without memory behind the chunks (the core never touches it).
// Who calls it: the unit tests of dsm-core/heap.
// Crash rule: the child's memory dies with it.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include "dsm-core/heap/check.hpp"
#include "dsm-core/op/heap_ops.hpp"
#include "dsm-core/op/operations.hpp"
#include "shim/backing/backing.hpp"
#include "shim/driver/process.hpp"
#include "tests/unit/in_child.hpp"

namespace aep {

/// What a broken invariant looks like when a test fails.
inline std::ostream& operator<<(std::ostream& out, const CheckReport& r) {
    if (r.broken == nullptr) return out << "sound";
    return out << r.broken << "; " << r.kind << " at 0x" << std::hex << r.object << ", found 0x"
               << r.found << ", expected 0x" << r.expected << std::dec;
}

/// The domain of these tests.
template <HeapOperation O>
typename O::Reply perform(const O& o) {
    return perform(domain(), o);
}

namespace test {

constexpr u32 ALL_SLICES = SLICES_PER_CHUNK;

/// An empty domain with metadata for `chunks` chunks; call it once, in a child.
inline Domain& make_domain(u32 chunks = 32) {
    void* wanted = reinterpret_cast<void*>(DOMAINS_BASE);
    const usize bytes = HEAPS_OFFSET + usize{HEAPS_PER_STEP + 1} * HEAP_STRIDE;
    void* at = mmap(wanted, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    EXPECT_EQ(at, wanted);
    EXPECT_TRUE(map_metadata(ChunkIndex{0}, chunks));
    Domain& dom = domain();
    domain_init(dom, 0);
    dom.heaps_mapped.store(HEAPS_PER_STEP);
    return dom;
}

inline void add_chunks(u32 first, u32 count, bool zero = true, bool committed = true) {
    perform(op::AddChunks{
        .first = ChunkIndex{first}, .count = count, .zero = zero, .committed = committed});
}

/// Runs `body` in a child, in a domain of its own with so many chunks.
template <u32 CHUNKS, class Body>
void in_domain(const Body& body) {
    in_child([&] {
        make_domain();
        add_chunks(0, CHUNKS);
        body();
    });
}

inline Heap* new_heap() {
    const auto r = perform(op::AcquireHeap{});
    EXPECT_EQ(r.status, Status::ok);
    return r.heap;
}

inline void abandon(Heap* h, u64 now = 0) { perform(op::AbandonHeap{.heap = h, .now = now}); }

/// A page of class `c` with room, fresh from the arena if need be.
inline PageDesc* page_for(Heap* h, u32 c, u64 now = 0) {
    const auto r = perform(op::Refill{.heap = h, .size_class = c, .now = now, .fresh = true});
    return r.status == Status::ok ? r.page : nullptr;
}

/// malloc of class `c` as the driver does it; 0: no memory.
inline uptr pop(Heap* h, u32 c, u64 now = 0) {
    PageDesc* d = h->queues[c].head;
    uptr block = 0;
    if (page_take(d, block)) return block;
    d = page_for(h, c, now);
    if (d != nullptr) page_take(d, block);
    return block;
}

inline PageDesc* page_of(uptr block) {
    PageDesc* d = desc_of(slice_at(block));
    return kind_of(d->tag.load()) == TAG_TAIL ? d - d->head_delta : d;
}
inline u32 index_of(uptr block) {
    const PageDesc* d = page_of(block);
    return block_index(static_cast<u32>(block - base_of(d)), d->magic);
}

/// free by the owner as the driver does it.
inline bool push(Heap* h, uptr block, u64 now = 0) {
    PageDesc* d = page_of(block);
    if (!page_clear_bit(d, index_of(block))) return false;
    if (page_regain(d)) perform(op::RefilePage{.heap = h, .page = d, .now = now});
    return true;
}

/// free by another thread: the mark, and what the driver does about it.
inline RemoteMark mark(uptr block) { return page_mark_remote(page_of(block), index_of(block)); }
inline void queue_page(PageDesc* d) { perform(op::QueuePage{.page = d}); }
inline void push_remote(uptr block) {
    if (mark(block) == RemoteMark::first_of_page) queue_page(page_of(block));
}

/// Collects what was freed remotely: the next request of a class that has no page.
inline void drain(Heap* h) { perform(op::Refill{.heap = h, .size_class = class_of(100'000)}); }
/// The id of the heap whose page it is.
inline u32 owner(uptr block) { return page_of(block)->tag.load() >> TAG_OWNER_SHIFT; }

inline void expect_sound(CheckMoment moment = CheckMoment::idle) {
    CheckReport report;
    EXPECT_TRUE(check_domain(domain(), report, moment)) << report;
}

}  // namespace test
}  // namespace aep
