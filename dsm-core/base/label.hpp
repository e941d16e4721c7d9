// Purpose: what a sender says of a message, for its receiver alone: nothing here reads it.
// Who calls it: the sharing operations, the mailboxes between nodes, the C API.
// Crash rule: no state.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

struct Label {
    u64 tag = 0;
    u64 type = 0;  // a hash of what the object is; 0: not said
    u32 version = 0;
    u32 reserved = 0;
    friend constexpr bool operator==(const Label&, const Label&) = default;
};

}  // namespace aep
