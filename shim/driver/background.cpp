// Purpose: see background.hpp.
// Who calls it: see background.hpp.
// Crash rule: see background.hpp.
#include "shim/driver/background.hpp"

namespace aep {

namespace background {

constinit std::atomic<u32> state{OFF};

void wake() {
    u32 expected = ASLEEP;
    if (state.compare_exchange_strong(expected, AWAKE, std::memory_order_relaxed))
        detail::futex(&state, detail::FUTEX_WAKE, 1);
}

}  // namespace background

void background_enable(bool wanted) {
    background::state.store(wanted ? background::WANTED : background::OFF,
                            std::memory_order_relaxed);
}

void background_forget() {
    if (background::state.load(std::memory_order_relaxed) != background::OFF)
        background_enable(true);
}

}  // namespace aep
