// dlopen and dlclose in a loop of a library that allocates in its constructor and frees in its
// destructor; blocks cross the border both ways; from several threads; bounded memory. Also
// dlmopen: a library in a namespace of its own brings its own libc. Run by CTest through run.sh in
// both modes; first argument: the library. Crash rule: check.hpp.
#include <dlfcn.h>
#include <pthread.h>

#include "tests/conformance/check.hpp"

static const char* s_path;

static void* open_and_close(void*) {
    for (int i = 0; i < 100; ++i) {
        void* library = dlopen(s_path, RTLD_NOW | RTLD_LOCAL);
        REQUIRE(library != nullptr, "%s", dlerror());
        auto allocate = reinterpret_cast<void* (*)(size_t)>(dlsym(library, "part_allocate"));
        auto give_back = reinterpret_cast<void (*)(void*)>(dlsym(library, "part_free"));
        REQUIRE(allocate != nullptr && give_back != nullptr);
        CHECK(dlsym(library, "no_such_symbol") == nullptr);
        CHECK(dlerror() != nullptr);  // dlerror allocates its message, per thread
        void* theirs = allocate(500);
        void* ours = malloc(500);
        REQUIRE(theirs != nullptr && ours != nullptr);
        check::fill(theirs, 500, 1);
        check::fill(ours, 500, 2);
        CHECK_PATTERN(theirs, 500, 1);
        free(theirs);
        CHECK_PATTERN(ours, 500, 2);
        give_back(ours);
        void* kept = allocate(100);
        CHECK(dlclose(library) == 0);
        memset(kept, 1, 100);
        free(kept);
    }
    return nullptr;
}

int main(int argc, char** argv) {
    check::begin();
    REQUIRE(argc > 1, "usage: load_dlopen LIBRARY");
    s_path = argv[1];
    check::begin_case("dlopen loop");
    open_and_close(nullptr);
    const long early = check::heap_footprint();
    for (int i = 0; i < 5; ++i) open_and_close(nullptr);
    const long late = check::heap_footprint();
    CHECK(late - early < (4 << 20), "footprint %ld, then %ld", early, late);
    check::begin_case("dlopen from threads");
    pthread_t threads[4];
    for (pthread_t& thread : threads)
        REQUIRE(pthread_create(&thread, nullptr, open_and_close, nullptr) == 0);
    for (const pthread_t thread : threads) REQUIRE(pthread_join(thread, nullptr) == 0);
    check::begin_case("dlmopen");
    for (int i = 0; i < 3; ++i) {
        void* library = dlmopen(LM_ID_NEWLM, s_path, RTLD_NOW | RTLD_LOCAL);
        REQUIRE(library != nullptr, "%s", dlerror());
        auto allocate = reinterpret_cast<void* (*)(size_t)>(dlsym(library, "part_allocate"));
        auto give_back = reinterpret_cast<void (*)(void*)>(dlsym(library, "part_free"));
        REQUIRE(allocate != nullptr && give_back != nullptr);
        // Its libc is its own, so is its malloc: blocks stay on their side.
        void* blocks[50];
        for (size_t k = 0; k < 50; ++k) {
            blocks[k] = allocate(k * 100 + 1);
            REQUIRE(blocks[k] != nullptr);
            check::fill(blocks[k], k * 100 + 1, k);
            void* p = malloc(k * 100 + 1);
            REQUIRE(p != nullptr);
            memset(p, 1, k * 100 + 1);
            free(p);
        }
        for (size_t k = 0; k < 50; ++k) {
            CHECK_PATTERN(blocks[k], k * 100 + 1, k);
            give_back(blocks[k]);
        }
        CHECK(dlclose(library) == 0);
    }
    return check::result();
}
