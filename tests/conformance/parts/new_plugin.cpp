// A C++ plugin of a program that knows nothing of C++: what its operator new does when there is no
// memory. Built with the C++ runtime as a library and with one of its own. Crash rule: none.
#include <errno.h>

#include <new>

namespace {

int s_calls;

void give_up_at_three() {
    if (++s_calls == 3) std::set_new_handler(nullptr);
}

void throw_at_once() {
    ++s_calls;
    throw std::bad_alloc();
}

constexpr auto ALIGNMENT = std::align_val_t{256};

void* throwing_form(int form, unsigned long size) {
    switch (form) {
        case 0:
            return ::operator new(size);
        case 1:
            return ::operator new[](size);
        case 2:
            return ::operator new(size, ALIGNMENT);
        default:
            return ::operator new[](size, ALIGNMENT);
    }
}

void* nothrow_form(int form, unsigned long size) {
    switch (form) {
        case 0:
            return ::operator new(size, std::nothrow);
        case 1:
            return ::operator new[](size, std::nothrow);
        case 2:
            return ::operator new(size, ALIGNMENT, std::nothrow);
        default:
            return ::operator new[](size, ALIGNMENT, std::nothrow);
    }
}

}  // namespace

/// How often a handler is called that gives up the third time, and a thousand more if
/// std::bad_alloc is caught then.
extern "C" int plugin_throws(int form, unsigned long size) {
    s_calls = 0;
    std::set_new_handler(give_up_at_three);
    try {
        return throwing_form(form, size) != nullptr ? -1 : -2;
    } catch (const std::bad_alloc&) {
        return 1000 + s_calls;
    }
}

/// The same without an exception: a thousand more for a null pointer and ENOMEM.
extern "C" int plugin_gives_null(int form, unsigned long size, int handler_throws) {
    s_calls = 0;
    std::set_new_handler(handler_throws != 0 ? throw_at_once : give_up_at_three);
    errno = 0;
    void* p = nothrow_form(form, size);
    const int error = errno;
    std::set_new_handler(nullptr);
    return p != nullptr ? -1 : error != ENOMEM ? -2 : 1000 + s_calls;
}
