// Purpose: the symbols of a loaded library, by name, read from its own tables: nothing is called
//          for it, so it works in the first constructor and when memory has run out.
// Who calls it: libc_symbols.cpp, cxx_runtime.cpp.
// Crash rule: reads only.
#pragma once

#include <elf.h>

#include "dsm-core/base/types.hpp"

namespace aep {

/// Where a library lies and how its symbols are found. The tables are the library's own and go with
/// it.
struct LoadedLibrary {
    uptr base = 0;
    const Elf64_Sym* symbols = nullptr;
    const char* strings = nullptr;
    const u32* gnu_hash = nullptr;
    const char* soname = "";

    bool has_symbols() const {
        return symbols != nullptr && strings != nullptr && gnu_hash != nullptr;
    }
};

/// Reads the dynamic section of what is loaded at `base`; null: it has none.
inline LoadedLibrary read_library(uptr base, const Elf64_Dyn* dynamic) {
    LoadedLibrary library{.base = base};
    uptr name = 0;
    for (; dynamic != nullptr && dynamic->d_tag != DT_NULL; ++dynamic) {
        // The loader has relocated these, but not where the section is read-only (vdso).
        const uptr value = dynamic->d_un.d_ptr;
        const uptr at = value < base ? base + value : value;
        if (dynamic->d_tag == DT_SYMTAB) library.symbols = reinterpret_cast<Elf64_Sym*>(at);
        if (dynamic->d_tag == DT_STRTAB) library.strings = reinterpret_cast<char*>(at);
        if (dynamic->d_tag == DT_GNU_HASH) library.gnu_hash = reinterpret_cast<u32*>(at);
        if (dynamic->d_tag == DT_SONAME) name = value;
    }
    if (name != 0 && library.strings != nullptr) library.soname = library.strings + name;
    return library;
}

namespace detail {

/// strcmp may be another library's that is not initialised yet (a sanitizer's).
inline bool is_same_name(const char* a, const char* b) {
    while (*a != '\0' && *a == *b) ++a, ++b;
    return *a == *b;
}

inline u32 gnu_hash_of(const char* name) {
    u32 h = 5381;
    for (; *name != '\0'; ++name) h = h * 33 + static_cast<u8>(*name);
    return h;
}

}  // namespace detail

/// Calls f with each symbol of that name that the library defines (there is one for each version).
template <class F>
void for_each_symbol(const LoadedLibrary& library, const char* name, F&& f) {
    if (!library.has_symbols()) return;
    // The layout of DT_GNU_HASH: four counts, a Bloom filter of 64-bit words, buckets, chains.
    const u32 bucket_count = library.gnu_hash[0];
    const u32 first_symbol = library.gnu_hash[1];
    if (bucket_count == 0) return;
    const u32* const buckets = library.gnu_hash + 4 + library.gnu_hash[2] * 2;
    const u32* const chains = buckets + bucket_count;
    const u32 hash = detail::gnu_hash_of(name);
    u32 i = buckets[hash % bucket_count];
    if (i < first_symbol) return;
    for (;; ++i) {
        const u32 entry = chains[i - first_symbol];
        const Elf64_Sym& symbol = library.symbols[i];
        if ((entry | 1) == (hash | 1) && symbol.st_shndx != SHN_UNDEF &&
            detail::is_same_name(library.strings + symbol.st_name, name))
            f(symbol);
        if ((entry & 1) != 0) return;  // end of the chain
    }
}

/// Where the library has that function or object; 0: it does not define it.
inline uptr address_in(const LoadedLibrary& library, const char* name) {
    uptr found = 0;
    for_each_symbol(library, name, [&](const Elf64_Sym& symbol) {
        // An indirect one's value is the function that chooses it.
        if (ELF64_ST_TYPE(symbol.st_info) != STT_GNU_IFUNC) found = library.base + symbol.st_value;
    });
    return found;
}

}  // namespace aep
