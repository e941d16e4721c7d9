// Purpose: libc's own malloc. Its pointers can reach us: from a library opened with RTLD_DEEPBIND,
//          which binds to libc before us, or from a second libc in a dlmopen namespace. And a
//          program that maps contexts itself stays on it, for our heap would lie where those do.
// Who calls it: allocator.cpp, for pointers outside our window only; process.cpp.
// Crash rule: no state.
#pragma once

#include "dsm-core/base/types.hpp"

/// A program that exports this symbol (the daemon, the command line, the completer) runs on libc's
/// malloc although the library is preloaded, as by /etc/ld.so.preload: neither heap nor context.
extern "C" {
[[gnu::weak, gnu::visibility("default")]] extern const char aep_stay_private;
}

namespace aep {

/// Whether this program is such a one. Constant from the first instruction on; async-signal-safe.
inline bool stays_on_libc() { return &aep_stay_private != nullptr; }

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
