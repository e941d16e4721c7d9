// A preload library after ours whose functions fail until it is initialised, as a sanitizer's do:
// what the allocator does before that calls none of them. Starts itself again with both preloaded.
// Linked as C, so that nothing else calls them. Run by CTest through run.sh in all modes; first
// argument: the library. Crash rule: check.hpp.
#include <dlfcn.h>

#include "tests/conformance/check.hpp"

static int under_both() {
    auto ready = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "not_ready_is_ready"));
    REQUIRE(ready != nullptr && ready() == 1, "the library is not preloaded");
    for (size_t size = 1; size < 10u << 20; size *= 3) {
        char* p = static_cast<char*>(malloc(size));
        REQUIRE(p != nullptr);
        memset(p, 1, size);
        free(p);
    }
    return check::result();
}

int main(int argc, char** argv) {
    check::begin();
    if (argc == 1) return under_both();
    const char* ours = getenv("LD_PRELOAD");
    char both[1000];
    snprintf(both, sizeof both, "%s%s%s", ours == nullptr ? "" : ours, ours == nullptr ? "" : ":",
             argv[1]);
    CHECK_CHILD(check::run_in_child([&] {
        setenv("LD_PRELOAD", both, 1);
        execl("/proc/self/exe", "load_not_ready", nullptr);
        REQUIRE(false, "exec failed");
    }));
    return check::result();
}
