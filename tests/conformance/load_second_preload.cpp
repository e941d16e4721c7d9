// A second preload library that wraps malloc by dlsym(RTLD_NEXT), before ours and after it. Starts
// itself again with both preloaded. Run by CTest through run.sh in both modes; first argument: the
// wrapper. Crash rule: check.hpp.
#include <dlfcn.h>
#include <pthread.h>

#include "tests/conformance/population.hpp"

static check::Population<300> s_all;

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
