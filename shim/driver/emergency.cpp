// Purpose: see emergency.hpp.
// Who calls it: allocator.cpp.
// Crash rule: see emergency.hpp.
#include "shim/driver/emergency.hpp"

#include <atomic>

namespace aep {
namespace {

constexpr usize HEADER = 16;
constexpr u64 LIVE = 0x4c49'5645'0000'0000;  // with the size in the low half

alignas(4096) u8 area[EMERGENCY_BYTES];

/// Bytes handed out (low half) and live blocks (high half): one word, so that the last free empties
/// the area in the same step that counts it.
std::atomic<u64> used{0};

/// The word before a block: LIVE | size while it is live. Written atomically: whoever frees takes
/// it.
std::atomic<u64>& header_of(const void* p) {
    return *reinterpret_cast<std::atomic<u64>*>(reinterpret_cast<uptr>(p) - sizeof(u64));
}

}  // namespace

void* emergency_allocate(usize size, usize alignment) {
    if (size >= EMERGENCY_BYTES || alignment >= EMERGENCY_BYTES) return nullptr;
    if (alignment < HEADER) alignment = HEADER;
    const usize rounded = round_up(size == 0 ? 1 : size, HEADER);
    u64 now = used.load(std::memory_order_relaxed);
    uptr begin;
    u64 next;
    do {
        const uptr from = reinterpret_cast<uptr>(area) + (now & 0xffff'ffff);
        begin = round_up(from + HEADER, alignment);
        const u64 end = begin + rounded - reinterpret_cast<uptr>(area);
        if (end > EMERGENCY_BYTES) return nullptr;
        next = ((now >> 32) + 1) << 32 | end;
        // acquire: what the last user of the memory did is over.
    } while (!used.compare_exchange_weak(now, next, std::memory_order_acq_rel));
    void* block = reinterpret_cast<void*>(begin);
    header_of(block).store(LIVE | rounded, std::memory_order_release);
    return block;
}

bool emergency_owns(const void* p) {
    return reinterpret_cast<uptr>(p) - reinterpret_cast<uptr>(area) < EMERGENCY_BYTES;
}

usize emergency_size(const void* p) {
    if (reinterpret_cast<uptr>(p) % HEADER != 0 || p == area) return 0;
    const u64 header = header_of(p).load(std::memory_order_acquire);
    return header >> 32 == LIVE >> 32 ? header & 0xffff'ffff : 0;
}

bool emergency_free(void* p) {
    if (emergency_size(p) == 0) return false;
    if (header_of(p).exchange(0, std::memory_order_acq_rel) == 0) return false;
    u64 now = used.load(std::memory_order_relaxed);
    u64 next;
    do {
        next = now >> 32 == 1 ? 0 : now - (u64{1} << 32);
    } while (!used.compare_exchange_weak(now, next, std::memory_order_acq_rel));
    return true;
}

}  // namespace aep
