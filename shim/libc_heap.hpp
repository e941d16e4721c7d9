// Purpose: pointers from libc's own malloc, which can reach us: from a library opened with
// RTLD_DEEPBIND, which binds to
//          libc before us, or from a second libc in a dlmopen namespace.
// Who calls it: allocator.cpp, for pointers outside our window only.
// Crash rule: no state.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// Whether `p` looks like a block of glibc's malloc: of its brk heap, of an arena, or mapped alone.
/// Reads its header, so a wild pointer may fault, as it would in glibc.
bool is_libc_block(const void* p);

/// glibc's free, realloc and malloc_usable_size for such a block.
void libc_free(void* p);
void* libc_realloc(void* p, usize size);
usize libc_usable_size(void* p);

}  // namespace aep
