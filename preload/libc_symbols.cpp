// Purpose: a library opened with RTLD_DEEPBIND binds malloc and free to libc before us, and would
// free our blocks with
//          libc's free. So libc's own symbol table is made to name our functions: whoever looks
//          libc's malloc up finds ours.
// Who calls it: the loader, as a constructor, before any other library is initialised.
// Crash rule: a private page of this process's libc mapping.
#include <elf.h>
#include <link.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>

#include "dsm-core/base/layout.hpp"
#include "shim/syscall.hpp"

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

/// What the loader knows of libc: where it lies and how its symbols are found.
struct Library {
    uptr base = 0;
    const Elf64_Sym* symbols = nullptr;
    const char* strings = nullptr;
    const u32* gnu_hash = nullptr;
};

/// dl_iterate_phdr callback: stops at the library that holds __libc_free.
int find_libc(dl_phdr_info* info, size_t, void* result) {
    const uptr wanted = reinterpret_cast<uptr>(&__libc_free);
    bool holds = false;
    const Elf64_Dyn* dynamic = nullptr;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const Elf64_Phdr& p = info->dlpi_phdr[i];
        if (p.p_type == PT_LOAD) holds |= wanted - (info->dlpi_addr + p.p_vaddr) < p.p_memsz;
        if (p.p_type == PT_DYNAMIC) {
            dynamic = reinterpret_cast<const Elf64_Dyn*>(info->dlpi_addr + p.p_vaddr);
        }
    }
    if (!holds || dynamic == nullptr) return 0;
    Library& library = *static_cast<Library*>(result);
    library.base = info->dlpi_addr;
    for (; dynamic->d_tag != DT_NULL; ++dynamic) {
        const uptr value = dynamic->d_un.d_ptr;  // the loader has relocated these
        if (dynamic->d_tag == DT_SYMTAB) library.symbols = reinterpret_cast<Elf64_Sym*>(value);
        if (dynamic->d_tag == DT_STRTAB) library.strings = reinterpret_cast<char*>(value);
        if (dynamic->d_tag == DT_GNU_HASH) library.gnu_hash = reinterpret_cast<u32*>(value);
    }
    return 1;
}

u32 gnu_hash_of(const char* name) {
    u32 h = 5381;
    for (; *name != '\0'; ++name) h = h * 33 + static_cast<u8>(*name);
    return h;
}

/// Calls f with each symbol of that name (there is one for each version).
template <class F>
void for_each_symbol(const Library& library, const char* name, F&& f) {
    // The layout of DT_GNU_HASH: four counts, a Bloom filter of 64-bit words, buckets, chains.
    const u32 bucket_count = library.gnu_hash[0];
    const u32 first_symbol = library.gnu_hash[1];
    const u32* const buckets = library.gnu_hash + 4 + library.gnu_hash[2] * 2;
    const u32* const chains = buckets + bucket_count;
    const u32 hash = gnu_hash_of(name);
    u32 i = buckets[hash % bucket_count];
    if (i < first_symbol) return;
    for (;; ++i) {
        const u32 entry = chains[i - first_symbol];
        if ((entry | 1) == (hash | 1) &&
            strcmp(library.strings + library.symbols[i].st_name, name) == 0) {
            f(const_cast<Elf64_Sym&>(library.symbols[i]));
        }
        if ((entry & 1) != 0) return;  // end of the chain
    }
}

/// The OS pages that hold the symbols to be replaced.
struct PageRange {
    uptr begin = ~uptr{0};
    uptr end = 0;
    bool protect(int protection) const {
        return !sys::failed(sys::mprotect(begin, end - begin, protection));
    }
};

__attribute__((constructor)) void replace_libc_symbols() {
    Library libc;
    if (dl_iterate_phdr(find_libc, &libc) == 0) return;
    if (libc.symbols == nullptr || libc.strings == nullptr || libc.gnu_hash == nullptr) return;
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
        for_each_symbol(libc, r.name, [&](Elf64_Sym& symbol) {
            const uptr at = reinterpret_cast<uptr>(&symbol);
            pages.begin = std::min(pages.begin, round_down(at, OS_PAGE_SIZE));
            pages.end = std::max(pages.end, round_up(at + sizeof symbol, OS_PAGE_SIZE));
        });
    }
    // A system that forbids this keeps libc's symbols: such a library then uses libc's heap for
    // itself.
    if (pages.end == 0 || !pages.protect(PROT_READ | PROT_WRITE)) return;
    for (const Replacement& r : replacements) {
        for_each_symbol(libc, r.name, [&](Elf64_Sym& symbol) {
            symbol.st_value = reinterpret_cast<uptr>(r.function) - libc.base;
        });
    }
    pages.protect(PROT_READ);
}

}  // namespace
