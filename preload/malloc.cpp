// Purpose: every malloc entry point of libc, with glibc's semantics and errno; a thin layer on
// shim/allocator. Who calls it: the program and all its libraries, from before the first
// constructor to after the last destructor. Crash rule: that of the allocator; nothing is kept
// here.
//
// All functions are thread-safe, none is async-signal-safe; free and friends preserve errno.
#include <errno.h>
#include <malloc.h>
#include <unistd.h>

#include "preload/export.hpp"
#include "shim/driver/allocator.hpp"
#include "shim/driver/background_thread.hpp"

namespace {

using namespace aep;

/// Cold: out of memory.
[[gnu::cold, gnu::noinline]] void* no_memory() {
    errno = ENOMEM;
    return nullptr;
}

void* checked(void* p) { return AEP_LIKELY(p != nullptr) ? p : no_memory(); }

/// Alignment for memalign: the next power of two, as glibc does.
usize alignment_for(usize alignment) {
    if (alignment <= MIN_ALIGNMENT) return MIN_ALIGNMENT;
    return is_power_of_two(alignment) ? alignment : usize{1} << (floor_log2(alignment) + 1);
}

/// malloc beyond what is at hand.
[[gnu::noinline]] void* malloc_beyond(usize size) {
    void* p = allocate_here(size);
    if (AEP_LIKELY(p != nullptr)) return p;
    p = checked(allocate_beyond(size));
    background_offer(__builtin_return_address(0));
    return p;
}

/// malloc beyond the fast path. It jumps on, so that the address returned to is the caller's.
[[gnu::noinline]] void* malloc_slow(usize size) {
    void* p;
    return AEP_LIKELY(allocate_in_turn(size, p)) ? p : malloc_beyond(size);
}

/// memalign with a power of two.
[[gnu::always_inline]] inline void* aligned(usize alignment, usize size) {
    return checked(allocate_aligned(alignment, size));
}

}  // namespace

/// Where the code begins in its cache line is else left to chance, and worth 3 %.
#define LINE_ALIGNED __attribute__((aligned(64)))

AEP_EXPORT LINE_ALIGNED void* malloc(size_t size) noexcept {
    void* p;
    if (AEP_LIKELY(allocate_fast(size, p))) return p;
    return malloc_slow(size);
}

AEP_EXPORT LINE_ALIGNED void free(void* p) noexcept { deallocate(p); }
AEP_EXPORT void cfree(void* p) noexcept { free(p); }
AEP_EXPORT void free_sized(void* p, size_t) noexcept { free(p); }
AEP_EXPORT void free_aligned_sized(void* p, size_t, size_t) noexcept { free(p); }

AEP_EXPORT void* calloc(size_t count, size_t size) noexcept {
    usize total;
    if (AEP_UNLIKELY(__builtin_mul_overflow(count, size, &total))) return no_memory();
    return checked(allocate_zeroed(total));
}

AEP_EXPORT void* realloc(void* p, size_t size) noexcept {
    if (p == nullptr) return malloc(size);
    if (size == 0) {
        free(p);
        return nullptr;
    }
    if (AEP_LIKELY(stays_in_place(p, size))) return p;
    return checked(reallocate(p, size));
}

AEP_EXPORT void* reallocarray(void* p, size_t count, size_t size) noexcept {
    usize total;
    if (__builtin_mul_overflow(count, size, &total)) return no_memory();
    return realloc(p, total);
}

AEP_EXPORT void* memalign(size_t alignment, size_t size) noexcept {
    if (alignment > PTRDIFF_MAX) {
        errno = EINVAL;
        return nullptr;
    }
    return aligned(alignment_for(alignment), size);
}

AEP_EXPORT void* aligned_alloc(size_t alignment, size_t size) noexcept {
    if (AEP_UNLIKELY(!is_power_of_two(alignment) || alignment > PTRDIFF_MAX)) {
        errno = EINVAL;
        return nullptr;
    }
    return aligned(alignment, size);
}

AEP_EXPORT int posix_memalign(void** result, size_t alignment, size_t size) noexcept {
    if (alignment % sizeof(void*) != 0 || !is_power_of_two(alignment)) return EINVAL;
    void* p = allocate_aligned(alignment_for(alignment), size);
    if (p == nullptr) return ENOMEM;
    *result = p;
    return 0;
}

AEP_EXPORT void* valloc(size_t size) noexcept { return aligned(OS_PAGE_SIZE, size); }

AEP_EXPORT void* pvalloc(size_t size) noexcept {
    if (size > PTRDIFF_MAX) return no_memory();
    return aligned(OS_PAGE_SIZE, round_up(size, OS_PAGE_SIZE));
}

AEP_EXPORT size_t malloc_usable_size(void* p) noexcept { return usable_size(p); }
