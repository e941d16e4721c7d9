// Purpose: what the pool tests share: a directory that goes away again, a pool in a child
//          process, a look at the file.
// Who calls it: tests/unit/pool_*.cpp.
// Crash rule: the directory is removed by the parent, which never attaches a pool itself.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "dsm-core/base/copied.hpp"
#include "dsm-core/pool/check.hpp"
#include "shim/backing/backing.hpp"
#include "shim/backing/pool_backing.hpp"
#include "tests/unit/in_child.hpp"

namespace aep::test {

/// A directory of the test's own, on tmpfs unless `parent` says otherwise.
class Directory {
  public:
    explicit Directory(const char* parent = "/dev/shm") {
        std::string pattern = std::string(parent) + "/aep-test-XXXXXX";
        path_ = mkdtemp(pattern.data());
    }
    ~Directory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;

    std::string file(const char* name = "pool") const { return path_ + "/" + name; }
    const std::string& path() const { return path_; }
    /// Names in the directory.
    std::vector<std::string> names() const {
        std::vector<std::string> all;
        for (const auto& entry : std::filesystem::directory_iterator(path_))
            all.push_back(entry.path().filename());
        return all;
    }

  private:
    std::string path_;
};

/// A pool file mapped for reading, as `aep check` would.
class MappedFile {
  public:
    explicit MappedFile(const std::string& path) {
        const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
        struct stat st {};
        if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0) {
            bytes_ = static_cast<usize>(st.st_size);
            data_ = mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, fd, 0);
        }
        if (fd >= 0) close(fd);
    }
    ~MappedFile() {
        if (data_ != MAP_FAILED) munmap(data_, bytes_);
    }
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    const void* data() const { return data_; }
    usize bytes() const { return bytes_; }
    const Superblock& superblock() const { return *static_cast<const Superblock*>(data_); }
    PoolTables tables() const { return tables_of(data_, shape_of(superblock())); }

  private:
    void* data_ = MAP_FAILED;
    usize bytes_ = 0;
};

/// Checks the pool and returns what is in it.
inline PoolReport check(const std::string& path) {
    const MappedFile file(path);
    PoolReport report;
    EXPECT_NE(file.data(), MAP_FAILED) << path;
    if (file.data() != MAP_FAILED) {
        EXPECT_TRUE(pool_check(file.data(), file.bytes(), report))
            << report.fault.field << " at " << report.fault.offset << ": " << report.fault.found
            << ", expected " << report.fault.expected;
    }
    return report;
}

/// Whether the file has no data where its chunk table says free (the file system knows its holes).
inline bool free_chunks_are_clean(const std::string& path) {
    const MappedFile file(path);
    const PoolTables tables = file.tables();
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    bool clean = true;
    for (u32 i = 0; i < tables.chunk_count; ++i) {
        const off_t begin = static_cast<off_t>(file.superblock().chunks_offset + i * CHUNK_SIZE);
        const off_t data = lseek(fd, begin, SEEK_DATA);
        const bool hole = data < 0 || data >= begin + static_cast<off_t>(CHUNK_SIZE);
        clean = clean && (hole || tables.chunk(i).state() != ChunkState::free);
    }
    close(fd);
    return clean;
}

/// Whether every byte of every free chunk is zero, as their next owner will believe; of a pool that
/// nobody uses. Returns the file offset of the first byte that is not, or 0.
inline u64 first_dirty_byte(const void* mapped, usize bytes) {
    const Superblock s = copied(*static_cast<const Superblock*>(mapped));
    if (verify_superblock(s, bytes)) return 0;
    const PoolTables t = tables_of(const_cast<void*>(mapped), shape_of(s));
    for (u32 i = 0; i < t.chunk_count; ++i) {
        if (t.chunk(i).state() != ChunkState::free) continue;
        const u64 begin = s.chunks_offset + usize{i} * CHUNK_SIZE;
        const u8* base = static_cast<const u8*>(mapped);
        for (u64 at = begin; at < begin + CHUNK_SIZE; at += sizeof(u64)) {
            u64 value;
            __builtin_memcpy(&value, base + at, sizeof value);
            if (value != 0) return at;
        }
    }
    return 0;
}

/// Bytes of memory behind the file.
inline usize allocated(const std::string& path) {
    struct stat st {};
    EXPECT_EQ(stat(path.c_str(), &st), 0);
    return static_cast<usize>(st.st_blocks) * 512;
}

/// Attaches the pool in this (child) process.
inline const Backing* attach(const std::string& path, usize bytes = 0) {
    const Backing* backing = pool_backing(path.c_str(), bytes);
    EXPECT_NE(backing, nullptr);
    if (backing == nullptr) _exit(2);
    return backing;
}

/// Takes every chunk the pool has for us; how many.
inline u32 take_all(const Backing* backing) {
    u32 count = 0;
    while (backing->provide(1, 1, NO_CHUNK)) ++count;
    return count;
}

/// Whether a new process gets all chunks of the pool, each of them zero. Leaves the pool with a
/// dead owner.
inline void expect_all_chunks_come_back(const std::string& path) {
    in_child([&] {
        const Backing* backing = attach(path);
        const u32 chunks = pool_here().tables.chunk_count;
        EXPECT_EQ(take_all(backing), chunks);
        const PoolReport report = check(path);
        EXPECT_EQ(report.owned_chunks, chunks);
        EXPECT_EQ(report.reclaiming_nodes, 0u);
    });
}

inline char* bytes_at(ChunkIndex chunk) { return reinterpret_cast<char*>(chunk_address(chunk)); }

/// A byte pipe between two processes: one end says, the other waits.
class Signal {
  public:
    Signal() { EXPECT_EQ(pipe(ends_), 0); }
    ~Signal() {
        close(ends_[0]);
        close(ends_[1]);
    }
    Signal(const Signal&) = delete;
    Signal& operator=(const Signal&) = delete;
    void say() const { EXPECT_EQ(::write(ends_[1], "x", 1), 1); }
    void wait() const {
        char c;
        EXPECT_EQ(::read(ends_[0], &c, 1), 1);
    }

  private:
    int ends_[2];
};

}  // namespace aep::test
