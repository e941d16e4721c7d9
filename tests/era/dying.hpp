// Purpose: one operation that its machine does not survive: ends it at a chosen access.
// Who calls it: tests/era/crash_every_access.cpp, regressions.cpp, messages.cpp.
// Crash rule: this is the test of the crash rules.
#pragma once

#include "tests/era/world.hpp"

namespace aep::era::test {

struct Died {};

/// Runs `operation` in the cache of `host` up to its access `last`, which does not happen. False:
/// it was through before. At access `evicted` all dirty lines reach memory.
template <class Operation>
bool dies_at(World& world, u32 host, u64 last, u64 evicted, Operation&& operation) {
    const auto usual = world.memory.before;
    u64 accesses = 0;
    world.act_as(host, 0);
    world.memory.before = [&](Access, const Word&) {
        ++accesses;
        if (accesses == evicted)
            for (const usize line : world.memory.dirty(host)) world.memory.evict(line);
        if (accesses == last) throw Died{};
    };
    bool died = false;
    try {
        operation();
    } catch (const Died&) {
        died = true;
    }
    world.memory.before = usual;
    return died;
}

inline constexpr u64 NEVER = ~u64{0};
inline constexpr u64 TAKEN = 6;  // a recoverer's first access when the dead node's word is durable

}  // namespace aep::era::test
