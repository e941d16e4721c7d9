// Purpose: see headroom.hpp.
// Who calls it: pool_backing.cpp, freeze.cpp.
// Crash rule: private to the process: what it remembers dies with it.
#include "shim/backing/headroom.hpp"

#include <atomic>

#include "dsm-core/base/layout.hpp"
#include "dsm-core/base/lock.hpp"
#include "dsm-core/heap/size_class.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

/// Memory that the kernel and the program take beside ours while we fill up to the limit, and what
/// the kernel's statistics of page cache may be behind.
constexpr u64 MARGIN = 2 * MiB;
/// With less room than this beyond the margin, threads look and populate one at a time.
constexpr u64 CLOSE_TO_LIMIT = 16 * MiB;
/// After this much the limits are looked at again, even where there were none.
constexpr u64 MOST_CREDIT = 256 * MiB;

/// Bytes that may be charged without looking at the cgroup files again.
std::atomic<u64> credit{0};
/// Bytes that have been granted and may not all be charged yet.
std::atomic<u64> granted{0};
/// One thread at a time looks; close to the limit it keeps the lock until it has populated.
Lock look_lock;
/// Counts forks on the way from the first process to this one.
u32 process = 0;

/// Takes `bytes` of the credit; false, and nothing taken, if there is not as much.
bool take_credit(u64 bytes) {
    u64 have = credit.load(std::memory_order_relaxed);
    while (have >= bytes) {
        // seq_cst: see CgroupRoom.
        if (credit.compare_exchange_weak(have, have - bytes, std::memory_order_seq_cst))
            return true;
    }
    return false;
}

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
    if (sys::failed(fd)) return false;
    usize length = 0;
    for (;;) {
        const long got = sys::read(static_cast<int>(fd), to + length, room - 1 - length);
        if (got <= 0) break;
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
    if (!read_file(directory, bytes, names.limit, text, sizeof text))
        return NO_LIMIT;  // the root cgroup has no such file
    memory.limit = parse_limit(text);
    if (memory.limit == NO_LIMIT) return NO_LIMIT;
    if (read_file(directory, bytes, names.usage, text, sizeof text))
        memory.usage = parse_limit(text);
    if (read_file(directory, bytes, "/memory.stat", text, sizeof text)) {
        memory.inactive_file = parse_stat(text, names.inactive);
        memory.active_file = parse_stat(text, names.active);
    }
    return headroom_of(memory);
}

bool starts_with(const char* text, const char* prefix) {
    return __builtin_strncmp(text, prefix, __builtin_strlen(prefix)) == 0;
}

/// Whether the comma-separated list [from, to) has `word`.
bool list_has(const char* from, const char* to, const char* word) {
    const usize length = __builtin_strlen(word);
    while (from < to) {
        const char* end = from;
        while (end < to && *end != ',') ++end;
        if (static_cast<usize>(end - from) == length && __builtin_memcmp(from, word, length) == 0)
            return true;
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
        while (*controllers != ':' && *controllers != '\n' && *controllers != '\0') ++controllers;
        if (*controllers != ':') continue;
        const char* end = ++controllers;
        while (*end != ':' && *end != '\n' && *end != '\0') ++end;
        if (*end != ':') continue;
        const bool v1 = list_has(controllers, end, "memory");
        const bool v2 = end == controllers && starts_with(text, "0:");
        if (!v1 && (!v2 || place.version == CgroupPlace::Version::v1)) continue;
        place.version = v1 ? CgroupPlace::Version::v1 : CgroupPlace::Version::v2;
        usize length = 0;
        for (const char* c = end + 1; *c != '\n' && *c != '\0' && length < sizeof place.path - 1;
             ++c)
            place.path[length++] = *c;
        place.path[length] = '\0';
    }
    return place;
}

u64 parse_limit(const char* text) {
    u64 value = 0;
    if (*text < '0' || *text > '9') return NO_LIMIT;
    for (; *text >= '0' && *text <= '9'; ++text) {
        if (value > (u64{1} << 60)) return NO_LIMIT;
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
    if (memory.limit == NO_LIMIT) return NO_LIMIT;
    const u64 reclaimable = memory.inactive_file + memory.active_file / 2;
    const u64 used = memory.usage > reclaimable ? memory.usage - reclaimable : 0;
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
        if (path.length == root_length) break;
        while (path.length > root_length && path.text[path.length - 1] != '/') --path.length;
        path.length -= path.length > root_length;  // the slash
    }
    return least;
}

u64 charge_of_commit(u64 bytes) {
    // Pages of blocks are small runs; each slice of one may have a descriptor and two bitmaps.
    constexpr u64 LARGEST_PAGE = MAX_PAGE_SLICES * SLICE_SIZE;
    constexpr u64 METADATA_OF_SLICE = DESCS.stride + BLOCK_BITS.stride;
    const u64 slices = (bytes + SLICE_SIZE - 1) / SLICE_SIZE;
    const u64 metadata = slices * (bytes <= LARGEST_PAGE ? METADATA_OF_SLICE : DESCS.stride);
    const u64 page_tables = bytes / 128;  // and the file's index of its pages
    return bytes + metadata + page_tables;
}

u64 own_cgroup_headroom() {
    char text[4096];
    if (!read_file("", 0, "/proc/self/cgroup", text, sizeof text)) return NO_LIMIT;
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

void CgroupRoom::unlock() {
    look_lock.unlock();
    undisturbed_.end();
}

CgroupRoom::CgroupRoom(u64 bytes)
    : charge_(charge_of_commit(bytes)), process_(process), granted_(true) {
    // Whoever looks clears the credit, reads `granted`, then the usage, in this order; we add to
    // `granted` before we take credit and leave it after we are charged. So each grant is seen in
    // one of the two. seq_cst: that argument needs one order of both variables.
    granted.fetch_add(charge_, std::memory_order_seq_cst);
    if (take_credit(charge_)) return;
    undisturbed_.begin();  // a handler that jumped out would leave the lock held
    look_lock.lock();
    if (take_credit(charge_)) {  // another thread has looked meanwhile
        unlock();
        return;
    }
    credit.store(0, std::memory_order_seq_cst);
    const u64 taken = granted.load(std::memory_order_seq_cst);  // ours is in it
    const u64 room = own_cgroup_headroom();
    if (room == NO_LIMIT) {
        credit.store(MOST_CREDIT, std::memory_order_seq_cst);
        unlock();
        return;
    }
    if (room < taken + MARGIN) {
        granted_ = false;
        granted.fetch_sub(charge_, std::memory_order_seq_cst);
        unlock();
        return;
    }
    const u64 spare = room - taken - MARGIN;
    if (spare < CLOSE_TO_LIMIT) {
        alone_ = true;
        return;
    }
    // Close to the limit it is looked at often, far from it rarely.
    credit.store(spare / 8 < MOST_CREDIT ? spare / 8 : MOST_CREDIT, std::memory_order_seq_cst);
    unlock();
}

CgroupRoom::~CgroupRoom() {
    if (!granted_ || process_ != process) return;
    granted.fetch_sub(charge_, std::memory_order_seq_cst);
    if (alone_) unlock();
}

bool cgroup_has_room(u64 bytes) {
    const u64 taken = granted.load(std::memory_order_seq_cst);
    const u64 room = own_cgroup_headroom();
    return room == NO_LIMIT || room >= taken + charge_of_commit(bytes) + MARGIN;
}

void forget_cgroup_rooms() {
    look_lock.reset();
    granted.store(0, std::memory_order_relaxed);
    credit.store(0, std::memory_order_relaxed);
    ++process;
}

}  // namespace aep
