// Purpose: see meter.hpp.
// Who calls it: see meter.hpp.
// Crash rule: see meter.hpp.
#include "shim/watch/meter.hpp"

#include "dsm-core/base/bits.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {

constinit Watch watch{{0}, {0}, {DEFAULT_SAMPLE_RATE}};
__thread Meter meter __attribute__((tls_model("initial-exec")));

namespace {

/// A request that the short path counts by its bytes is no smaller. It counts as one allocation for each such part of it.
constexpr i64 LEAST_MEDIUM = 1 * KiB;

/// Further than any thread gets.
constexpr i64 NEVER = i64{1} << 62;

/// The natural logarithm, in the processor's oldest unit: libc has none.
double logarithm(double x) {
    long double result = x;
    asm("fldln2\n\tfxch\n\tfyl2x" : "+t"(result));
    return static_cast<double>(result);
}

}  // namespace

/// xorshift64*: no more than evenly spread.
u64 Meter::next_random() {
    random_ ^= random_ >> 12;
    random_ ^= random_ << 25;
    random_ ^= random_ >> 27;
    return random_ * 0x2545'f491'4f6c'dd1dU;
}

/// Exponential: whether a byte is a sample depends on no other byte.
void Meter::draw_bytes() {
    const double rate = static_cast<double>(watch.rate.load(std::memory_order_relaxed));
    const double even = (static_cast<double>(next_random() >> 11) + 0.5) * 0x1p-53;  // (0, 1)
    const double distance = -logarithm(even) * rate;
    bytes_left_ = rate <= 1 ? 0 : distance < 0x1p61 ? static_cast<i64>(distance) : NEVER;
}

/// Evenly between 0 and twice the rate, so that a program's rhythm hits nothing.
void Meter::draw_allocations() {
    const u64 rate = watch.guard_rate.load(std::memory_order_relaxed);
    allocations_left_ = rate <= 1 ? 0 : static_cast<u32>(next_random() % (2 * rate - 1));
}

void Meter::begin() {
    sys::getrandom(&random_, sizeof random_, 0);
    random_ = (random_ ^ reinterpret_cast<u64>(this) ^ __builtin_ia32_rdtsc()) | 1;
    draw_bytes();
    draw_allocations();
}

u32 Meter::afford(u32 count, usize size) {
    if (AEP_UNLIKELY(random_ == 0)) begin();
    const u32 on = watch.on.load(std::memory_order_relaxed);
    u32 may = count;
    const i64 bytes = static_cast<i64>(size);
    if ((on & WATCH_PROFILE) != 0 && bytes_left_ < bytes * count) {
        may = bytes_left_ < bytes ? 0 : static_cast<u32>(bytes_left_ / bytes);
        if (may == 0) due_ |= WATCH_PROFILE;
    }
    if ((on & WATCH_GUARD) != 0 && allocations_left_ < may) may = allocations_left_;
    if ((on & WATCH_GUARD) != 0 && allocations_left_ == 0) due_ |= WATCH_GUARD;
    if (due_ != 0) return 0;
    if ((on & WATCH_PROFILE) != 0) bytes_left_ -= bytes * may;
    if ((on & WATCH_GUARD) != 0) allocations_left_ -= may;
    return may;
}

i64 Meter::may_spend(i64 most) const {
    const u32 on = watch.on.load(std::memory_order_relaxed);
    if (due_ != 0) return 0;
    if ((on & WATCH_PROFILE) != 0 && bytes_left_ < most) most = bytes_left_;
    if ((on & WATCH_GUARD) == 0) return most;
    const i64 until_guarded = i64{allocations_left_} * LEAST_MEDIUM;
    return until_guarded < most ? until_guarded : most;
}

void Meter::spend(i64 bytes) {
    // More than was given: before anything was watched.
    if (bytes > 0 && bytes <= bytes_left_) bytes_left_ -= bytes;
    if (bytes > 0 && bytes / LEAST_MEDIUM <= allocations_left_)
        allocations_left_ -= static_cast<u32>(bytes / LEAST_MEDIUM);
}

u32 Meter::take_due() {
    if (busy_) return 0;
    const u32 was = due_ & watch.on.load(std::memory_order_relaxed);
    due_ = 0;
    if ((was & WATCH_PROFILE) != 0) draw_bytes();
    if ((was & WATCH_GUARD) != 0)
        draw_allocations();
    else if (allocations_left_ != 0)
        --allocations_left_;  // a sample is an allocation like others
    return was;
}

}  // namespace aep
