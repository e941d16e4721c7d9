// Every operator new and delete form: usable blocks, matching deletes in every combination,
// bad_alloc, new_handler, nothrow null. Run by CTest through run.sh in both modes. Crash rule:
// check.hpp.
#include <malloc.h>

#include <limits>
#include <new>
#include <string>
#include <vector>

#include "tests/conformance/check.hpp"

static constexpr size_t k_sizes[] = {0, 1, 8, 16, 24, 100, 1024, 5000, 40000, 300000, 5000000};
static constexpr size_t k_alignments[] = {32, 64, 128, 4096, 65536, 1u << 21};
static const size_t k_too_big = check::opaque<size_t>(std::numeric_limits<size_t>::max() / 2 + 10);

static void use(void* p, size_t size, size_t alignment) {
    REQUIRE(p != nullptr, "size %zu", size);
    CHECK(reinterpret_cast<uintptr_t>(p) % alignment == 0, "%p alignment %zu", p, alignment);
    CHECK(malloc_usable_size(p) >= size);
    check::fill(p, size, size);
    CHECK_PATTERN(p, size, size);
}

static void plain_forms() {
    check::begin_case("plain forms");
    for (const size_t size : k_sizes) {
        for (int how = 0; how < 4; ++how) {
            void* p = how & 1 ? ::operator new(size, std::nothrow) : ::operator new(size);
            use(p, size, 16);
            if (how < 2)
                ::operator delete(p);
            else if (how == 2)
                ::operator delete(p, size);
            else
                ::operator delete(p, std::nothrow);
            p = how & 1 ? ::operator new[](size, std::nothrow) : ::operator new[](size);
            use(p, size, 16);
            if (how < 2)
                ::operator delete[](p);
            else if (how == 2)
                ::operator delete[](p, size);
            else
                ::operator delete[](p, std::nothrow);
        }
    }
}

static void aligned_forms() {
    check::begin_case("aligned forms");
    for (const size_t size : k_sizes) {
        for (const size_t alignment : k_alignments) {
            const auto align = static_cast<std::align_val_t>(alignment);
            for (int how = 0; how < 4; ++how) {
                void* p = how & 1 ? ::operator new(size, align, std::nothrow)
                                  : ::operator new(size, align);
                use(p, size, alignment);
                if (how < 2)
                    ::operator delete(p, align);
                else if (how == 2)
                    ::operator delete(p, size, align);
                else
                    ::operator delete(p, align, std::nothrow);
                p = how & 1 ? ::operator new[](size, align, std::nothrow)
                            : ::operator new[](size, align);
                use(p, size, alignment);
                if (how < 2)
                    ::operator delete[](p, align);
                else if (how == 2)
                    ::operator delete[](p, size, align);
                else
                    ::operator delete[](p, align, std::nothrow);
            }
        }
    }
}

static void null_deletes() {
    check::begin_case("delete of null");
    const auto align = static_cast<std::align_val_t>(64);
    ::operator delete(check::opaque<void*>(nullptr));
    ::operator delete[](check::opaque<void*>(nullptr));
    ::operator delete(check::opaque<void*>(nullptr), static_cast<size_t>(8));
    ::operator delete[](check::opaque<void*>(nullptr), static_cast<size_t>(8));
    ::operator delete(check::opaque<void*>(nullptr), align);
    ::operator delete[](check::opaque<void*>(nullptr), align);
    ::operator delete(check::opaque<void*>(nullptr), static_cast<size_t>(8), align);
    ::operator delete[](check::opaque<void*>(nullptr), static_cast<size_t>(8), align);
    ::operator delete(check::opaque<void*>(nullptr), std::nothrow);
    ::operator delete[](check::opaque<void*>(nullptr), std::nothrow);
}

template <typename Function>
static bool throws_bad_alloc(Function function) {
    try {
        void* p = function();
        CHECK(p == nullptr, "gave a block of an impossible size");
        return false;
    } catch (const std::bad_alloc&) {
        return true;
    }
}

static int s_handler_calls;
static void counting_handler() {
    if (++s_handler_calls == 3) std::set_new_handler(nullptr);
}
static void throwing_handler() {
    ++s_handler_calls;
    throw std::bad_alloc();
}

static void failures() {
    const auto align = static_cast<std::align_val_t>(64);
    check::begin_case("bad_alloc");
    CHECK(throws_bad_alloc([] { return ::operator new(k_too_big); }));
    CHECK(throws_bad_alloc([] { return ::operator new[](k_too_big); }));
    CHECK(throws_bad_alloc([&] { return ::operator new(k_too_big, align); }));
    CHECK(throws_bad_alloc([&] { return ::operator new[](k_too_big, align); }));
    check::begin_case("nothrow gives null");
    CHECK(::operator new(k_too_big, std::nothrow) == nullptr);
    CHECK(::operator new[](k_too_big, std::nothrow) == nullptr);
    CHECK(::operator new(k_too_big, align, std::nothrow) == nullptr);
    CHECK(::operator new[](k_too_big, align, std::nothrow) == nullptr);
    check::begin_case("new_handler is called until it gives up");
    for (int form = 0; form < 4; ++form) {
        s_handler_calls = 0;
        std::set_new_handler(counting_handler);
        CHECK(throws_bad_alloc([&] {
            return form == 0   ? ::operator new(k_too_big)
                   : form == 1 ? ::operator new[](k_too_big)
                   : form == 2 ? ::operator new(k_too_big, align)
                               : ::operator new[](k_too_big, align);
        }));
        CHECK(s_handler_calls == 3, "form %d: %d calls", form, s_handler_calls);
    }
    check::begin_case("nothrow calls a new_handler that throws and still gives null");
    for (int form = 0; form < 4; ++form) {
        s_handler_calls = 0;
        std::set_new_handler(throwing_handler);
        void* p = form == 0   ? ::operator new(k_too_big, std::nothrow)
                  : form == 1 ? ::operator new[](k_too_big, std::nothrow)
                  : form == 2 ? ::operator new(k_too_big, align, std::nothrow)
                              : ::operator new[](k_too_big, align, std::nothrow);
        CHECK(p == nullptr && s_handler_calls == 1, "form %d: %d calls", form, s_handler_calls);
    }
    std::set_new_handler(nullptr);
}

struct alignas(256) Wide {
    char bytes[300];
};

static void language_level() {
    check::begin_case("new expressions and containers");
    auto* wide = new Wide[7];
    CHECK(reinterpret_cast<uintptr_t>(wide) % 256 == 0);
    delete[] wide;
    auto* one = new (std::nothrow) Wide;
    CHECK(reinterpret_cast<uintptr_t>(one) % 256 == 0);
    delete one;
    std::vector<std::string> words;
    for (int i = 0; i < 20000; ++i)
        words.push_back(std::string(static_cast<size_t>(i % 200), static_cast<char>('a' + i % 26)));
    for (int i = 0; i < 20000; ++i) {
        CHECK(words[static_cast<size_t>(i)].size() == static_cast<size_t>(i % 200));
        CHECK(i % 200 == 0 || words[static_cast<size_t>(i)].back() == 'a' + i % 26);
    }
}

int main() {
    check::begin();
    plain_forms();
    aligned_forms();
    null_deletes();
    failures();
    language_level();
    return check::result();
}
