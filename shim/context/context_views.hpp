// Purpose: the metadata of a client's heap across a fork: dormant private views of the context's
//          arrays and of the client's domain, which freeze puts in the place of the shared ones;
//          and private metadata for chunks taken afterwards.
// Who calls it: join.cpp, joined_backing.cpp.
// Crash rule: what is frozen is never looked at again in the context; recovery clears it when no
//             process maps the client's heap any more.
#pragma once

#include <atomic>

#include "dsm-core/context/format.hpp"

namespace aep {

/// Maps the views of domain `index` and of all metadata, without access, not inherited. 0 or
/// -errno, with nothing mapped.
long make_context_views(int fd, const ContextConstants& header, u32 index);
/// Undoes it: the client was not to be.
void forget_context_views();

/// In the parent, before the first fork, with the allocator at rest: the domain and the metadata of
/// all chunks in `pool` that are ours become private, and all other metadata reads as zero. False
/// after a message: no memory; what was frozen by then stays so. Does nothing when all is private.
bool freeze_context_metadata();

/// Whether metadata of chunks that are taken now is still the context's: no fork has been prepared, or
/// one was refused before all was private.
bool metadata_is_shared();

/// Private, zero metadata for chunks that were taken after a fork. False: no memory.
bool map_private_metadata(u32 first, u32 count);

/// Whether the metadata of a chunk is private.
bool metadata_is_private(u32 chunk);

}  // namespace aep
