// Purpose: what a part of the client side does about a fork of the process.
// Who calls it: whoever has state that a fork concerns describes it; shim/driver/forking.cpp has
//               the list.
// Crash rule: no state.
#pragma once

namespace aep {

/// All of it is called by the forking thread, and may make system calls only. Null: nothing.
struct ForkParticipant {
    /// In the parent, before: 0, or the errno with which fork fails, and then nothing is changed.
    int (*before)() = nullptr;
    /// In the parent, after; also when somebody who was asked later has refused.
    void (*in_parent)() = nullptr;
    /// In the child, which has no other thread.
    void (*in_child)() = nullptr;
};

}  // namespace aep
