// Purpose: see sendable.hpp.
// Who calls it: see sendable.hpp.
// Crash rule: see sendable.hpp.
#include "shim/sharing/sendable.hpp"

#include <cstring>

#include "shim/backing/pool_attach.hpp"
#include "shim/driver/allocator.hpp"
#include "shim/driver/growth.hpp"
#include "shim/driver/slow_path.hpp"
#include "shim/driver/thread.hpp"
#include "shim/driver/transact.hpp"
#include "shim/sharing/guests.hpp"

namespace aep {

namespace {

bool is_shared(u32 chunk) { return in_pool(chunk) && pool.state(chunk) == ChunkView::ours; }

/// A page of class `c` that has a free block; null: no memory.
PageDesc* page_with_room(Heap* h, u32 c) {
    const op::Refill own{.heap = h, .size_class = c, .now = now_ms(), .own_only = true};
    if (PageDesc* d = refill(own)) return d;
    op::Refill made = own;
    made.run = obtain_run_within(h, page_slices(c), 1, is_shared);
    return made.run ? refill(made) : nullptr;
}

void* small_block(u32 c) {
    const ProcessLockScope scope(shared_heap_lock);
    Heap* h = sending_heap();
    if (h == nullptr) return nullptr;
    PageDesc* d = h->queues[c].head;
    if (!heap_refill(h, d)) d = page_with_room(h, c);
    uptr block = 0;
    bool fresh_zero;
    if (d != nullptr) page_take_tracked(d, block, fresh_zero);
    return reinterpret_cast<void*>(block);
}

void* large_block(usize size, usize alignment) {
    const u32 slices = static_cast<u32>((size + SLICE_SIZE - 1) >> SLICE_SHIFT);
    const u32 aligned = alignment <= SLICE_SIZE ? 1 : static_cast<u32>(alignment >> SLICE_SHIFT);
    op::MakeLarge made{.heap = current_heap(), .slices = slices, .alignment = aligned};
    made.bytes = round_up(size, SLICE_SIZE);
    made.run = obtain_run_within(made.heap, slices, aligned, is_shared);
    if (!made.run) return nullptr;
    const Run run = make_large(made);
    if (!run) return nullptr;
    return reinterpret_cast<void*>(run.address());
}

void* sendable_block(usize size, usize alignment) {
    const SlowPath here;
    if (here.nested()) return nullptr;
    if (size <= MAX_CLASS_SIZE && alignment <= SLICE_SIZE) {
        const u32 c =
            alignment <= MIN_ALIGNMENT ? class_of(size) : class_of_aligned(size, alignment);
        if (c < CLASS_COUNT) return small_block(c);
    }
    return large_block(size == 0 ? 1 : size, alignment);
}

}  // namespace

void* detail::move_to_sendable(void* block, usize size, usize alignment, usize used) {
    void* other = sendable_block(size, alignment);
    if (other == nullptr) return block;
    std::memcpy(other, block, used);
    deallocate(block);
    return other;
}

}  // namespace aep
