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
ShareId share_lookup(const char* name);

/// `bytes`: of an own block; 0: it must be one that was received. timeout_ms: 0: does not wait, -1:
/// for ever.
long share_send(ShareId to, void* p, usize bytes, int timeout_ms, const Label& label = {});
long share_reference(void* p, usize bytes);

/// The object's memory is accessible afterwards.
long share_receive(ShareId from, int timeout_ms, Received& received);

/// One reference of this process less. Callable in any process: without sharing it is no_export.
Dropped share_drop(void* p);

struct ShareFacts {
    usize references = 0, bytes = 0, own = 0;
};
/// Zeroes: no export.
ShareFacts share_query(const void* p, bool exactly = false);

/// Frees what others have let go of; cheap when there is nothing.
void share_collect();

}  // namespace aep
