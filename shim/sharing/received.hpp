// Purpose: what a receive gives.
// Who calls it: sharing.hpp, group_view.hpp, preload/.
// Crash rule: no state.
#pragma once

#include "dsm-core/sharing/format.hpp"

namespace aep {

struct Received {
    void* object = nullptr;
    usize bytes = 0;
    ShareId sender{};
    Label label{};
    void* group = nullptr;  // of which the object is the root
};

}  // namespace aep
