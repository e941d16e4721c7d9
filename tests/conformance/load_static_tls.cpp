// The static TLS reserve: a program can still open several libraries with initial-exec thread-local
// storage, as it can without us (glibc keeps room for about 1.6 KiB in all). Run by CTest through
// run.sh; arguments: the libraries. Crash rule: check.hpp.
#include <dlfcn.h>
#include <pthread.h>

#include "tests/conformance/check.hpp"

int main(int argc, char** argv) {
    check::begin();
    check::begin_case("initial-exec libraries");
    REQUIRE(argc > 8, "usage: load_static_tls LIBRARY...");
    int bytes = 0;
    for (int i = 1; i < argc; ++i) {
        void* library = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
        CHECK(library != nullptr, "after %d bytes: %s", bytes, dlerror());
        if (library == nullptr) break;
        auto size = reinterpret_cast<int (*)()>(dlsym(library, "tls_size"));
        REQUIRE(size != nullptr);
        bytes += size();
        pthread_t thread;
        REQUIRE(pthread_create(
                    &thread, nullptr,
                    [](void* function) -> void* {
                        reinterpret_cast<int (*)()>(function)();
                        free(malloc(100));
                        return nullptr;
                    },
                    reinterpret_cast<void*>(size)) == 0);
        REQUIRE(pthread_join(thread, nullptr) == 0);
    }
    CHECK(bytes >= 1100, "only %d bytes of static TLS", bytes);
    return check::result();
}
