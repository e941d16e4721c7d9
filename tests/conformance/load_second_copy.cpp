// Two copies of the library in one address space, as under a user-mode emulator that has it
// preloaded beside its guest, or by dlmopen: the second leaves its program to libc's malloc, and
// the first goes on. Argument: the library. Run by CTest through run.sh. Crash rule: check.hpp.
#include <dlfcn.h>

#include "tests/conformance/population.hpp"

namespace {

check::Population<300> all;

template <class F>
F* symbol(void* library, const char* name) {
    void* found = dlsym(library, name);
    REQUIRE(found != nullptr, "%s", name);
    return reinterpret_cast<F*>(found);
}

/// What the first copy gives lies near its other blocks.
bool is_near(const void* a, const void* b) {
    const intptr_t distance = reinterpret_cast<intptr_t>(a) - reinterpret_cast<intptr_t>(b);
    return distance < (intptr_t{1} << 36) && distance > -(intptr_t{1} << 36);
}

void use(void* copy, const void* block_of_first) {
    const auto their_malloc = symbol<void*(size_t)>(copy, "malloc");
    const auto their_calloc = symbol<void*(size_t, size_t)>(copy, "calloc");
    const auto their_realloc = symbol<void*(void*, size_t)>(copy, "realloc");
    const auto their_memalign = symbol<void*(size_t, size_t)>(copy, "memalign");
    const auto their_free = symbol<void(void*)>(copy, "free");
    void* p = their_malloc(100);
    REQUIRE(p != nullptr);
    CHECK(!is_near(p, block_of_first), "%p and %p", p, block_of_first);
    check::fill(p, 100, 1);
    p = their_realloc(p, 3 << 20);
    REQUIRE(p != nullptr);
    CHECK_PATTERN(p, 100, 1);
    their_free(p);
    void* zero = their_calloc(1000, 1000);
    REQUIRE(zero != nullptr);
    CHECK(check::all_zero(zero, 1000 * 1000));
    void* aligned = their_memalign(4096, 100);
    CHECK(aligned != nullptr && reinterpret_cast<uintptr_t>(aligned) % 4096 == 0);
    their_free(aligned);
    their_free(zero);
}

}  // namespace

int main(int argc, char** argv) {
    check::begin();
    REQUIRE(argc > 1);
    if (getenv("AEP_REQUIRE") != nullptr) {  // what is asked for there is the second copy's end
        check::begin_case("a copy that is required to share");
        const int status = check::run_in_child([&] {
            void* copy = dlmopen(LM_ID_NEWLM, argv[1], RTLD_NOW);
            if (copy != nullptr) symbol<void*(size_t)>(copy, "malloc")(100);
        });
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status 0x%x", status);
        unsetenv("AEP_REQUIRE");
        execv("/proc/self/exe", argv);
        REQUIRE(false, "exec failed");
    }
    check::begin_case("a second copy");
    void* block = malloc(100);
    all.make(1u << 20, 1);
    void* copy = dlmopen(LM_ID_NEWLM, argv[1], RTLD_NOW);
    REQUIRE(copy != nullptr, "%s", dlerror());
    use(copy, block);
    all.renew();
    CHECK_CHILD(check::run_in_child([&] {
        use(copy, block);
        all.check();
        all.free_all();
    }));
    use(copy, block);
    all.check();
    all.free_all();
    free(block);
    return check::result();
}
