// Purpose: see points.hpp.
// Who calls it: the torture's driver.
// Crash rule: reads only.
#include "tools/torture/points.hpp"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <stdexcept>

#include "dsm-core/context/crash_points.hpp"
#include "dsm-core/heap/crash_points.hpp"
#include "dsm-core/sharing/crash_points.hpp"

namespace aep::torture {
namespace {

template <class T>
T read_at(const std::vector<char>& file, std::size_t offset) {
    if (offset + sizeof(T) > file.size()) throw std::runtime_error("the image is cut short");
    T value;
    std::memcpy(&value, file.data() + offset, sizeof value);
    return value;
}

/// The notes' bytes: contents of section .aep_points.
std::vector<char> notes_of(const std::vector<char>& file) {
    const auto elf = read_at<Elf64_Ehdr>(file, 0);
    const auto section = [&](unsigned i) {
        return read_at<Elf64_Shdr>(file, elf.e_shoff + i * sizeof(Elf64_Shdr));
    };
    const Elf64_Shdr names = section(elf.e_shstrndx);
    for (unsigned i = 0; i < elf.e_shnum; ++i) {
        const Elf64_Shdr header = section(i);
        if (names.sh_offset + header.sh_name >= file.size()) continue;
        if (std::string_view(file.data() + names.sh_offset + header.sh_name) != ".aep_points")
            continue;
        if (header.sh_offset + header.sh_size > file.size()) break;
        const auto begin = file.begin() + static_cast<std::ptrdiff_t>(header.sh_offset);
        return {begin, begin + static_cast<std::ptrdiff_t>(header.sh_size)};
    }
    throw std::runtime_error("the image has no notes of crash points");
}

}  // namespace

std::map<std::string, std::vector<std::uint64_t>> points_of_image(
    const std::filesystem::path& image, bool nodes) {
    std::ifstream in(image, std::ios::binary);
    const std::vector<char> file{std::istreambuf_iterator<char>(in), {}};
    std::set<std::string> wanted(std::begin(NODE_CRASH_POINTS), std::end(NODE_CRASH_POINTS));
    wanted.insert(std::begin(HEAP_CRASH_POINTS), std::end(HEAP_CRASH_POINTS));
    wanted.insert(std::begin(SHARE_CRASH_POINTS), std::end(SHARE_CRASH_POINTS));
    if (nodes) wanted.insert(std::begin(AWAY_CRASH_POINTS), std::end(AWAY_CRASH_POINTS));
    std::map<std::string, std::vector<std::uint64_t>> points;
    for (const std::string& name : wanted)
        points[name];  // one without address is never hit: a fault
    const std::vector<char> notes = notes_of(file);
    for (std::size_t at = 0; at + sizeof(std::uint64_t) < notes.size();) {
        const auto address = read_at<std::uint64_t>(notes, at);
        const std::string name(notes.data() + at + sizeof address);
        at += sizeof address + name.size() + 1;
        if (wanted.contains(name)) points[name].push_back(address);
    }
    return points;
}

}  // namespace aep::torture
