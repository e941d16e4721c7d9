// Purpose: see decay.hpp.
// Who calls it: arena.cpp.
// Crash rule: see decay.hpp.
#include "dsm-core/heap/decay.hpp"

namespace aep {

namespace {

constexpr u64 WHOLE = 1 << 16;

/// By age in epochs: the part of a surplus, of WHOLE, that may still stay: 1 less
/// x^3 (6x^2 - 15x + 10), the smootherstep.
struct Curve {
    u32 kept[Decay::EPOCHS];
    constexpr Curve() : kept{} {
        constexpr u64 N = Decay::EPOCHS;
        for (u64 i = 0; i < N; ++i) {
            const u64 gone = i * i * i * (6 * i * i + 10 * N * N - 15 * i * N);
            kept[i] = static_cast<u32>(WHOLE - WHOLE * gone / (N * N * N * N * N));
        }
    }
};
constexpr Curve CURVE;

u32 least_of(const u32 (&values)[Decay::EPOCHS]) {
    u32 least = values[0];
    for (const u32 v : values) least = v < least ? v : least;
    return least;
}

}  // namespace

void Decay::advance(u64 now, u64 length) {
    const u64 passed = (now - epoch_end_) / length + 1;
    const u32 steps = passed < EPOCHS ? static_cast<u32>(passed) : EPOCHS;
    // Since the last look nothing was taken that the epoch of that look does not know.
    for (u32 i = 0; i < steps; ++i) {
        epoch_ = (epoch_ + 1) % EPOCHS;
        least_[epoch_] = dirty();
        surplus_[epoch_] = 0;
    }
    epoch_end_ = (passed <= EPOCHS ? epoch_end_ + (passed - 1) * length : now) + length;
}

u32 Decay::due(u64 now, u64 window) {
    if (window == 0) {
        owed_ = dirty();
    } else if (now >= epoch_end_) {
        advance(now, window < EPOCHS ? 1 : window / EPOCHS);
        const u32 unneeded = least_of(least_);
        if (unneeded > unneeded_) surplus_[epoch_] = unneeded - unneeded_;
        unneeded_ = unneeded;
        u64 kept = 0;
        for (u32 age = 0; age < EPOCHS; ++age)
            kept += u64{surplus_[(epoch_ + EPOCHS - age) % EPOCHS]} * CURVE.kept[age];
        kept /= WHOLE;
        owed_ = unneeded > kept ? static_cast<u32>(unneeded - kept) : 0;
    }
    choose_look(now);
    return owed_;
}

void Decay::purged(u32 slices, u64 now) {
    const auto less = [slices](u32& n) { n -= slices < n ? slices : n; };
    set_dirty(dirty() - (slices < dirty() ? slices : dirty()));
    less(owed_);
    less(unneeded_);
    for (u32& least : least_) less(least);
    choose_look(now);
}

}  // namespace aep
