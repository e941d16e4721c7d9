// Purpose: a library opened with RTLD_DEEPBIND binds malloc and free to libc before us, and would
// free our blocks with
//          libc's free. So libc's own symbol table is made to name our functions: whoever looks
//          libc's malloc up finds ours. What we call of libc often is looked up there, too.
// Who calls it: the loader, as a constructor, before any other library is initialised.
// Crash rule: a private page of this process's libc mapping.
#include <link.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/auxv.h>

#include <algorithm>

#include "dsm-core/base/layout.hpp"
#include "preload/loaded_library.hpp"
#include "preload/watching.hpp"
#include "shim/driver/aside.hpp"
#include "shim/driver/background_thread.hpp"
#include "shim/driver/process.hpp"
#include "shim/sys/syscall.hpp"

extern "C" const Elf64_Ehdr __ehdr_start
    __attribute__((visibility("hidden")));  // ours, by the linker
extern "C" void __libc_free(void*);
extern "C" void cfree(void*) noexcept;

namespace {

using namespace aep;

struct Replacement {
    const char* name;
    void* function;
};

template <class F>
constexpr void* address(F* f) {
    return reinterpret_cast<void*>(f);
}

/// libc, which is the library whose __libc_free is ours to call. The loader's own list of what is
/// loaded is read: dl_iterate_phdr may be a sanitizer's, which is not initialised yet.
LoadedLibrary find_libc() {
    const uptr wanted = reinterpret_cast<uptr>(&__libc_free);
    // All namespaces: this library may have been opened in one of its own.
    for (const r_debug_extended* space = reinterpret_cast<r_debug_extended*>(&_r_debug);
         space != nullptr; space = space->base.r_version > 1 ? space->r_next : nullptr) {
        for (const link_map* map = space->base.r_map; map != nullptr; map = map->l_next) {
            const LoadedLibrary library = read_library(map->l_addr, map->l_ld);
            if (address_in(library, "__libc_free") == wanted) return library;
        }
    }
    return {};
}

/// Whether the program's malloc is ours, and not one that is linked into it (a sanitizer's) or
/// preloaded before us.
bool is_programs_malloc() {
    for (const link_map* map = _r_debug.r_map; map != nullptr; map = map->l_next) {
        const uptr found = address_in(read_library(map->l_addr, map->l_ld), "malloc");
        if (found != 0) return found == reinterpret_cast<uptr>(&malloc);
    }
    return false;
}

/// Where the image that is loaded at `base`, its ELF header first, ends.
uptr end_of_library(uptr base) {
    const auto* header = reinterpret_cast<const Elf64_Ehdr*>(base);
    const auto* segment = reinterpret_cast<const Elf64_Phdr*>(base + header->e_phoff);
    uptr end = base;
    for (u32 i = 0; i < header->e_phnum; ++i, ++segment)
        if (segment->p_type == PT_LOAD)
            end = std::max(end, base + segment->p_vaddr + segment->p_memsz);
    return end;
}

/// It starts no thread of ours.
void avoid_library(uptr base) {
    if (base != 0) background_avoid(base, end_of_library(base));
}

/// The OS pages that hold the symbols to be replaced.
struct PageRange {
    uptr begin = ~uptr{0};
    uptr end = 0;
    bool protect(int protection) const {
        return !sys::failed(sys::mprotect(begin, end - begin, protection));
    }
};

__attribute__((constructor)) void meet_libc() {
    if (!is_first_copy()) return;
    const LoadedLibrary libc = find_libc();
    if (libc.base != 0) {
        avoid_library(libc.base);
        avoid_library(getauxval(AT_BASE));  // the loader
        avoid_library(reinterpret_cast<uptr>(&__ehdr_start));
    }
    use_clock(reinterpret_cast<ClockFunction*>(address_in(libc, "clock_gettime")));
    // Later the program may have forbidden itself to open files, to map them, or to be root.
    if (is_programs_malloc()) {
        process_start_early();
        const uptr own = reinterpret_cast<uptr>(&__ehdr_start);
        aep_begin_watching(own, end_of_library(own));
    }
    const Replacement replacements[] = {
        {"malloc", address(malloc)},
        {"free", address(free)},
        {"calloc", address(calloc)},
        {"realloc", address(realloc)},
        {"reallocarray", address(reallocarray)},
        {"memalign", address(memalign)},
        {"aligned_alloc", address(aligned_alloc)},
        {"posix_memalign", address(posix_memalign)},
        {"valloc", address(valloc)},
        {"pvalloc", address(pvalloc)},
        {"malloc_usable_size", address(malloc_usable_size)},
        {"cfree", address(cfree)},
    };
    PageRange pages;
    for (const Replacement& r : replacements) {
        for_each_symbol(
            libc, r.name,
            [&](const Elf64_Sym& symbol) {
                const uptr at = reinterpret_cast<uptr>(&symbol);
                pages.begin = std::min(pages.begin, round_down(at, OS_PAGE_SIZE));
                pages.end = std::max(pages.end, round_up(at + sizeof symbol, OS_PAGE_SIZE));
            });
    }
    // A system that forbids this keeps libc's symbols: such a library then uses libc's heap for
    // itself.
    if (pages.end == 0 || !pages.protect(PROT_READ | PROT_WRITE)) return;
    for (const Replacement& r : replacements) {
        for_each_symbol(
            libc, r.name,
            [&](const Elf64_Sym& symbol) {
                const_cast<Elf64_Sym&>(symbol).st_value =
                    reinterpret_cast<uptr>(r.function) - libc.base;
            });
    }
    pages.protect(PROT_READ);
}

}  // namespace
