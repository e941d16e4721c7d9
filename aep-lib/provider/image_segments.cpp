// Purpose: see image_segments.hpp.
// Who calls it: see image_segments.hpp.
// Crash rule: see image_segments.hpp.
#include "aep-lib/provider/image_segments.hpp"

#include <libelf.h>

#include <memory>

namespace aep {

Outcome<std::vector<Elf64_Phdr>> loaded_segments(int fd) {
    const Failure none{"the image file is none of ours: build it again"};
    elf_version(EV_CURRENT);
    const std::unique_ptr<Elf, decltype(&elf_end)> elf(elf_begin(fd, ELF_C_READ, nullptr), elf_end);
    size_t count = 0;
    if (elf == nullptr || elf_getphdrnum(elf.get(), &count) != 0) return none;
    const Elf64_Phdr* headers = elf64_getphdr(elf.get());
    if (headers == nullptr) return none;  // of another kind, or cut short
    std::vector<Elf64_Phdr> loaded;
    for (size_t i = 0; i < count; ++i)
        if (headers[i].p_type == PT_LOAD) loaded.push_back(headers[i]);
    return loaded;
}

}  // namespace aep
