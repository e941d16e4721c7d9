// A program with ThreadSanitizer, which has a use of its own for all addresses: it runs, on libc's
// malloc, and is told so. Built with -fsanitize=thread. Run by CTest through run.sh. Crash rule:
// check.hpp.
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
    check::begin_case("a child");
    CHECK_CHILD(check::run_in_child([] { free(malloc(1000)); }));
    return check::result();
}
