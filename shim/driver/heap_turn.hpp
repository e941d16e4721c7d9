// Purpose: whose turn it is in a heap: its sequence is odd while one thread performs operations of
//          it, the heap's own as a rule.
// Who calls it: transact.cpp.
// Crash rule: private to the process, whose threads die together.
//
// What two at once in a heap may see; the gate is transact.hpp's.
//
//   begin_turn | visitor      one has the turn; its thread waits for a visitor, who stays for one operation;
//                             a visitor waits for nobody: he goes away
//   visitor | visitor         one has the turn, the other goes away
//   begin_turn | close_gate   the thread sees the gate closed and steps back, or the fork sees it inside and
//                             waits: both orders are seq_cst, so that one of them sees the other
//   end_turn | begin_turn     whoever comes after it sees all of the turn before
#pragma once

#include "dsm-core/heap/heap.hpp"

namespace aep {

/// False: another thread has its turn.
inline bool try_begin_turn(Heap* h) {
    u32 even = h->sequence.load(std::memory_order_relaxed) & ~u32{1};
    // seq_cst: fork closes the gate first and looks at the sequence second; we do it the other way
    // round. Acquire of the last turn's end is in it.
    return h->sequence.compare_exchange_strong(even, even + 1, std::memory_order_seq_cst);
}

/// Waits for a visitor, who stays for one operation.
inline void begin_turn(Heap* h) {
    constexpr detail::Timespec LONGEST_SLEEP{0, 1'000'000};
    for (u32 tries = 0; AEP_UNLIKELY(!try_begin_turn(h)); ++tries) {
        const u32 seen = h->sequence.load(std::memory_order_relaxed);
        if (tries < 100 || (seen & 1) == 0)
            __builtin_ia32_pause();
        else
            detail::futex(&h->sequence, detail::FUTEX_WAIT, seen, &LONGEST_SLEEP);
    }
}

/// Nobody else writes the sequence meanwhile.
inline void end_turn(Heap* h) {
    // Release: what was done is seen by whoever has the next turn.
    h->sequence.store(h->sequence.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

}  // namespace aep
