// Purpose: libc's own malloc. Its pointers can reach us: from a library opened with RTLD_DEEPBIND,
//          which binds to libc before us, or from a second libc in a dlmopen namespace. And where
//          we step aside (aside.hpp) the program stays on it.
// Who calls it: allocator.cpp, for pointers outside our window only; process.cpp.
// Crash rule: no state.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// glibc's malloc, calloc and memalign: null with errno when there is no memory.
void* libc_allocate(usize size);
void* libc_allocate_zeroed(usize size);
void* libc_allocate_aligned(usize alignment, usize size);

/// Whether `p` looks like a block of glibc's malloc: of its brk heap, of an arena, or mapped alone.
/// Reads its header, so a wild pointer may fault, as it would in glibc.
bool is_libc_block(const void* p);

/// glibc's free, realloc and malloc_usable_size for such a block.
void libc_free(void* p);
void* libc_realloc(void* p, usize size);
usize libc_usable_size(void* p);

}  // namespace aep
