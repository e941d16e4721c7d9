// Purpose: see cxx_runtime.hpp.
// Who calls it: see cxx_runtime.hpp.
// Crash rule: see cxx_runtime.hpp.
#include "preload/cxx_runtime.hpp"

#include <dlfcn.h>
#include <link.h>

namespace aep {

namespace {

/// What every C++ runtime defines.
constexpr char GET_NEW_HANDLER[] = "_ZSt15get_new_handlerv";

/// How likely a library is the caller's runtime.
enum class Fit {
    none,
    some,    // a runtime
    common,  // the one that others link to
    own,     // the library of the caller's, with a runtime linked in
    global,  // the one that everybody's symbols resolve to, as the caller's do
};

struct Search {
    uptr global;
    uptr caller;
    LoadedLibrary best;
    Fit fit = Fit::none;
};

bool is_common(const char* soname) {
    return detail::is_same_name(soname, "libstdc++.so.6") ||
           detail::is_same_name(soname, "libc++abi.so.1") ||
           detail::is_same_name(soname, "libc++.so.1");
}

/// dl_iterate_phdr callback: keeps the best so far.
int look_at(dl_phdr_info* info, size_t, void* argument) {
    Search& search = *static_cast<Search*>(argument);
    bool holds_global = false, holds_caller = false;
    const Elf64_Dyn* dynamic = nullptr;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const Elf64_Phdr& p = info->dlpi_phdr[i];
        const uptr at = info->dlpi_addr + p.p_vaddr;
        if (p.p_type == PT_DYNAMIC) dynamic = reinterpret_cast<const Elf64_Dyn*>(at);
        if (p.p_type != PT_LOAD) continue;
        holds_global |= search.global - at < p.p_memsz;
        holds_caller |= search.caller - at < p.p_memsz;
    }
    const LoadedLibrary library = read_library(info->dlpi_addr, dynamic);
    if (address_in(library, GET_NEW_HANDLER) == 0) return 0;
    const Fit fit = holds_global                ? Fit::global
                    : holds_caller              ? Fit::own
                    : is_common(library.soname) ? Fit::common
                                                : Fit::some;
    if (fit > search.fit) {
        search.best = library;
        search.fit = fit;
    }
    return 0;
}

}  // namespace

LoadedLibrary cxx_runtime_of(const void* caller) {
    Search search{.global = reinterpret_cast<uptr>(dlsym(RTLD_DEFAULT, GET_NEW_HANDLER)),
                  .caller = reinterpret_cast<uptr>(caller),
                  .best = {}};
    dl_iterate_phdr(look_at, &search);
    return search.best;
}

}  // namespace aep
