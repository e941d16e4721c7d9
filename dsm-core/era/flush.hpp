// Purpose: how the protocol's words are read, written and made durable: one small class for each
//          kind of memory. Tests bring a third one, a cache that loses unflushed lines.
// Who calls it: everything in dsm-core/era, as the template argument Memory.
// Crash rule: what was flushed before a fence is in the pool after it, whoever dies. What was not
//             may be there or not, line by line; a line is never torn.
#pragma once

#include "dsm-core/era/format.hpp"

namespace aep::era {

/// The kinds of access that a test may look at.
enum class Access : u8 { load, store, cas, flush, fence };
#ifdef AEP_MEMORY_HOOK
/// Called before each access of LocalMemory; a fence has no word. For tests of code that chooses
/// its Memory itself.
inline void (*memory_hook)(Access, const Word*) = nullptr;
inline void observe(Access access, const Word* word) {
    if (memory_hook != nullptr) memory_hook(access, word);
}
#else
inline void observe(Access, const Word*) {}
#endif

/// Memory whose content outlives every user of it: one machine, any number of processes. Nothing
/// is flushed; the order of the accesses is what counts.
struct LocalMemory {
    /// seq_cst: a sender fills a cell and then looks whether the receiver lives, a recoverer
    /// changes the node's word and then looks at the cells; one of them must see the other. A plain
    /// load on x86.
    u64 load(const Word& word) const {
        observe(Access::load, &word);
        return word.load(std::memory_order_seq_cst);
    }
    /// release: a record's head is not seen before its fields.
    void store(Word& word, u64 value) const {
        observe(Access::store, &word);
        word.store(value, std::memory_order_release);
    }
    /// seq_cst: as for load. False: the word was not `expected`.
    bool cas(Word& word, u64 expected, u64 desired) const {
        observe(Access::cas, &word);
        return word.compare_exchange_strong(expected, desired, std::memory_order_seq_cst);
    }
    void flush(const Word& word) const { observe(Access::flush, &word); }
    /// The compiler keeps the order that the flushes would have kept.
    void fence() const {
        observe(Access::fence, nullptr);
        std::atomic_signal_fence(std::memory_order_seq_cst);
    }
};

/// CXL memory that the machines' caches keep coherent. A line that another machine reads is
/// written back before; a line that nobody reads is lost with the machine that wrote it.
struct CxlMemory : LocalMemory {
    /// The processor has clwb (CPUID leaf 7, EBX bit 24), which keeps the line in the cache; else
    /// clflushopt is used, which does not.
    bool clwb = false;

    /// Starts to write the line back. About 1 us alone, little more for several under one fence.
    void flush(const Word& word) const {
        if (clwb)
            asm volatile("clwb %0" : : "m"(word) : "memory");
        else
            asm volatile("clflushopt %0" : : "m"(word) : "memory");
    }
    /// Waits until all lines flushed before are in the pool.
    void fence() const { asm volatile("sfence" : : : "memory"); }
};

/// Whether the pool's memory outlives the machine whose caches hold its lines.
enum class PoolCaches : u32 {
    coherent = 0,  // one machine: nothing need be written back
    clwb = 1,      // CXL: lines are written back, by this instruction
    clflushopt = 2,
};

/// Calls f(memory) with the Memory that fits.
template <class F>
auto with_memory(PoolCaches caches, F&& f) {
    if (caches == PoolCaches::coherent) {
        LocalMemory memory;
        return f(memory);
    }
    CxlMemory memory;
    memory.clwb = caches == PoolCaches::clwb;
    return f(memory);
}

}  // namespace aep::era
