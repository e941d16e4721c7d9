// A neighbour opened with RTLD_DEEPBIND resolves malloc in libc first. Blocks that cross the
// border, both ways and through strdup (which libc allocates), must be freed and grown without
// harm. Run by CTest through run.sh in both modes; first argument: the library. Crash rule:
// check.hpp.
#include <dlfcn.h>

#include "tests/conformance/check.hpp"

// As who was bound to libc before us gets them.
extern "C" void* __libc_malloc(size_t);

int main(int argc, char** argv) {
    check::begin();
    REQUIRE(argc > 1, "usage: load_deepbind LIBRARY");
    void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    REQUIRE(library != nullptr, "%s", dlerror());
    auto allocate = reinterpret_cast<void* (*)(size_t)>(dlsym(library, "part_allocate"));
    auto give_back = reinterpret_cast<void (*)(void*)>(dlsym(library, "part_free"));
    auto duplicate = reinterpret_cast<char* (*)(const char*)>(dlsym(library, "part_strdup"));
    auto grow = reinterpret_cast<void* (*)(void*, size_t)>(dlsym(library, "part_realloc"));
    REQUIRE(allocate != nullptr && give_back != nullptr && duplicate != nullptr && grow != nullptr);
    using Step = void (*)(decltype(allocate), decltype(give_back), decltype(duplicate),
                          decltype(grow), size_t);
    struct {
        const char* name;
        Step step;
    } const steps[] = {
        {"its block, freed by it",
         [](auto a, auto f, auto, auto, size_t n) { f(memset(a(n), 1, n)); }},
        {"its block, freed by us",
         [](auto a, auto, auto, auto, size_t n) { free(memset(a(n), 1, n)); }},
        {"its block, grown by us",
         [](auto a, auto, auto, auto, size_t n) {
             void* p = a(n);
             check::fill(p, n, 5);
             p = realloc(p, n * 3);
             REQUIRE(p != nullptr);
             CHECK_PATTERN(p, n, 5);
             free(p);
         }},
        {"our block, freed by it",
         [](auto, auto f, auto, auto, size_t n) { f(memset(malloc(n), 1, n)); }},
        {"our block, grown by it",
         [](auto, auto, auto, auto r, size_t n) {
             void* p = malloc(n);
             check::fill(p, n, 6);
             p = r(p, n * 3);
             REQUIRE(p != nullptr);
             CHECK_PATTERN(p, n, 6);
             free(p);
         }},
        {"its strdup, freed by it", [](auto, auto f, auto d, auto, size_t) { f(d("a string")); }},
        {"its strdup, freed by us", [](auto, auto, auto d, auto, size_t) { free(d("a string")); }},
        {"our strdup, freed by it",
         [](auto, auto f, auto, auto, size_t) { f(strdup("a string")); }},
        {"libc's block, freed by us",
         [](auto, auto, auto, auto, size_t n) { free(memset(__libc_malloc(n), 1, n)); }},
        {"libc's block, grown by us",
         [](auto, auto, auto, auto, size_t n) {
             void* p = __libc_malloc(n);
             check::fill(p, n, 7);
             p = realloc(p, n * 3);
             REQUIRE(p != nullptr);
             CHECK_PATTERN(p, n, 7);
             free(p);
         }},
    };
    for (const auto& one : steps) {
        check::begin_case(one.name);
        // In a child, since the wrong free ends the process.
        CHECK_CHILD(check::run_in_child([&] {
            for (const size_t size : {size_t{20}, size_t{3000}, size_t{100000}, size_t{1000000}})
                for (int i = 0; i < 50; ++i) one.step(allocate, give_back, duplicate, grow, size);
        }));
    }
    check::begin_case("dlclose");
    CHECK(dlclose(library) == 0);
    return check::result();
}
