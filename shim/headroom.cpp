// Purpose: see headroom.hpp.
// Who calls it: pool_backing.cpp.
// Crash rule: no state but a cached answer.
#include "shim/headroom.hpp"

#include <atomic>

#include "shim/syscall.hpp"

namespace aep {
namespace {

/// Memory that the kernel and the program take beside ours while we fill up to the limit.
constexpr u64 MARGIN = 1 * MiB;
/// After this much the limits are looked at again, even where there were none.
constexpr u64 MOST_CREDIT = 256 * MiB;

/// Bytes that may be committed without looking at the cgroup files again.
std::atomic<long> credit{0};

/// A path that is put together; too long a one becomes empty.
struct Path {
    char text[1400];
    usize length = 0;
    void add(const char* part, usize bytes) {
        if (length + bytes >= sizeof text) {
            length = 0;
            bytes = 0;
        }
        __builtin_memcpy(text + length, part, bytes);
        length += bytes;
        text[length] = '\0';
    }
    void add(const char* part) { add(part, __builtin_strlen(part)); }
};

bool read_file(const char* directory, usize directory_bytes, const char* name, char* to,
               usize room) {
    Path path;
    path.add(directory, directory_bytes);
    path.add(name);
    const long fd = sys::open(path.text, O_RDONLY | O_CLOEXEC);
    if (sys::failed(fd)) {
        return false;
    }
    usize length = 0;
    for (;;) {
        const long got = sys::read(static_cast<int>(fd), to + length, room - 1 - length);
        if (got <= 0) {
            break;
        }
        length += static_cast<usize>(got);
    }
    sys::close(static_cast<int>(fd));
    to[length] = '\0';
    return length != 0;
}

/// The names of the files that hold the numbers.
struct Names {
    const char* limit;
    const char* usage;
    const char* inactive;
    const char* active;
};
constexpr Names V1 = {"/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file",
                      "total_active_file"};
constexpr Names V2 = {"/memory.max", "/memory.current", "inactive_file", "active_file"};

u64 headroom_at(const char* directory, usize bytes, const Names& names) {
    char text[8192];
    CgroupMemory memory;
    if (!read_file(directory, bytes, names.limit, text, sizeof text)) {
        return NO_LIMIT;  // the root cgroup has no such file
    }
    memory.limit = parse_limit(text);
    if (memory.limit == NO_LIMIT) {
        return NO_LIMIT;
    }
    if (read_file(directory, bytes, names.usage, text, sizeof text)) {
        memory.usage = parse_limit(text);
    }
    if (read_file(directory, bytes, "/memory.stat", text, sizeof text)) {
        memory.reclaimable = parse_stat(text, names.inactive) + parse_stat(text, names.active);
    }
    return headroom_of(memory);
}

u64 own_headroom() {
    char text[4096];
    if (!read_file("", 0, "/proc/self/cgroup", text, sizeof text)) {
        return NO_LIMIT;
    }
    const CgroupPlace place = parse_cgroup_place(text);
    switch (place.version) {
        case CgroupPlace::Version::v1:
            return cgroup_headroom("/sys/fs/cgroup/memory", place);
        case CgroupPlace::Version::v2:
            return cgroup_headroom("/sys/fs/cgroup", place);
        case CgroupPlace::Version::none:
            break;
    }
    return NO_LIMIT;
}

bool starts_with(const char* text, const char* prefix) {
    return __builtin_strncmp(text, prefix, __builtin_strlen(prefix)) == 0;
}

/// Whether the comma-separated list [from, to) has `word`.
bool list_has(const char* from, const char* to, const char* word) {
    const usize length = __builtin_strlen(word);
    while (from < to) {
        const char* end = from;
        while (end < to && *end != ',') {
            ++end;
        }
        if (static_cast<usize>(end - from) == length && __builtin_memcmp(from, word, length) == 0) {
            return true;
        }
        from = end + 1;
    }
    return false;
}

const char* after_line(const char* text) {
    while (*text != '\0' && *text++ != '\n') {
    }
    return text;
}

}  // namespace

CgroupPlace parse_cgroup_place(const char* text) {
    // Lines are ID:CONTROLLERS:PATH; v2's is 0::PATH.
    CgroupPlace place;
    for (; *text != '\0'; text = after_line(text)) {
        const char* controllers = text;
        while (*controllers != ':' && *controllers != '\n' && *controllers != '\0') {
            ++controllers;
        }
        if (*controllers != ':') {
            continue;
        }
        const char* end = ++controllers;
        while (*end != ':' && *end != '\n' && *end != '\0') {
            ++end;
        }
        if (*end != ':') {
            continue;
        }
        const bool v1 = list_has(controllers, end, "memory");
        const bool v2 = end == controllers && starts_with(text, "0:");
        if (!v1 && (!v2 || place.version == CgroupPlace::Version::v1)) {
            continue;
        }
        place.version = v1 ? CgroupPlace::Version::v1 : CgroupPlace::Version::v2;
        usize length = 0;
        for (const char* c = end + 1; *c != '\n' && *c != '\0' && length < sizeof place.path - 1;
             ++c) {
            place.path[length++] = *c;
        }
        place.path[length] = '\0';
    }
    return place;
}

u64 parse_limit(const char* text) {
    u64 value = 0;
    if (*text < '0' || *text > '9') {
        return NO_LIMIT;
    }
    for (; *text >= '0' && *text <= '9'; ++text) {
        if (value > (u64{1} << 60)) {
            return NO_LIMIT;
        }
        value = value * 10 + static_cast<u64>(*text - '0');
    }
    // v1 has no "max" but the largest multiple of a page that a long holds.
    return value >= (u64{1} << 60) ? NO_LIMIT : value;
}

u64 parse_stat(const char* text, const char* key) {
    const usize length = __builtin_strlen(key);
    for (; *text != '\0'; text = after_line(text)) {
        if (starts_with(text, key) && text[length] == ' ') {
            const u64 value = parse_limit(text + length + 1);
            return value == NO_LIMIT ? 0 : value;
        }
    }
    return 0;
}

u64 headroom_of(const CgroupMemory& memory) {
    if (memory.limit == NO_LIMIT) {
        return NO_LIMIT;
    }
    const u64 used = memory.usage > memory.reclaimable ? memory.usage - memory.reclaimable : 0;
    return memory.limit > used ? memory.limit - used : 0;
}

u64 cgroup_headroom(const char* root, const CgroupPlace& place) {
    const Names& names = place.version == CgroupPlace::Version::v1 ? V1 : V2;
    Path path;
    path.add(root);
    const usize root_length = path.length;
    path.add(place.path);
    u64 least = NO_LIMIT;
    // From our cgroup up to the root; a container's path may not exist below its own root: then
    // only the root counts.
    while (path.length >= root_length && path.length != 0) {
        const u64 here = headroom_at(path.text, path.length, names);
        least = here < least ? here : least;
        if (path.length == root_length) {
            break;
        }
        while (path.length > root_length && path.text[path.length - 1] != '/') {
            --path.length;
        }
        path.length -= path.length > root_length;  // the slash
    }
    return least;
}

bool cgroup_has_room(u64 bytes) {
    const long wanted = static_cast<long>(bytes);
    if (credit.fetch_sub(wanted, std::memory_order_relaxed) >= wanted) {
        return true;
    }
    const u64 room = own_headroom();
    if (room != NO_LIMIT && room < bytes + MARGIN) {
        credit.store(0, std::memory_order_relaxed);
        return false;
    }
    // Close to the limit it is looked at often, far from it rarely.
    const u64 spare = room == NO_LIMIT ? MOST_CREDIT : (room - bytes - MARGIN) / 8;
    credit.store(static_cast<long>(spare < MOST_CREDIT ? spare : MOST_CREDIT),
                 std::memory_order_relaxed);
    return true;
}

}  // namespace aep
