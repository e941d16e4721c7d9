// A second preload library that wraps malloc by dlsym(RTLD_NEXT), before ours and after it. Starts
// itself again with both preloaded. Run by CTest through run.sh in both modes; first argument: the
// wrapper. Crash rule: check.hpp.
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>

#include <new>

#include "tests/conformance/population.hpp"

static check::Population<300> s_all;

/// The allocator never calls one of its own entry points where a wrapper sees it: whatever the
/// program asks for, the wrapper counts what the program called of the wrapped ones, no more.
static void only_the_program_calls(long (*calls)()) {
    check::begin_case("entry points that the wrapper has not got");
    const auto zero = check::opaque<size_t>(0);
    auto deallocate = reinterpret_cast<void (*)(void*)>(dlsym(RTLD_DEFAULT, "cfree"));
    if (deallocate == nullptr) deallocate = [](void* p) { ::operator delete(p); };
    long before = calls();
    deallocate(reallocarray(nullptr, 3, 50));
    deallocate(aligned_alloc(64, 640));
    deallocate(valloc(100));
    deallocate(pvalloc(100));
    ::operator delete(::operator new(40));
    ::operator delete[](::operator new[](70000), std::align_val_t{16});
    void* aligned = nullptr;
    CHECK(posix_memalign(&aligned, 4096, 5000) == 0);
    deallocate(aligned);
    CHECK(calls() == before, "%ld calls", calls() - before);
    check::begin_case("a call is one call");
    before = calls();
    void* p = realloc(nullptr, 90);
    p = realloc(p, 90000);
    CHECK(realloc(p, zero) == nullptr);
    free(memalign(256, 300));
    CHECK(calls() == before + 5, "%ld calls", calls() - before);
}

static int under_both(bool wrapper_first) {
    check::begin_case(wrapper_first ? "wrapper before the allocator"
                                    : "wrapper after the allocator");
    auto calls = reinterpret_cast<long (*)()>(dlsym(RTLD_DEFAULT, "wrapper_calls"));
    REQUIRE(calls != nullptr, "the wrapper is not preloaded");
    s_all.make(1u << 20, 1);
    s_all.renew();
    pthread_t thread;
    REQUIRE(pthread_create(
                &thread, nullptr,
                [](void*) -> void* {
                    s_all.renew();
                    return nullptr;
                },
                nullptr) == 0);
    REQUIRE(pthread_join(thread, nullptr) == 0);
    CHECK_CHILD(check::run_in_child([] {
        s_all.check();
        s_all.free_all();
    }));
    s_all.check();
    s_all.free_all();
    if (wrapper_first) only_the_program_calls(calls);
    CHECK(wrapper_first ? calls() > 900 : calls() == 0, "%ld calls", calls());
    return check::result();
}

int main(int argc, char** argv) {
    check::begin();
    REQUIRE(argc > 1, "usage: load_second_preload WRAPPER");
    if (strcmp(argv[1], "first") == 0 || strcmp(argv[1], "last") == 0)
        return under_both(argv[1][0] == 'f');
    const char* ours = getenv("LD_PRELOAD");
    for (const char* order : {"first", "last"}) {
        char both[1000];
        const bool first = order[0] == 'f';
        snprintf(both, sizeof both, "%s%s%s", first || ours == nullptr ? argv[1] : ours,
                 ours == nullptr ? "" : ":",
                 ours == nullptr ? ""
                 : first         ? ours
                                 : argv[1]);
        CHECK_CHILD(check::run_in_child([&] {
            setenv("LD_PRELOAD", both, 1);
            execl("/proc/self/exe", "load_second_preload", order, nullptr);
            REQUIRE(false, "exec failed");
        }));
    }
    return check::result();
}
