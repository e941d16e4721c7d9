// Purpose: which parts of a domain's address range are in use. The arena has room for all chunks of
//          the window; what lies beyond those that there are is never touched, and never
//          accessible: neither mlockall nor a reader of the process's memory gives it any.
// Who calls it: context_file.cpp, join.cpp (a client's domain), process.cpp (a process's own).
// Crash rule: the memory is the process's own, or dies with the client.
#pragma once

#include "dsm-core/heap/domain.hpp"

namespace aep {

/// The end of a domain's first `heaps` heaps (and of the static one), from its start.
constexpr usize heaps_end(u32 heaps) { return HEAPS_OFFSET + (usize{heaps} + 1) * HEAP_STRIDE; }

/// Calls f(address, bytes), a bool, for each range of OS pages that a domain needs for chunks below
/// `chunks` and for `heaps` heaps, upwards, while f returns true. Reads nothing there.
template <class F>
bool for_each_domain_part(const Domain& dom, u32 chunks, u32 heaps, F f) {
    uptr begin = 0;
    uptr end = 0;
    const auto add = [&](uptr address, usize bytes) {
        const uptr first = round_down(address, OS_PAGE_SIZE);
        const uptr last = round_up(address + bytes, OS_PAGE_SIZE);
        if (first <= end) {  // the same OS page, or the next
            end = last > end ? last : end;
            return true;
        }
        const bool going_on = end == 0 || f(begin, end - begin);
        begin = first;
        end = last;
        return going_on;
    };
    const uptr start = reinterpret_cast<uptr>(&dom);
    return add(start, reinterpret_cast<uptr>(&dom.arena) - start) &&
           dom.arena.for_each_memory(chunks, add) &&
           add(start + HEAPS_OFFSET, heaps_end(heaps) - HEAPS_OFFSET) && f(begin, end - begin);
}

/// What lies in the place of the process's own domain.
enum class Place { ours, taken, no_memory };
/// Takes the addresses of a domain of the process's own with `heaps` heaps, without access; if they
/// are not ours already.
Place claim_own_domain(const Domain& dom, u32 heaps);
/// Makes it accessible, zero, with room for few chunks. False: it cannot be.
bool open_own_domain(const Domain& dom, u32 heaps);
/// Maps further heaps of it.
bool map_own_heaps(uptr address, usize bytes);

/// Makes room in the arena of a domain of the process's own for chunks below `end`. False: no
/// memory. Under the growth lock.
bool open_arena(const Domain& dom, u32 end);
/// The arena has room for chunks below `end` already: a context's domain.
void arena_is_open(u32 end);

}  // namespace aep
