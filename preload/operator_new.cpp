// Purpose: every form of C++ operator new and delete, so that C++ programs reach the allocator
// without a detour and failures
//          behave as the standard says: the new-handler is called, then std::bad_alloc is thrown.
// Who calls it: C++ programs and libraries.
// Crash rule: that of the allocator.
//
// The library does not depend on libstdc++: what is needed of it is looked up in the program when
// memory runs out, and what the compiler refers to is weak: it is there whenever a C++ program is.
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

#include <new>

#include "preload/export.hpp"
#include "shim/allocator.hpp"
#include "shim/message.hpp"

asm(".weak __gxx_personality_v0, __cxa_begin_catch, __cxa_end_catch, __cxa_rethrow, "
    "_Unwind_Resume");

namespace {

using namespace aep;

template <class F>
F* find_in_program(const char* name) {
    return reinterpret_cast<F*>(dlsym(RTLD_DEFAULT, name));
}

/// Calls the program's new-handler. False: there is none.
bool call_new_handler() {
    auto* get = find_in_program<std::new_handler()>("_ZSt15get_new_handlerv");
    const std::new_handler handler = get == nullptr ? nullptr : get();
    if (handler == nullptr) return false;
    handler();
    return true;
}

[[noreturn]] void throw_bad_alloc() {
    if (auto* raise = find_in_program<void()>("_ZSt17__throw_bad_allocv")) raise();
    fatal(
        "operator new: out of memory, and the program has no C++ runtime to throw std::bad_alloc");
}

void* allocate_for(usize size, usize alignment) {
    return alignment <= MIN_ALIGNMENT ? allocate(size) : allocate_aligned(alignment, size);
}

[[gnu::cold, gnu::noinline]] void* retry_or_throw(usize size, usize alignment) {
    for (;;) {
        if (!call_new_handler()) throw_bad_alloc();
        if (void* p = allocate_for(size, alignment)) return p;
    }
}

[[gnu::cold, gnu::noinline]] void* retry_or_null(usize size, usize alignment) noexcept {
    try {
        while (call_new_handler()) {
            if (void* p = allocate_for(size, alignment)) return p;
        }
    } catch (...) {  // the handler gave up by throwing
    }
    errno = ENOMEM;
    return nullptr;
}

inline void* new_block(usize size, usize alignment) {
    void* p = allocate_for(size, alignment);
    return AEP_LIKELY(p != nullptr) ? p : retry_or_throw(size, alignment);
}

inline void* new_block_nothrow(usize size, usize alignment) noexcept {
    void* p = allocate_for(size, alignment);
    return AEP_LIKELY(p != nullptr) ? p : retry_or_null(size, alignment);
}

constexpr usize PLAIN = MIN_ALIGNMENT;
usize value(std::align_val_t a) { return static_cast<usize>(a); }

}  // namespace

using Size = std::size_t;
using Align = std::align_val_t;
using Nothrow = const std::nothrow_t&;

AEP_VISIBLE void* operator new(Size n) { return new_block(n, PLAIN); }
AEP_VISIBLE void* operator new[](Size n) { return new_block(n, PLAIN); }
AEP_VISIBLE void* operator new(Size n, Align a) { return new_block(n, value(a)); }
AEP_VISIBLE void* operator new[](Size n, Align a) { return new_block(n, value(a)); }
AEP_VISIBLE void* operator new(Size n, Nothrow) noexcept { return new_block_nothrow(n, PLAIN); }
AEP_VISIBLE void* operator new[](Size n, Nothrow) noexcept { return new_block_nothrow(n, PLAIN); }
AEP_VISIBLE void* operator new(Size n, Align a, Nothrow) noexcept {
    return new_block_nothrow(n, value(a));
}
AEP_VISIBLE void* operator new[](Size n, Align a, Nothrow) noexcept {
    return new_block_nothrow(n, value(a));
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
