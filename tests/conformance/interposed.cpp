// Every malloc entry point and every operator new/delete form resolves to the preloaded library,
// not to libc or libstdc++. A form that is missing would mix two heaps. Run by CTest through
// run.sh. Crash rule: check.hpp.
#include <dlfcn.h>

#include "tests/conformance/check.hpp"

static const char* const k_names[] = {
    "malloc", "free", "calloc", "realloc", "reallocarray", "aligned_alloc", "memalign",
    "posix_memalign", "valloc", "pvalloc", "malloc_usable_size", "cfree", "free_sized",
    "free_aligned_sized", "malloc_trim", "mallopt", "mallinfo", "mallinfo2", "malloc_stats",
    "malloc_info",
    // operator new: plain, array; nothrow; aligned; aligned nothrow
    "_Znwm", "_Znam", "_ZnwmRKSt9nothrow_t", "_ZnamRKSt9nothrow_t", "_ZnwmSt11align_val_t",
    "_ZnamSt11align_val_t", "_ZnwmSt11align_val_tRKSt9nothrow_t",
    "_ZnamSt11align_val_tRKSt9nothrow_t",
    // operator delete: plain, array; sized; nothrow; aligned; sized aligned; aligned nothrow
    "_ZdlPv", "_ZdaPv", "_ZdlPvm", "_ZdaPvm", "_ZdlPvRKSt9nothrow_t", "_ZdaPvRKSt9nothrow_t",
    "_ZdlPvSt11align_val_t", "_ZdaPvSt11align_val_t", "_ZdlPvmSt11align_val_t",
    "_ZdaPvmSt11align_val_t", "_ZdlPvSt11align_val_tRKSt9nothrow_t",
    "_ZdaPvSt11align_val_tRKSt9nothrow_t"};

int main() {
    check::begin();
    const char* preload = getenv("LD_PRELOAD");
    REQUIRE(preload != nullptr, "run me through run.sh with a library");
    struct stat library;
    REQUIRE(stat(preload, &library) == 0, "%s", preload);
    for (const char* name : k_names) {
        check::begin_case(name);
        void* address = dlsym(RTLD_DEFAULT, name);
        CHECK(address != nullptr, "not exported");
        if (address == nullptr) continue;
        Dl_info info;
        REQUIRE(dladdr(address, &info) != 0);
        struct stat owner;
        CHECK(stat(info.dli_fname, &owner) == 0 && owner.st_ino == library.st_ino, "comes from %s",
              info.dli_fname);
    }
    return check::result();
}
