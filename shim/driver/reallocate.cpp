// Purpose: realloc: in place where it can be, else by a move that leaves room.
// Who calls it: preload/, the C API.
// Crash rule: a move frees the old block after the new one has its contents.
#include <cstring>

#include "shim/driver/allocator.hpp"
#include "shim/driver/aside.hpp"
#include "shim/driver/emergency.hpp"
#include "shim/driver/growth.hpp"
#include "shim/driver/libc_heap.hpp"
#include "shim/driver/shared_blocks.hpp"
#include "shim/driver/transact.hpp"
#include "shim/driver/watched.hpp"
#include "shim/watch/guard.hpp"

namespace aep {

namespace {

using detail::allocate_large;
using detail::slices_for;

/// A large block that shrinks gives back what it no longer needs if that is at least this part of
/// it: less is not worth an operation, and another when it grows again.
constexpr usize GIVE_BACK_PART = 16;

/// Gives the large object at `p` `slices` slices, more than it has, without moving it, if that can
/// be.
bool grow_large(void* p, u32 slices) {
    const u64 address = reinterpret_cast<u64>(p);
    for (;;) {
        const auto r = transact(op::GrowLarge{.address = address, .slices = slices});
        if (r.status == Status::ok) return true;
        if (r.status != Status::beyond_end) return false;
        const usize end = usize{raw(slice_at(address))} + slices;
        const usize have = usize{raw(r.missing)} * SLICES_PER_CHUNK;
        const u32 chunks = static_cast<u32>((end - have + SLICES_PER_CHUNK - 1) / SLICES_PER_CHUNK);
        if (!extend_window(raw(r.missing), chunks)) return false;
    }
}

/// Tries to make `slices` slices of the large object at `p` usable without moving it.
bool resize_in_place(void* p, PageDesc* d, u32 slices) {
    const u64 address = reinterpret_cast<u64>(p);
    const u32 old_slices = d->slices;
    const usize bytes = usize{slices} << SLICE_SHIFT;
    if (bytes <= d->committed) {
        if (slices < old_slices)
            transact(op::ShrinkLarge{.address = address, .slices = slices, .now = now_ms()});
        return true;
    }
    if (slices > old_slices && !grow_large(p, slices)) return false;
    if (bytes <= d->committed) return true;
    if (backing().commit(address + d->committed, bytes - d->committed)) {
        transact(op::CommitLarge{.address = address, .slices = slices});
        return true;
    }
    if (slices > old_slices)
        transact(op::ShrinkLarge{.address = address, .slices = old_slices, .now = now_ms()});
    return false;
}

bool resize_large_in_place(void* p, PageDesc* d, u32 slices) {
    const usize before = d->committed;
    if (!resize_in_place(p, d, slices)) return false;
    if (AEP_UNLIKELY(is_watching())) watch_resized(p, before, d->committed);
    return true;
}

/// A block for `size` bytes that may grow by `room`.
void* allocate_with_room(usize size, usize room) {
    bool fresh_zero;
    return size + room <= MAX_CLASS_SIZE ? allocate(size + room)
                                         : allocate_large(size, SLICE_SIZE, fresh_zero, room);
}

/// realloc of what others refer to, too: they go on with the old one as it is.
bool must_move(const void* p) {
    if (!may_be_shared(p)) return false;
    const SharedBlocks* sharing = sharing_answers();
    return sharing != nullptr && sharing->is_referred_to(p);
}

void* move_block(void* p, usize old_usable, usize size, usize room) {
    void* q = allocate_with_room(size, room);
    if (q == nullptr && room != 0) q = allocate(size);
    if (q == nullptr) return nullptr;
    std::memcpy(q, p, old_usable < size ? old_usable : size);
    deallocate(p);
    return q;
}

}  // namespace

void* reallocate(void* p, usize size) {
    if (AEP_UNLIKELY(stays_on_libc())) return libc_realloc(p, size);
    if (AEP_UNLIKELY(!owns(p)) && !emergency_owns(p) && !guard_owns(p) && is_libc_block(p))
        return libc_realloc(p, size);
    const usize usable = usable_size(p);
    if (AEP_UNLIKELY(usable == 0)) {
        deallocate(p);  // reports what it is
        return nullptr;
    }
    if (AEP_UNLIKELY(must_move(p))) return move_block(p, usable, size, 0);
    // A block keeps its place while at least half of it is used; a large one gives back its end.
    if (fits_well(usable, size)) {
        if (usable > MAX_CLASS_SIZE && usable - size >= usable / GIVE_BACK_PART)
            resize_large_in_place(p, desc_at(reinterpret_cast<uptr>(p)), slices_for(size));
        return p;
    }
    if (AEP_UNLIKELY(size > HEAP_WINDOW)) return nullptr;
    if (usable > MAX_CLASS_SIZE && size > MAX_CLASS_SIZE) {
        PageDesc* d = desc_at(reinterpret_cast<uptr>(p));
        if (resize_large_in_place(p, d, slices_for(size))) return p;
    }
    // What grows once will grow again: leave room, more for what is expensive to move.
    const usize room = size <= usable ? 0 : size / (size <= MAX_CLASS_SIZE ? 8 : 4);
    void* moved = move_block(p, usable, size, room);
    return moved == nullptr && size <= usable ? p : moved;
}

}  // namespace aep
