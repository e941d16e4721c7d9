// Purpose: see futex_waiters.hpp.
// Who calls it: pool_backing.cpp.
// Crash rule: no state; the extra mapping ends with the process at the latest.
#include "shim/backing/futex_waiters.hpp"

#include <limits.h>
#include <linux/futex.h>

#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

/// As getdents64 fills it in.
struct DirectoryEntry {
    u64 inode;
    u64 offset;
    u16 length;
    u8 type;
    char name[1];
};

/// A second shared mapping of the file from its start on, made from the tables' mapping: mremap of
/// nothing duplicates, and needs no descriptor. 0 if it cannot be had.
uptr map_once_more(const PoolFile& file) {
    const long at = sys::call(__NR_mremap, static_cast<long>(pool_mapping_base(file)), 0,
                              static_cast<long>(file.superblock.room_bytes), MREMAP_MAYMOVE);
    return sys::failed(at) ? 0 : static_cast<uptr>(at);
}

/// Reads task/TID/syscall below `directory`.
bool read_thread(int directory, const char* thread, char* to, usize room) {
    char path[40];
    usize length = __builtin_strlen(thread);
    if (length > 20) return false;
    __builtin_memcpy(path, thread, length);
    __builtin_memcpy(path + length, "/syscall", sizeof "/syscall");
    const long fd = sys::openat(directory, path, O_RDONLY | O_CLOEXEC);
    if (sys::failed(fd)) return false;
    const long got = sys::read(static_cast<int>(fd), to, room - 1);
    sys::close(static_cast<int>(fd));
    to[got > 0 ? got : 0] = '\0';
    return got > 0;
}

/// Wakes whoever sleeps at the heap address `address` by its place in the file.
void wake_by_file(const PoolHere& pool, uptr& second, uptr address) {
    const uptr heap_end = HEAP_BASE + usize{pool.tables.chunk_count} * CHUNK_SIZE;
    if (address < HEAP_BASE || address >= heap_end) return;
    if (second == 0) second = map_once_more(pool.file);
    if (second != 0) {
        const uptr word = second + (address - pool_mapping_base(pool.file));
        sys::call(__NR_futex, static_cast<long>(word), FUTEX_WAKE, INT_MAX);
    }
}

const char* next_number(const char* text, u64& value) {
    while (*text == ' ') ++text;
    const bool hex = text[0] == '0' && text[1] == 'x';
    text += hex ? 2 : 0;
    for (value = 0;; ++text) {
        const char c = *text;
        const int digit = c >= '0' && c <= '9'          ? c - '0'
                          : hex && c >= 'a' && c <= 'f' ? c - 'a' + 10
                                                        : -1;
        if (digit < 0) return text;
        value = value * (hex ? 16 : 10) + static_cast<u64>(digit);
    }
}

}  // namespace

bool parse_shared_wait(const char* text, uptr& address) {
    // NUMBER ARG0 ARG1 …, or "running", or -1 … outside a system call
    if (*text < '0' || *text > '9') return false;
    u64 number;
    u64 operation;
    text = next_number(text, number);
    text = next_number(text, address);
    next_number(text, operation);
    if (number != __NR_futex || (operation & FUTEX_PRIVATE_FLAG) != 0) return false;
    const u64 kind = operation & FUTEX_CMD_MASK;
    return kind == FUTEX_WAIT || kind == FUTEX_WAIT_BITSET;
}

void wake_shared_waiters(const PoolHere& pool) {
    const long directory = sys::open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (sys::failed(directory)) return;
    uptr second = 0;
    alignas(8) char entries[1024];
    for (;;) {
        const long got = sys::call(__NR_getdents64, directory, sys::word(entries), sizeof entries);
        if (got <= 0) break;
        for (long at = 0; at < got;) {
            const auto* entry = reinterpret_cast<const DirectoryEntry*>(entries + at);
            at += entry->length;
            char text[256];
            uptr address;
            if (entry->name[0] != '.' &&
                read_thread(static_cast<int>(directory), entry->name, text, sizeof text) &&
                parse_shared_wait(text, address))
                wake_by_file(pool, second, address);
        }
    }
    sys::close(static_cast<int>(directory));
    if (second != 0) sys::munmap(second, pool.file.superblock.room_bytes);
}

}  // namespace aep
