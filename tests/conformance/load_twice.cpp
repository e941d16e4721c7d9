// Two builds of the library preloaded into one program: the first serves it, the second keeps out
// of the way and says nothing, also where a pool or a context is required. Argument: a copy of the
// library. Run by CTest through run.sh. Crash rule: check.hpp.
#include <dlfcn.h>

#include "tests/conformance/population.hpp"

namespace {

check::Population<300> all;

void use_all() {
    all.make(1u << 20, 1);
    all.renew();
    CHECK_CHILD(check::run_in_child([] {
        all.check();
        all.free_all();
    }));
    all.check();
    all.free_all();
}

/// Starts this program again with both, in that order, and expects it to be silent.
void run_with(const char* first, const char* second) {
    check::Pipe said;
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        char both[8192];
        snprintf(both, sizeof both, "%s:%s", first, second);
        setenv("LD_PRELOAD", both, 1);
        dup2(said.ends[1], 2);
        execl("/proc/self/exe", "load_twice", nullptr);
        _exit(99);
    }
    CHECK_CHILD(check::wait_status(pid));
    close(said.ends[1]);
    char text[400] = {};
    const ssize_t length = read(said.ends[0], text, sizeof text - 1);
    CHECK(length == 0, "it said: %s", text);
    said.ends[1] = dup(2);
}

}  // namespace

int main(int argc, char** argv) {
    check::begin();
    if (argc == 1) {
        use_all();
        return check::result();
    }
    const char* preloaded = getenv("LD_PRELOAD");
    REQUIRE(preloaded != nullptr);
    char own[4096];
    snprintf(own, sizeof own, "%s", preloaded);
    check::begin_case("ours first");
    run_with(own, argv[1]);
    check::begin_case("the copy first");
    run_with(argv[1], own);
    check::begin_case("a copy that is opened");
    void* copy = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    REQUIRE(copy != nullptr, "%s", dlerror());
    use_all();
    dlclose(copy);
    use_all();
    return check::result();
}
