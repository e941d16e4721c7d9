// Purpose: see pool_device.hpp.
// Who calls it: see pool_device.hpp.
// Crash rule: see pool_device.hpp.
#include "shim/backing/pool_device.hpp"

#include <emmintrin.h>
#include <errno.h>
#include <sys/sysmacros.h>

#include <atomic>

#include "dsm-core/era/region.hpp"
#include "dsm-core/pool/superblock.hpp"
#include "shim/sys/careful.hpp"
#include "shim/sys/decimal.hpp"
#include "shim/sys/files.hpp"
#include "shim/sys/mapping.hpp"
#include "shim/sys/message.hpp"
#include "shim/sys/proc_file.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

/// Devices are looked through this much at a time.
constexpr usize WINDOW = 1 * GiB;
constexpr usize WORDS = SUPERBLOCK_BYTES / sizeof(u64);
constexpr usize MAGIC_WORD = offsetof(Superblock, magic) / sizeof(u64);
constexpr usize UUID_WORD = offsetof(Superblock, uuid) / sizeof(u64);
static_assert(offsetof(Superblock, uuid) % sizeof(u64) == 0);

/// /sys/dev/char/MAJOR:MINOR/NAME
struct SysPath {
    char text[80] = "/sys/dev/char/";
    usize at = __builtin_strlen(text);

    SysPath(dev_t device, const char* name) {
        const auto append = [this](char digit) { text[at++] = digit; };
        each_digit(major(device), append);
        append(':');
        each_digit(minor(device), append);
        append('/');
        __builtin_memcpy(text + at, name, __builtin_strlen(name) + 1);
    }
};

/// A decimal number in sysfs; 0 if there is none.
u64 read_number(dev_t device, const char* name) {
    char text[32];
    const usize length = read_small_file(SysPath(device, name).text, text, sizeof text);
    u64 value = 0;
    for (usize i = 0; i < length && text[i] >= '0' && text[i] <= '9'; ++i)
        value = value * 10 + static_cast<u64>(text[i] - '0');
    return value;
}

std::atomic<u64>* words_of(const Mapping& part) {
    return static_cast<std::atomic<u64>*>(part.at());
}

/// The superblock that follows from the first eight bytes of a uuid: all machines that create at
/// once make the same one. `plan.bytes` is the device's. False after a message.
bool superblock_of(Superblock& made, const char* path, u64 seed, const PoolPlan& plan) {
    u8 uuid[16];
    const u64 rest = fnv1a(reinterpret_cast<const u8*>(&seed), sizeof seed);
    __builtin_memcpy(uuid, &seed, sizeof seed);
    __builtin_memcpy(uuid + sizeof seed, &rest, sizeof rest);
    return plan_superblock(made, path, plan, uuid);
}

/// Where the superblock's page holds what is neither zero nor left by a creation that was cut off;
/// SUPERBLOCK_BYTES: nowhere.
u64 first_foreign_byte(const char* path, const std::atomic<u64>* words, const PoolPlan& plan) {
    Superblock made{};
    const u64 seed = words[UUID_WORD].load(std::memory_order_acquire);
    if (seed != 0) superblock_of(made, path, seed, plan);
    const u64* expected = reinterpret_cast<const u64*>(&made);
    for (usize i = 0; i < WORDS; ++i) {
        const u64 found = words[i].load(std::memory_order_relaxed);
        if (found != 0 && found != expected[i]) return i * sizeof(u64);
    }
    return SUPERBLOCK_BYTES;
}

/// Past the caches, so that the next word is not in memory before this one after a fence.
void write_word(std::atomic<u64>& word, u64 value) {
    _mm_stream_si64(reinterpret_cast<long long*>(&word), static_cast<long long>(value));
}

/// False after a message.
bool write_superblock(const char* path, std::atomic<u64>* words, const PoolPlan& plan) {
    u64 seed = 0;
    while (seed == 0) sys::getrandom(&seed, sizeof seed, 0);
    Superblock made;
    if (!superblock_of(made, path, seed, plan)) return false;
    u64 nobodys = 0;
    // Whoever is first chooses it for all.
    if (!words[UUID_WORD].compare_exchange_strong(nobodys, seed))
        superblock_of(made, path, nobodys, plan);
    const u64* wanted = reinterpret_cast<const u64*>(&made);
    for (usize i = 0; i < WORDS; ++i)
        if (i != MAGIC_WORD && wanted[i] != 0) write_word(words[i], wanted[i]);
    _mm_sfence();
    write_word(words[MAGIC_WORD], wanted[MAGIC_WORD]);
    _mm_sfence();
    return true;
}

/// Whether mappings of it can be those of chunks, and it has room for a pool of `bytes` (0: of any size) in its `size`. False
/// after a message.
bool fits(const char* path, const DaxDevice& device, usize bytes, u64 size) {
    if (device.align > CHUNK_SIZE || CHUNK_SIZE % device.align != 0) {
        message("pool ", path, ": its mappings must be aligned to ", Bytes{device.align},
                ", expected at most ", Bytes{CHUNK_SIZE},
                ": reconfigure the device (daxctl create-device --align 2097152)");
        return false;
    }
    if (size < MIN_POOL_BYTES || size > MAX_POOL_BYTES || bytes > size ||
        (bytes != 0 && bytes < MIN_POOL_BYTES)) {
        message("pool ", path, device.is_file ? ": the file has " : ": the device has ",
                Bytes{device.bytes}, ", expected ", Bytes{bytes > size ? bytes : MIN_POOL_BYTES},
                " or more: use a larger one", bytes != 0 ? ", or give another --size" : "");
        return false;
    }
    return true;
}

/// Whether no part of a file's memory has to be found yet, when somebody touches it and can no longer be refused. False
/// after a message.
bool is_whole(const char* path, int fd, const DaxDevice& device, u64 size) {
    const u64 hole = first_hole(fd, device, 0);
    if (hole >= size) return true;
    message("pool ", path, ": cannot be made one: the file has a hole at offset ", hole,
            ", and no memory may be left there when it is needed: clear it first (dd "
            "if=/dev/zero of=",
            path, " bs=4M conv=notrunc,fsync count=", size / CHUNK_SIZE, ")");
    return false;
}

}  // namespace

long first_used_byte(int fd, u64 from, u64 bytes, u64 align) {
    for (u64 begin = round_down(from, align); begin < bytes; begin += WINDOW) {
        const Mapping part(fd, begin, bytes - begin < WINDOW ? bytes - begin : WINDOW, PROT_READ);
        if (part.failed()) return part.error();
        const auto* const words = static_cast<const u64*>(part.at());
        const auto* const end = words + part.bytes() / sizeof(u64);
        const u64* const used =
            first_used_word(words + (begin < from ? (from - begin) / sizeof(u64) : 0), end);
        const uptr at = used == nullptr ? failed_address() : reinterpret_cast<uptr>(used);
        if (used != end) return static_cast<long>(begin + at - reinterpret_cast<uptr>(words));
    }
    return static_cast<long>(bytes);
}

bool is_dax_file(int fd) {
    struct statx facts {};
    const long asked =
        sys::call(__NR_statx, fd, sys::word(""), AT_EMPTY_PATH, STATX_TYPE, sys::word(&facts));
    return !sys::failed(asked) && (facts.stx_attributes & STATX_ATTR_DAX) != 0;
}

bool find_dax_device(int fd, const struct stat& st, DaxDevice& device) {
    if (S_ISREG(st.st_mode)) {
        device = {static_cast<u64>(st.st_size), OS_PAGE_SIZE, true};
        return device.bytes != 0 && is_dax_file(fd);
    }
    if (!S_ISCHR(st.st_mode)) return false;
    // No other character device has both of these.
    device = {read_number(st.st_rdev, "size"), read_number(st.st_rdev, "align")};
    return device.bytes != 0 && device.align != 0;
}

u64 first_hole(int fd, const DaxDevice& device, u64 from) {
    if (!device.is_file) return device.bytes;
    const long hole = sys::call(__NR_lseek, fd, static_cast<long>(from), SEEK_HOLE);
    return sys::failed(hole) ? device.bytes : static_cast<u64>(hole);
}

bool create_on_device(const char* path, int fd, const DaxDevice& device, const PoolPlan& wanted) {
    const usize bytes = wanted.bytes;
    const u64 size = round_down(device.bytes, CHUNK_SIZE);
    if (!fits(path, device, bytes, size)) return false;
    // What it does not use at first it can grow into.
    const PoolPlan plan{.bytes = bytes == 0 ? size : round_down(bytes, CHUNK_SIZE),
                        .room = wanted.room > size ? wanted.room : size,
                        .sizes = wanted.sizes,
                        .terms = wanted.terms};
    const Mapping head(fd, 0, round_up(SUPERBLOCK_BYTES, device.align), PROT_READ | PROT_WRITE);
    if (head.failed()) {
        message("pool ", path, ": cannot map it: ", Errno{head.error()});
        return false;
    }
    const auto is_pool = [&] {
        return words_of(head)[MAGIC_WORD].load(std::memory_order_acquire) == POOL_MAGIC;
    };
    if (is_pool()) return true;
    if (!says_coherence(path, plan) || !is_whole(path, fd, device, size)) return false;
    long used = static_cast<long>(first_foreign_byte(path, words_of(head), plan));
    if (used == static_cast<long>(SUPERBLOCK_BYTES))
        used = first_used_byte(fd, SUPERBLOCK_BYTES, size, device.align);
    // Another machine may have made it a pool meanwhile, and use it.
    if (is_pool()) return true;
    if (sys::failed(used)) {
        message("pool ", path, ": cannot map it: ", Errno{used});
        return false;
    }
    if (used != static_cast<long>(size)) {
        message("pool ", path,
                ": is no pool, and not empty: the first of its data "
                "is at offset ",
                static_cast<u64>(used),
                ", or memory there cannot be read (dmesg); if nobody needs them, clear it (",
                device.is_file ? "dd if=/dev/zero conv=notrunc,fsync of=" : "daxio -z -o ", path,
                ")");
        return false;
    }
    return write_superblock(path, words_of(head), plan);
}

bool is_device_path(const char* path) {
    if (path[0] != '/') return false;
    const auto below = [path](const char* directory) {
        return __builtin_strncmp(path, directory, __builtin_strlen(directory)) == 0;
    };
    char directory[MAX_PATH];
    usize end = __builtin_strlen(path);
    while (path[end - 1] != '/') --end;
    __builtin_memcpy(directory, path, end);
    directory[end] = '\0';
    const auto file_system_of = [](const char* place) -> dev_t {
        struct stat status;
        return sys::failed(sys::stat(place, &status)) ? 0 : status.st_dev;
    };
    const dev_t devices = file_system_of("/dev");
    if (devices == 0 || file_system_of(directory) != devices) return false;
    // By its spelling only where one of them is no file system of its own.
    if (below("/dev/shm/") && file_system_of("/dev/shm") == devices) return false;
    return below("/dev/") || file_system_of("/") != devices;
}

}  // namespace aep
