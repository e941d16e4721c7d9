// Purpose: see profiled_process.hpp.
// Who calls it: see profiled_process.hpp.
// Crash rule: none needed.
#include "tools/cli/profiled_process.hpp"

#include <errno.h>
#include <fmt/format.h>
#include <sys/uio.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "node/node_error.hpp"

namespace aep {

namespace {

std::string of_process(int pid, const std::string& what) {
    return fmt::format("process {}: {}", pid, what);
}

/// What kept us from its memory, and what to do.
[[noreturn]] void cannot_touch(int pid, int error) {
    if (error == ESRCH || error == ENOENT)
        throw NodeError(
            error,
            of_process(pid, "there is none (any more): aep clients names those of a context"));
    if (error == EPERM || error == EACCES)
        throw NodeError(
            error,
            of_process(pid,
                       "its memory may not be read: be its user or root; where "
                       "kernel.yama.ptrace_scope is not 0, root (or let it write its profile "
                       "itself: AEP_PROFILE)"));
    throw NodeError(error, of_process(pid, "its memory: " + errno_text(error)));
}

/// Whether all bytes there could be read; else errno says why.
bool read_memory(int pid, uptr from, void* to, usize bytes) {
    iovec here{to, bytes};
    iovec there{reinterpret_cast<void*>(from), bytes};
    const ssize_t n = process_vm_readv(pid, &here, 1, &there, 1, 0);
    if (n >= 0 && static_cast<usize>(n) != bytes) errno = EFAULT;
    return n >= 0 && static_cast<usize>(n) == bytes;
}

/// One of the lines of its map.
struct Mapping {
    uptr begin = 0, end = 0;
    std::string access, path;
};

bool parse_mapping(const std::string& line, Mapping& m) {
    unsigned long begin = 0, end = 0;
    char access[5] = "";
    int path = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %4s %*s %*s %*s %n", &begin, &end, access, &path) != 3)
        return false;
    m = {begin, end, access, path == 0 ? "" : line.substr(static_cast<size_t>(path))};
    return true;
}

/// Where in one mapping of a library what it exports for us stands; 0: not there. Its file is mapped page by page, so that
/// the end of one part also shows the beginning of the next as the file has it: there its pointers lead nowhere.
uptr find_inspected(int pid, const Mapping& m) {
    constexpr usize MOST = 16 * MiB;  // of a library's constants
    constexpr usize WATCH = offsetof(Inspected, watch) / sizeof(u64);
    if (m.end - m.begin > MOST) return 0;
    std::vector<u64> words((m.end - m.begin) / sizeof(u64));
    if (!read_memory(pid, m.begin, words.data(), words.size() * sizeof(u64))) return 0;
    for (usize i = 0; i + WATCH < words.size(); ++i) {
        u32 on = 0;
        if (words[i] == Inspected::MAGIC && read_memory(pid, words[i + WATCH], &on, sizeof on))
            return m.begin + i * sizeof(u64);
    }
    return 0;
}

}  // namespace

template <class T>
T ProfiledProcess::read_value(const void* address) const {
    T value{};
    if (!read_memory(pid_, reinterpret_cast<uptr>(address), &value, sizeof value))
        cannot_touch(pid_, errno);
    return value;
}

template <class T>
void ProfiledProcess::write_value(void* address, T value) const {
    iovec here{&value, sizeof value};
    iovec there{address, sizeof value};
    if (process_vm_writev(pid_, &here, 1, &there, 1, 0) != static_cast<ssize_t>(sizeof value))
        cannot_touch(pid_, errno);
}

std::string ProfiledProcess::map() const {
    std::ifstream file(fmt::format("/proc/{}/maps", pid_));
    std::ostringstream text;
    if (!file) cannot_touch(pid_, errno);
    text << file.rdbuf();
    return text.str();
}

ProfiledProcess::ProfiledProcess(int pid) : pid_(pid) {
    std::istringstream lines(map());
    bool has_library = false;
    for (std::string line; std::getline(lines, line);) {
        Mapping m;
        if (!parse_mapping(line, m) || m.path.find("libaepmalloc") == std::string::npos) continue;
        has_library = true;
        if (m.access[0] != 'r' || m.access[2] == 'x') continue;
        u64 magic = 0;  // also says whether we may
        if (!read_memory(pid_, m.begin, &magic, sizeof magic)) cannot_touch(pid_, errno);
        const uptr at = find_inspected(pid_, m);
        if (at == 0) continue;
        seen_ = read_value<Inspected>(reinterpret_cast<void*>(at));
        if (seen_.bytes == sizeof(Inspected) && seen_.site_bytes == sizeof(SampleSite) &&
            seen_.most_sites == MOST_SITES && seen_.most_frames == MOST_FRAMES)
            return;
    }
    throw NodeError(
        EINVAL,
        of_process(
            pid_,
            has_library
                ? "its libaepmalloc.so is of another version than this program: use that "
                  "version's aep"
                : "it does not run on libaepmalloc.so: start it with aep run, or LD_PRELOAD"));
}

bool ProfiledProcess::is_on() const {
    return (read_value<u32>(&seen_.watch->on) & WATCH_PROFILE) != 0;
}

/// The process itself changes these bits at its start and at its end alone.
void ProfiledProcess::set_on(u32 set, u32 clear) {
    write_value<u32>(&seen_.watch->on, (read_value<u32>(&seen_.watch->on) | set) & ~clear);
}

void ProfiledProcess::switch_on(u64 rate) {
    const u64 was = read_value<u64>(&seen_.watch->rate);
    if (rate != 0 && rate != was) {
        if (read_value<uptr>(&seen_.samples->sites) != 0)
            throw NodeError(
                EINVAL,
                of_process(pid_, fmt::format("there are samples already, one in {} bytes: the rate "
                                             "can no longer be another one: leave --rate out",
                                             was)));
        write_value<u64>(&seen_.watch->rate, rate);
    }
    set_on(WATCH_PROFILE, 0);
}

void ProfiledProcess::switch_off() { set_on(0, WATCH_PROFILE); }

ProfileData ProfiledProcess::read() const {
    ProfileData profile;
    profile.rate = read_value<u64>(&seen_.watch->rate);
    if (profile.rate == 0) profile.rate = 1;
    profile.map = map();
    const auto sites = read_value<uptr>(&seen_.samples->sites);
    u32 count = read_value<u32>(&seen_.samples->count);
    if (count > MOST_SITES) count = MOST_SITES;
    if (sites == 0) return profile;
    std::vector<u8> bytes(usize{count} * sizeof(SampleSite));
    if (!read_memory(pid_, sites, bytes.data(), bytes.size())) cannot_touch(pid_, errno);
    for (u32 i = 0; i < count; ++i) {
        const auto& site =
            *reinterpret_cast<const SampleSite*>(bytes.data() + usize{i} * sizeof(SampleSite));
        if (site.ready.load(std::memory_order_relaxed) == 0) continue;
        const u64 made = site.made.load(std::memory_order_relaxed);
        const u64 freed = site.freed.load(std::memory_order_relaxed);
        const u32 depth = site.depth < MOST_FRAMES ? site.depth : MOST_FRAMES;
        if (made == 0) continue;
        profile.sites.push_back({site.size, made, freed < made ? freed : made,
                                 std::vector<u64>(site.frames, site.frames + depth)});
    }
    return profile;
}

}  // namespace aep
