// Purpose: this process as a client of a context: finding its daemon, attaching, mapping what the
//          daemon hands out; and attaching again as a forked child.
// Who calls it: process.cpp once at the start; joined_backing.cpp in a forked child.
// Crash rule: a client's life is the lock that its life token keeps. Killed before that is mapped,
//             it dies with the descriptor: the daemon takes back what it had entered for us.
#pragma once

#include "shim/context/client.hpp"

namespace aep {

enum class Join {
    joined,
    absent,  // nobody asked for a context, and there is none
    failed,  // said in a message
};

/// Looks for a context as the settings say and joins it: everything of it is mapped afterwards,
/// this client's domain is empty and ready, and the pool is `pool`.
Join join_context(const Settings& settings);

/// In a forked child, whose heap is private: becomes a client of its own, to take chunks. 0 or
/// -errno, with nothing more mapped than before.
long join_again();

}  // namespace aep
