// Purpose: whether this copy of the library serves its program, or steps aside and leaves it to
//          libc's malloc: where our heap would lie, the program or somebody else needs the
//          addresses.
// Who calls it: allocator.cpp and process.cpp, before anything else.
// Crash rule: private to the process.
//
// Who is left alone:
// * a program that maps contexts itself (the daemon, the command line, the completer), although the
//   library is preloaded, as by /etc/ld.so.preload;
// * one with a sanitizer whose shadow lies where the heap or its metadata would;
// * the second of two copies in one address space: the guest's under a user-mode emulator, or one
//   in a namespace of dlmopen. Both would use the same addresses, which the first has;
// * what is served by the first of two copies in one namespace: two builds that are both preloaded,
//   or one preloaded and one linked or opened. Everybody's malloc is the first one's; the second
//   says nothing.
#pragma once

#include <atomic>

#include "dsm-core/base/types.hpp"

namespace aep {

enum class Aside : u8 { undecided, no, yes };
/// Changes once.
extern std::atomic<Aside> aside;

/// Whether no other copy comes before this one where names are looked up.
bool is_first_copy();

/// Decides it, and takes the place of the process's domain, without access, as the sign for other
/// copies. A message says why it steps aside. With AEP_REQUIRE=1 that is the program's end.
bool decide_aside();

/// Whether the program stays on libc's malloc. Thread-safe; async-signal-safe once it is decided.
/// Cost: a load.
inline bool stays_on_libc() {
    const Aside decided = aside.load(std::memory_order_acquire);  // what it came with
    return AEP_LIKELY(decided == Aside::no) ? false : decide_aside();
}

}  // namespace aep
