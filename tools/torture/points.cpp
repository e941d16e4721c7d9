// Purpose: see points.hpp.
// Who calls it: the torture's driver.
// Crash rule: reads only.
#include "tools/torture/points.hpp"

#include <fcntl.h>
#include <libelf.h>
#include <unistd.h>

#include <cstring>
#include <set>
#include <stdexcept>
#include <string_view>

#include "dsm-core/context/crash_points.hpp"
#include "dsm-core/heap/crash_points.hpp"
#include "dsm-core/sharing/crash_points.hpp"

namespace aep::torture {
namespace {

/// A file that is open, and libelf's view of it.
class ElfFile {
  public:
    explicit ElfFile(const std::filesystem::path& path)
        : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
        elf_version(EV_CURRENT);
        elf_ = elf_begin(fd_, ELF_C_READ, nullptr);
    }
    ~ElfFile() {
        elf_end(elf_);
        if (fd_ >= 0) close(fd_);
    }
    ElfFile(const ElfFile&) = delete;
    ElfFile& operator=(const ElfFile&) = delete;

    /// The bytes of a section. Throws std::runtime_error: there is none.
    std::string section(std::string_view wanted) const {
        std::size_t names = 0;
        elf_getshdrstrndx(elf_, &names);
        for (Elf_Scn* s = elf_nextscn(elf_, nullptr); s != nullptr; s = elf_nextscn(elf_, s)) {
            const Elf64_Shdr* header = elf64_getshdr(s);
            const char* name =
                header == nullptr ? nullptr : elf_strptr(elf_, names, header->sh_name);
            if (name == nullptr || name != wanted) continue;
            const Elf_Data* data = elf_rawdata(s, nullptr);
            if (data == nullptr || data->d_buf == nullptr) break;
            return {static_cast<const char*>(data->d_buf), data->d_size};
        }
        throw std::runtime_error("the image has no notes of crash points");
    }

  private:
    int fd_;
    Elf* elf_;
};

}  // namespace

std::map<std::string, std::vector<std::uint64_t>> points_of_image(
    const std::filesystem::path& image, bool nodes) {
    std::set<std::string> wanted(std::begin(NODE_CRASH_POINTS), std::end(NODE_CRASH_POINTS));
    wanted.insert(std::begin(HEAP_CRASH_POINTS), std::end(HEAP_CRASH_POINTS));
    wanted.insert(std::begin(SHARE_CRASH_POINTS), std::end(SHARE_CRASH_POINTS));
    if (nodes) wanted.insert(std::begin(AWAY_CRASH_POINTS), std::end(AWAY_CRASH_POINTS));
    std::map<std::string, std::vector<std::uint64_t>> points;
    for (const std::string& name : wanted)
        points[name];  // one without address is never hit: a fault
    const std::string notes = ElfFile(image).section(".aep_points");
    std::uint64_t address;
    for (std::size_t at = 0; at + sizeof address < notes.size();) {
        std::memcpy(&address, notes.data() + at, sizeof address);
        const std::string name(notes.c_str() + at + sizeof address);
        at += sizeof address + name.size() + 1;
        if (wanted.contains(name)) points[name].push_back(address);
    }
    return points;
}

}  // namespace aep::torture
