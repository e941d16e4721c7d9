// Purpose: this process's part in sharing: sending blocks of its heap, receiving those of others,
//          and what a free of either means.
// Who calls it: the C API (preload/dsm.cpp); the allocator and fork, which know it by what it has
//               registered (driver/shared_blocks.hpp, driver/forking.hpp).
// Crash rule: each call is one operation, or waits between two.
//
// Functions return 0 or -errno unless said otherwise; see aep/dsm.h for what they mean.
#pragma once

#include "shim/driver/shared_blocks.hpp"
#include "shim/sharing/received.hpp"
#include "shim/sharing/share_operation.hpp"

namespace aep {

/// `name`: up to 31 characters, or null.
long share_attach(const char* name);
/// Takes part no more, until it attaches again; keeps what it holds.
long share_detach();
ShareId share_lookup(const char* name);
/// Waits until somebody has the name: in naps, for that wakes nobody. -ETIMEDOUT, -EINTR; timeout_ms 0: -ENOENT.
long share_lookup_wait(const char* name, int timeout_ms, ShareId& found);

/// How a message is sent.
struct Sending {
    Label label{};
    u32 as = 0;         // the own inbox that it comes from; 0: the main one
    bool drop = false;  // this process's reference goes with it, if it is sent
};
/// `bytes`: of an own block; 0: it must be one that was received. timeout_ms: 0: does not wait, -1:
/// for ever.
long share_send(ShareId to, void* p, usize bytes, int timeout_ms, const Sending& how = {});
long share_reference(void* p, usize bytes);
/// Whether the process holds the object, or it is a block of its own (of `bytes`) that was never sent.
bool can_be_sent(const void* p, usize bytes);

/// Which messages a receive takes.
struct Wanted {
    ShareId from{};        // 0: anybody's
    u32 at = 0;            // own inbox; 0: the main one
    ShareId while_open{};  // -ESRCH when that inbox is closed and nothing has come; 0: no matter
};
/// The object's memory is accessible afterwards.
long share_receive(const Wanted& wanted, int timeout_ms, Received& received);

/// The memory of what was received is accessible; -ENOMEM: it cannot be made so (too many mappings), the reference is dropped, and `received` empty.
long make_usable(ObjectKind kind, Received& received);

/// What was taken, an answer that has an object, as its receiver gets it. As make_usable.
template <class Taken>
inline long hand_over(const Taken& taken, Received& received) {
    received = {reinterpret_cast<void*>(taken.object), taken.bytes, taken.sender, taken.label};
    return make_usable(taken.kind, received);
}

/// One reference of this process less. Callable in any process: without sharing it is no_export.
Dropped share_drop(void* p);

struct ShareFacts {
    usize references = 0, bytes = 0, own = 0;
};
/// Zeroes: no export.
ShareFacts share_query(const void* p, bool exactly = false);

/// Frees what others have let go of: cheap when there is nothing.
void share_collect();
/// The same, but not each time: by what is done often. `bytes`: that are sent.
void share_collect_at_times(usize bytes);

}  // namespace aep
