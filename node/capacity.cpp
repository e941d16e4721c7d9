// Purpose: see capacity.hpp.
// Who calls it: see capacity.hpp.
// Crash rule: see capacity.hpp.
#include "node/capacity.hpp"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

namespace aep {
namespace {

constexpr u64 STAT_BLOCK = 512;

/// What the file system still gives, and what the file has beyond what is in use.
u64 left_on_file_system(const PoolFile& file, u64 bytes, u64 free_bytes, bool& is_memory) {
    struct statfs system {};
    struct stat own {};
    if (statfs(file.path, &system) != 0 || stat(file.path, &own) != 0) return NO_LIMIT;
    is_memory = system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC;
    const u64 has = static_cast<u64>(own.st_blocks) * STAT_BLOCK;
    const u64 used = bytes - std::min(bytes, free_bytes);
    if (system.f_blocks == 0) return NO_LIMIT;  // a tmpfs without a size
    return system.f_bavail * static_cast<u64>(system.f_bsize) + (has > used ? has - used : 0);
}

std::string text_of_file(const char* path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
}

using Bound = std::pair<u64, const char*>;
Bound least(const Capacity& c) {
    const std::array<Bound, 4> all{Bound{c.pool, "pool"}, Bound{c.file_system, "file system"},
                                   Bound{c.cgroup, "cgroup"}, Bound{c.machine, "machine"}};
    return *std::min_element(all.begin(), all.end(),
                             [](const Bound& a, const Bound& b) { return a.first < b.first; });
}

}  // namespace

u64 Capacity::usable() const { return least(*this).first; }
const char* Capacity::bound() const { return least(*this).second; }

u64 parse_meminfo(const char* text) {
    std::istringstream lines(text);
    u64 kib = 0;
    bool found = false;
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string key;
        u64 value = 0;
        if (!(words >> key >> value)) continue;
        if (key == "MemAvailable:") found = true;
        if (key == "MemAvailable:" || key == "SwapFree:") kib += value;
    }
    return found ? kib * KiB : NO_LIMIT;
}

Capacity capacity_of(const PoolHere& pool, u64 free_bytes) {
    Capacity c{.pool = free_bytes};
    if (pool.file.memory == PoolMemory::device) return c;  // its memory is there
    const u64 bytes = u64{pool.tables.chunks_there()} * CHUNK_SIZE;
    bool is_memory = false;
    c.file_system = left_on_file_system(pool.file, bytes, free_bytes, is_memory);
    if (!is_memory) return c;
    c.cgroup = own_cgroup_headroom();
    c.machine = parse_meminfo(text_of_file("/proc/meminfo").c_str());
    return c;
}

}  // namespace aep
