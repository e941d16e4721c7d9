// Purpose: see preloadable.hpp.
// Who calls it: see preloadable.hpp.
// Crash rule: reads only.
#include "tools/cli/preloadable.hpp"

#include <elf.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "dsm-core/base/types.hpp"

namespace aep {
namespace {

/// "#!" and the interpreter's path: that path, else empty.
std::string interpreter_of(std::ifstream& file) {
    std::string line;
    file.seekg(0);
    std::getline(file, line);
    file.clear();
    if (line.rfind("#!", 0) != 0) return "";
    std::istringstream words(line.substr(2));
    std::string first;
    words >> first;
    return first;
}

/// Whether a program header of the kind is there; a file that is cut short has none.
bool has_header(std::ifstream& file, const Elf64_Ehdr& header, Elf64_Word kind) {
    for (unsigned i = 0; i < header.e_phnum; ++i) {
        Elf64_Phdr program{};
        file.seekg(static_cast<std::streamoff>(header.e_phoff + u64{i} * header.e_phentsize));
        if (!file.read(reinterpret_cast<char*>(&program), sizeof program)) break;
        if (program.p_type == kind) return true;
    }
    file.clear();
    return false;
}

std::string why_not_as_elf(std::ifstream& file, const Elf64_Ehdr& header) {
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64)
        return "is a program of another kind of machine (32 bits, or a foreign processor)";
    if (!has_header(file, header, PT_INTERP)) return "is linked static, and has no loader";
    return "";
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
        std::ifstream file(program, std::ios::binary);
        Elf64_Ehdr header{};
        file.read(reinterpret_cast<char*>(&header), sizeof header);
        const bool whole = file.good();
        file.clear();
        const std::string about =
            program == path ? path : fmt::format("{}: its interpreter {}", path, program);
        if (whole && std::memcmp(header.e_ident, ELFMAG, SELFMAG) == 0) {
            if (const std::string why = why_not_as_elf(file, header); !why.empty())
                return fmt::format("{} {}", about, why);
            if (gives_rights(program))
                return about +
                       " gets rights from its file (setuid, setgid, capabilities), for which the "
                       "loader ignores LD_PRELOAD";
            return "";
        }
        program = interpreter_of(file);
        if (program.empty()) return "";
    }
    return "";
}

}  // namespace aep
