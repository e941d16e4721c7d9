// Purpose: what stands for a DAX device in tests: a memory file.
// Who calls it: tests/unit/pool_device.cpp, tests/node/liveness.cpp. Real devices: tests/vm.
// Crash rule: none needed: the memory goes with the process.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vector>

#include "dsm-core/era/region.hpp"
#include "dsm-core/pool/superblock.hpp"
#include "dsm-core/pool/tables.hpp"
#include "shim/backing/pool_device.hpp"
#include "shim/backing/pool_file.hpp"

namespace aep::test {

inline constexpr usize BYTES = 64 * MiB;  // enough for nodes
inline constexpr usize ALIGN = 2 * MiB;
inline constexpr PoolTerms COHERENT{.coherent = Coherence::yes};

/// What stands for a device: mapped, and known by a descriptor.
class Memory {
  public:
    explicit Memory(usize bytes = BYTES) : bytes_(bytes) {
        fd_ = memfd_create("device", MFD_CLOEXEC);
        EXPECT_EQ(ftruncate(fd_, static_cast<off_t>(bytes)), 0);
        data_ = static_cast<u8*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0));
    }
    ~Memory() {
        munmap(data_, bytes_);
        close(fd_);
    }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    int fd() const { return fd_; }
    u8& operator[](usize at) const { return data_[at]; }
    const Superblock& superblock() const { return *reinterpret_cast<const Superblock*>(data_); }
    PoolTables tables() const { return tables_of(data_, shape_of(superblock())); }
    era::NodeEntry& era_node(u32 node) const {
        return era::tables_in(data_, shape_of(superblock())).entry(node);
    }
    bool create(usize asked = 0) const {
        return create_on_device("/dev/test", fd_, {bytes_, ALIGN},
                                {.bytes = asked, .terms = COHERENT});
    }
    bool is_pool() const { return !verify_superblock(superblock(), bytes_); }
    std::vector<u8> first_page() const { return {data_, data_ + SUPERBLOCK_BYTES}; }

    /// As a process knows it that has opened it.
    PoolFile file() const {
        PoolFile file{};
        file.superblock = superblock();
        file.page_bytes = ALIGN;
        file.memory = PoolMemory::device;
        return file;
    }

  private:
    usize bytes_;
    int fd_;
    u8* data_;
};

}  // namespace aep::test
