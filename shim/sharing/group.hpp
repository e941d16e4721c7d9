// Purpose: this process's part in groups: making them, allocating in those it writes, reading
//          those it holds.
// Who calls it: the C API (preload/group.cpp).
// Crash rule: what the table knows changes in one operation a call. A writer killed in between has
//             allocated in vain: nobody allocates in its group any more.
//
// A group is named by its address. Functions return 0 or -errno; see aep/dsm.h for what they mean.
#pragma once

#include "shim/sharing/sharing.hpp"

namespace aep {

/// `hint`: bytes for which it has room from the start.
long group_create(usize hint, void*& group);
long group_allocate(void* group, usize bytes, usize alignment, void*& block);
long group_free(void* group, void* block);
/// `object` null: none.
long group_set_root(void* group, void* object);
/// What has been added to the group since it was last looked at is accessible afterwards.
long group_root(void* group, void*& root);
/// Until the next group_root() or message this process reads nothing of it.
long group_quiesce(void* group);
long group_bytes(void* group, usize& bytes);

struct GroupFacts {
    u64 bytes, deferred, references;
    ShareId writer;  // 0: nobody
};
long group_inspect(void* group, GroupFacts& facts);
/// The group with that root, or at that address.
long group_of(const void* root, void*& group);
long group_hand_over(void* group, ShareId to);
long group_close(void* group);
/// Becomes the writer of a group that has none.
long group_take_over(void* group);

}  // namespace aep
