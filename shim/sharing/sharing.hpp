// Purpose: this process's part in sharing: sending blocks of its heap, receiving those of others,
//          and what a free of either means.
// Who calls it: the C API (preload/dsm.cpp), allocator.cpp's slow path, the fork hooks.
// Crash rule: each call is one operation, or waits between two.
//
// Functions return 0 or -errno unless said otherwise; see aep/dsm.h for what they mean.
#pragma once

#include "dsm-core/sharing/share_ops.hpp"

namespace aep {

/// Whether this process takes part: then some of its blocks may be exports.
extern std::atomic<bool> sharing_open;

/// `name`: up to 31 characters, or null.
long share_attach(const char* name);
/// 0: not attached.
ShareId share_self();
ShareId share_lookup(const char* name);

/// `bytes`: of an own block; 0: it must be one that was received. timeout_ms: 0: does not wait, -1:
/// for ever.
long share_send(ShareId to, void* p, usize bytes, int timeout_ms);
long share_reference(void* p, usize bytes);

struct Received {
    void* object = nullptr;
    usize bytes = 0;
    ShareId sender{};
    void* group = nullptr;  // of which the object is the root
};
/// The object's memory is accessible afterwards.
long share_receive(ShareId from, int timeout_ms, Received& received);

/// What dropping a reference came to.
enum class Dropped {
    no_export,  // nobody but its owner refers to it
    kept,       // others do
    last,       // nobody does any more: its memory is the caller's to free
    not_held,   // the caller has no reference
};
/// One reference of this process less. Callable in any process: without sharing it is no_export.
Dropped share_drop(void* p);

struct ShareFacts {
    usize references = 0, bytes = 0, own = 0;
};
/// Zeroes: no export.
ShareFacts share_query(const void* p);

/// Frees what others have let go of; cheap when there is nothing.
void share_collect();

/// Whether the bytes lie in chunks that others can map: of ours, not made private by a fork.
bool can_be_shared(const void* p, usize bytes);

// ---- for group.cpp

/// One operation; records are made present as it needs them.
ShareReply share_with_records(ShareOp op, const ShareRequest& request);
/// 0 or -errno.
long error_of(Status status);
/// Makes chunks of others accessible that an object lies in. False: too many mappings.
bool make_accessible(u64 address, usize bytes);

/// In a forked child: exports are the parent's, and so is what it received.
void forget_sharing();

}  // namespace aep
