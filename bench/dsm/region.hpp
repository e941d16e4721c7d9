// Purpose: shared memory for a pool that a benchmark makes, and the memory policy of its clients.
// Who calls it: flat.cpp and nodes.cpp.
// Crash rule: anonymous shared memory: it goes with the last process that maps it.
#pragma once

#include <cpuid.h>
#include <sys/mman.h>
#include <unistd.h>

#include <type_traits>
#include <vector>

#include "bench/dsm/timing.hpp"
#include "bench/flat/emulated.hpp"
#include "bench/flat/published.hpp"

namespace aep::bench {

/// CxlMemory with the flush that this processor has.
inline era::CxlMemory cxl_memory() {
    era::CxlMemory memory;
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    memory.clwb = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b >> 24 & 1) != 0;
    return memory;
}

/// Zeros, shared with children.
class Region {
  public:
    explicit Region(usize bytes, u64 latency_ns = 0)
        : latency_ns_(latency_ns), bytes_(bytes), base_(map(bytes)) {
        if (latency_ns != 0) {
            versions_ = static_cast<flat::EmulatedMemory::Version*>(
                map(flat::EmulatedMemory::VERSIONS * sizeof(flat::EmulatedMemory::Version)));
        }
    }
    Region(const Region&) = delete;
    Region& operator=(const Region&) = delete;
    ~Region() { munmap(base_, bytes_); }

    void* base() const { return base_; }

    /// The policy of one client: CxlMemory, EmulatedMemory or CountingMemory, or PublishedMemory on
    /// top of one.
    template <class Memory>
    Memory memory() const {
        return memory_of(std::type_identity<Memory>{});
    }

    /// Makes the memory of a part be there, so that no page fault is measured.
    void populate(const void* from, const void* to) const {
        const uptr begin = round_down(reinterpret_cast<uptr>(from), OS_PAGE_SIZE);
        const uptr end = round_up(reinterpret_cast<uptr>(to), OS_PAGE_SIZE);
        expect(madvise(reinterpret_cast<void*>(begin), end - begin, MADV_POPULATE_WRITE) == 0,
               "no memory for the pool");
    }

    /// Bytes of a part that have memory.
    static usize resident(const void* from, usize bytes) {
        std::vector<unsigned char> pages(round_up(bytes, OS_PAGE_SIZE) / OS_PAGE_SIZE);
        expect(mincore(const_cast<void*>(from), bytes, pages.data()) == 0, "mincore failed");
        usize count = 0;
        for (const unsigned char page : pages) count += page & 1;
        return count * OS_PAGE_SIZE;
    }

  private:
    template <class Memory>
    Memory memory_of(std::type_identity<Memory>) const {
        return Memory(cxl_memory());
    }
    flat::EmulatedMemory memory_of(std::type_identity<flat::EmulatedMemory>) const {
        return {cxl_memory(), latency_ns_, base_, versions_};
    }
    template <class Under>
    flat::PublishedMemory<Under> memory_of(std::type_identity<flat::PublishedMemory<Under>>) const {
        return flat::PublishedMemory<Under>(memory<Under>());
    }

    static void* map(usize bytes) {
        void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        expect(base != MAP_FAILED, "no address space for the pool");
        return base;
    }

    u64 latency_ns_;
    usize bytes_;
    void* base_;
    flat::EmulatedMemory::Version* versions_ = nullptr;
};

}  // namespace aep::bench
