// Purpose: see preloadable.hpp.
// Who calls it: see preloadable.hpp.
// Crash rule: reads only.
#include "tools/cli/preloadable.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <libelf.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <sstream>

#include "node/unique_fd.hpp"

namespace aep {
namespace {

/// "#!" and the interpreter's path: that path, else empty.
std::string interpreter_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string line, first;
    std::getline(file, line);
    if (line.rfind("#!", 0) == 0) std::istringstream(line.substr(2)) >> first;
    return first;
}

/// Empty also of what is no program in machine code.
std::string why_not_as_elf(const std::string& path) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return "";
    elf_version(EV_CURRENT);
    const std::unique_ptr<Elf, decltype(&elf_end)> elf(elf_begin(fd.get(), ELF_C_READ, nullptr),
                                                       elf_end);
    if (elf == nullptr || elf_kind(elf.get()) != ELF_K_ELF) return "";
    const Elf64_Ehdr* const header = elf64_getehdr(elf.get());  // null: of another class
    if (header == nullptr || header->e_machine != EM_X86_64)
        return "is a program of another kind of machine (32 bits, or a foreign processor)";
    size_t count = 0;
    const Elf64_Phdr* const headers = elf64_getphdr(elf.get());  // null: cut short
    if (headers != nullptr && elf_getphdrnum(elf.get(), &count) == 0)
        for (size_t i = 0; i < count; ++i)
            if (headers[i].p_type == PT_INTERP) return "";
    return "is linked static, and has no loader";
}

/// Its file gives its process rights that we have not.
bool gives_rights(const std::string& path) {
    struct stat st {};
    if (stat(path.c_str(), &st) != 0) return false;
    if ((st.st_mode & S_ISUID) != 0 && st.st_uid != geteuid()) return true;
    if ((st.st_mode & S_ISGID) != 0 && (st.st_mode & S_IXGRP) != 0 && st.st_gid != getegid())
        return true;
    return geteuid() != 0 && getxattr(path.c_str(), "security.capability", nullptr, 0) > 0;
}

}  // namespace

std::string why_not_preloaded(const std::string& path) {
    std::string program = path;
    // An interpreter may be a script, too; the kernel follows five.
    for (int scripts = 0; scripts < 5; ++scripts) {
        const std::string about =
            program == path ? path : fmt::format("{}: its interpreter {}", path, program);
        const std::string interpreter = interpreter_of(program);
        if (interpreter.empty()) {
            if (const std::string why = why_not_as_elf(program); !why.empty())
                return fmt::format("{} {}", about, why);
            return gives_rights(program)
                       ? about +
                             " gets rights from its file (setuid, setgid, capabilities), for "
                             "which the loader ignores LD_PRELOAD"
                       : "";
        }
        program = interpreter;
    }
    return "";
}

}  // namespace aep
