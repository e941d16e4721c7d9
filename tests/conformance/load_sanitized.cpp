// A program with a sanitizer that has a use of its own for the heap's addresses: it runs, on
// another malloc, and what only our heap can do is refused. Built with -fsanitize=thread or
// address. Run by CTest through run.sh. Crash rule: check.hpp.
#include <dlfcn.h>
#include <pthread.h>

#include "tests/conformance/check.hpp"

namespace {

void* work(void*) {
    for (size_t i = 0; i < 1000; ++i) {
        void* p = malloc(i + 1);
        REQUIRE(p != nullptr);
        memset(p, 1, i + 1);
        p = realloc(p, 2 * i + 1);
        REQUIRE(p != nullptr);
        free(p);
    }
    return nullptr;
}

}  // namespace

int main() {
    check::begin();
    check::begin_case("threads");
    pthread_t thread;
    REQUIRE(pthread_create(&thread, nullptr, work, nullptr) == 0);
    work(nullptr);
    REQUIRE(pthread_join(thread, nullptr) == 0);
    check::begin_case("large");
    void* p = calloc(1, 3 << 20);
    REQUIRE(p != nullptr);
    CHECK(check::all_zero(p, 3 << 20));
    free(p);
    check::begin_case("what only our heap can do");
    void* (*shared_malloc)(size_t);
    *reinterpret_cast<void**>(&shared_malloc) = dlsym(RTLD_DEFAULT, "dsm_malloc");
    errno = 0;
    if (shared_malloc != nullptr) CHECK(shared_malloc(100) == nullptr && errno == ENOTCONN);
    check::begin_case("a child");
    CHECK_CHILD(check::run_in_child([] { free(malloc(1000)); }));
    return check::result();
}
