// Purpose: every form of C++ operator new and delete, so that C++ programs reach the allocator
// without a detour and failures
//          behave as the standard says: the new-handler is called, then std::bad_alloc is thrown.
// Who calls it: C++ programs and libraries.
// Crash rule: that of the allocator.
//
// The library does not depend on libstdc++: what is needed of it is looked up in the caller's C++
// runtime when memory runs out. Exceptions only pass through here; they are thrown and caught in
// that runtime, so nothing of this file refers to it.
#include <errno.h>
#include <stdlib.h>

#include <new>

#include "preload/cxx_runtime.hpp"
#include "preload/export.hpp"
#include "shim/driver/allocator.hpp"
#include "shim/sys/message.hpp"

namespace {

using namespace aep;

template <class F>
F* function_of(const LoadedLibrary& runtime, const char* name) {
    return reinterpret_cast<F*>(address_in(runtime, name));
}

void* allocate_for(usize size, usize alignment) {
    return alignment <= MIN_ALIGNMENT ? allocate(size) : allocate_aligned(alignment, size);
}

/// Calls the runtime's new-handler until there is memory; it may throw.
[[gnu::cold, gnu::noinline]] void* retry_or_throw(usize size, usize alignment, const void* caller) {
    const LoadedLibrary runtime = cxx_runtime_of(caller);
    auto* get = function_of<std::new_handler()>(runtime, "_ZSt15get_new_handlerv");
    while (const std::new_handler handler = get == nullptr ? nullptr : get()) {
        handler();
        if (void* p = allocate_for(size, alignment)) return p;
    }
    // Its own operator new, asked for what nobody has, does nothing but throw.
    if (auto* raise = function_of<void*(std::size_t)>(runtime, "_Znwm")) raise(~std::size_t{0});
    fatal(
        "operator new: out of memory, and the program has no C++ runtime to throw std::bad_alloc");
}

/// The same, but the runtime's own form catches what the handler throws: it calls ours, or malloc
/// and the handler.
[[gnu::cold, gnu::noinline]] void* retry_or_null(usize size, usize alignment,
                                                 const void* caller) noexcept {
    using Plain = void*(std::size_t, const std::nothrow_t&) noexcept;
    using Aligned = void*(std::size_t, std::align_val_t, const std::nothrow_t&) noexcept;
    const LoadedLibrary runtime = cxx_runtime_of(caller);
    constexpr std::nothrow_t nothrow{};
    void* p = nullptr;
    if (alignment <= MIN_ALIGNMENT) {
        auto* again = function_of<Plain>(runtime, "_ZnwmRKSt9nothrow_t");
        if (again != nullptr) p = again(size, nothrow);
    } else {
        auto* again = function_of<Aligned>(runtime, "_ZnwmSt11align_val_tRKSt9nothrow_t");
        if (again != nullptr) p = again(size, std::align_val_t{alignment}, nothrow);
    }
    if (p == nullptr) errno = ENOMEM;
    return p;
}

/// A block of an alignment, or one that the fast path has not got.
[[gnu::noinline]] void* new_slow(usize size, usize alignment, const void* caller) {
    void* p = allocate_for(size, alignment);
    return AEP_LIKELY(p != nullptr) ? p : retry_or_throw(size, alignment, caller);
}

[[gnu::noinline]] void* new_slow_nothrow(usize size, usize alignment, const void* caller) noexcept {
    void* p = allocate_for(size, alignment);
    return AEP_LIKELY(p != nullptr) ? p : retry_or_null(size, alignment, caller);
}

inline void* new_block(usize size, const void* caller) {
    void* p;
    if (AEP_LIKELY(allocate_fast(size, p))) return p;
    return new_slow(size, MIN_ALIGNMENT, caller);
}

inline void* new_block_nothrow(usize size, const void* caller) noexcept {
    void* p;
    if (AEP_LIKELY(allocate_fast(size, p))) return p;
    return new_slow_nothrow(size, MIN_ALIGNMENT, caller);
}

usize value(std::align_val_t a) { return static_cast<usize>(a); }

}  // namespace

/// Where the operator was called from.
#define CALLER __builtin_return_address(0)

using Size = std::size_t;
using Align = std::align_val_t;
using Nothrow = const std::nothrow_t&;

AEP_VISIBLE void* operator new(Size n) { return new_block(n, CALLER); }
AEP_VISIBLE void* operator new[](Size n) { return new_block(n, CALLER); }
AEP_VISIBLE void* operator new(Size n, Align a) { return new_slow(n, value(a), CALLER); }
AEP_VISIBLE void* operator new[](Size n, Align a) { return new_slow(n, value(a), CALLER); }
AEP_VISIBLE void* operator new(Size n, Nothrow) noexcept { return new_block_nothrow(n, CALLER); }
AEP_VISIBLE void* operator new[](Size n, Nothrow) noexcept { return new_block_nothrow(n, CALLER); }
AEP_VISIBLE void* operator new(Size n, Align a, Nothrow) noexcept {
    return new_slow_nothrow(n, value(a), CALLER);
}
AEP_VISIBLE void* operator new[](Size n, Align a, Nothrow) noexcept {
    return new_slow_nothrow(n, value(a), CALLER);
}

AEP_VISIBLE void operator delete(void* p) noexcept { free(p); }
AEP_VISIBLE void operator delete[](void* p) noexcept { free(p); }
AEP_VISIBLE void operator delete(void* p, Size) noexcept { free(p); }
AEP_VISIBLE void operator delete[](void* p, Size) noexcept { free(p); }
AEP_VISIBLE void operator delete(void* p, Align) noexcept { free(p); }
AEP_VISIBLE void operator delete[](void* p, Align) noexcept { free(p); }
AEP_VISIBLE void operator delete(void* p, Size, Align) noexcept { free(p); }
AEP_VISIBLE void operator delete[](void* p, Size, Align) noexcept { free(p); }
AEP_VISIBLE void operator delete(void* p, Nothrow) noexcept { free(p); }
AEP_VISIBLE void operator delete[](void* p, Nothrow) noexcept { free(p); }
AEP_VISIBLE void operator delete(void* p, Align, Nothrow) noexcept { free(p); }
AEP_VISIBLE void operator delete[](void* p, Align, Nothrow) noexcept { free(p); }
