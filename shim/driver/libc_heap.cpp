// Purpose: see libc_heap.hpp.
// Who calls it: allocator.cpp.
// Crash rule: no state.
#include "shim/driver/libc_heap.hpp"

#include <unistd.h>

#include "shim/sys/syscall.hpp"

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);
void* __libc_realloc(void*, size_t);
}

namespace aep {

namespace {

/// The word before a glibc block: its chunk's size with three flag bits.
constexpr u64 IS_MAPPED = 2, IN_ARENA = 4, FLAGS = 7;
constexpr usize LIBC_ALIGNMENT = 16;
constexpr usize OS_PAGE_SIZE = 4 * KiB;
constexpr usize ARENA_ALIGNMENT = 64 * MiB;

u64 size_word(const void* p) { return static_cast<const u64*>(p)[-1]; }
u64 previous_size(const void* p) { return static_cast<const u64*>(p)[-2]; }

bool is_mapped_memory(uptr address) {
    u8 present;
    return !sys::failed(sys::mincore(round_down(address, OS_PAGE_SIZE), OS_PAGE_SIZE, &present));
}

/// The brk heap lies between the program's initial break, which /proc tells, and the current one.
bool in_brk_heap(uptr address) {
    const uptr end = static_cast<uptr>(sys::call(__NR_brk, 0));
    if (address >= end) return false;
    // Field 47 (start_brk) of /proc/self/stat; the second field is a name in parentheses.
    char text[1024];
    const long fd = sys::open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    if (sys::failed(fd)) return false;
    const long length = sys::read(static_cast<int>(fd), text, sizeof text - 1);
    sys::close(static_cast<int>(fd));
    if (length <= 0) return false;
    text[length] = '\0';
    const char* at = text;
    for (const char* c = text; *c != '\0'; ++c)
        if (*c == ')') at = c + 1;
    for (int field = 3; field < 47; ++field) {
        while (*at == ' ') ++at;
        while (*at != ' ' && *at != '\0') ++at;
    }
    uptr begin = 0;
    while (*at == ' ') ++at;
    for (; *at >= '0' && *at <= '9'; ++at) begin = begin * 10 + static_cast<uptr>(*at - '0');
    return begin != 0 && address >= begin;
}

}  // namespace

bool is_libc_block(const void* p) {
    const uptr address = reinterpret_cast<uptr>(p);
    if (address % LIBC_ALIGNMENT != 0 || address < OS_PAGE_SIZE) return false;
    if (!is_mapped_memory(address - 16)) return false;
    const u64 word = size_word(p);
    const u64 size = word & ~FLAGS;
    if (size < 32 || size % 16 != 0) return false;
    if ((word & IS_MAPPED) != 0) {
        const u64 before = previous_size(p);
        return (address - 16 - before) % OS_PAGE_SIZE == 0 && (before + size) % OS_PAGE_SIZE == 0 &&
               before < size;
    }
    if ((word & IN_ARENA) != 0) {
        // An arena's heap begins at a multiple of 64 MiB with a pointer to the arena, which lies in
        // mapped memory.
        const uptr heap = round_down(address, ARENA_ALIGNMENT);
        if (!is_mapped_memory(heap)) return false;
        const uptr arena = *reinterpret_cast<const uptr*>(heap);
        return arena % 8 == 0 && arena > OS_PAGE_SIZE && is_mapped_memory(arena);
    }
    return in_brk_heap(address) && size <= static_cast<uptr>(sys::call(__NR_brk, 0)) - address + 16;
}

void* libc_allocate(usize size) { return __libc_malloc(size); }
void* libc_allocate_zeroed(usize size) { return __libc_calloc(1, size); }
void* libc_allocate_aligned(usize alignment, usize size) {
    return __libc_memalign(alignment, size);
}
void libc_free(void* p) { __libc_free(p); }
void* libc_realloc(void* p, usize size) { return __libc_realloc(p, size); }

usize libc_usable_size(void* p) {
    const u64 word = size_word(p);
    // A mapped chunk ends with itself; others may also use the next chunk's first word.
    return (word & ~FLAGS) - ((word & IS_MAPPED) != 0 ? 16 : 8);
}

}  // namespace aep
