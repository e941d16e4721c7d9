// Purpose: unit tests of the anonymous backing and of map_metadata.
// Who calls it: ctest.
// Crash rule: each test runs in a child of its own, whose memory dies with it.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

#include "shim/backing/anonymous_backing.hpp"
#include "shim/backing/backing.hpp"
#include "shim/backing/huge_pages.hpp"
#include "tests/unit/in_child.hpp"

namespace aep {
namespace {

using test::in_child;

char* bytes_at(ChunkIndex chunk) { return reinterpret_cast<char*>(chunk_address(chunk)); }

bool is_zero(const char* from, usize bytes) {
    return from[0] == 0 && std::memcmp(from, from + 1, bytes - 1) == 0;
}

/// Whether the OS page at `address` is mapped.
bool is_mapped(uptr address) {
    unsigned char present;
    void* page = reinterpret_cast<void*>(round_down(address, OS_PAGE_SIZE));
    return mincore(page, OS_PAGE_SIZE, &present) == 0;
}

TEST(Anonymous, ProvidesZeroChunksUpwardWithMetadata) {
    in_child([] {
        const Backing* b = anonymous_backing();
        for (u32 i = 0; i < 40; ++i) {
            const ChunkRun run = b->provide(1, 1, NO_CHUNK);
            ASSERT_TRUE(run);
            EXPECT_EQ(raw(run.first), i);
            EXPECT_TRUE(run.zero);
            bytes_at(run.first)[CHUNK_SIZE - 1] = 1;
            const SliceIndex last{raw(first_slice(run.first)) + SLICES_PER_CHUNK - 1};
            for (const MetaArray& array : SLICE_ARRAYS) {
                char* entry = reinterpret_cast<char*>(array.base + array.stride * raw(last));
                EXPECT_TRUE(is_zero(entry, array.stride));
                entry[array.stride - 1] = 1;
            }
            EXPECT_TRUE(is_mapped(CHUNK_DESCS.base + CHUNK_DESCS.stride * i));
        }
    });
}

/// Whether the system was asked for huge pages at `address`.
bool asked_for_huge_pages(uptr address) {
    std::ifstream maps("/proc/self/smaps");
    bool here = false;
    for (std::string line; std::getline(maps, line);) {
        uptr begin = 0;
        uptr end = 0;
        if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2)
            here = begin <= address && address < end;
        if (here && line.starts_with("VmFlags:")) return line.find(" hg") != std::string::npos;
    }
    return false;
}

TEST(Anonymous, ChunksOfALargeHeapAreOfHugePagesAndLargeBlocksToAPart) {
    void* probe = mmap(nullptr, 4 * MiB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const bool have = madvise(probe, 4 * MiB, MADV_HUGEPAGE) == 0;
    munmap(probe, 4 * MiB);
    if (!have) return test::cannot_run("huge-pages", "the system has no transparent ones");
    in_child([] {
        const Backing* b = anonymous_backing();
        use_huge_pages(3 * CHUNK_SIZE);
        for (u32 i = 0; i < 6; ++i) {
            const ChunkRun run = b->provide(1, 1, NO_CHUNK);
            ASSERT_TRUE(run);
            EXPECT_EQ(asked_for_huge_pages(chunk_address(run.first)), i >= 3) << i;
            EXPECT_EQ(run.coarse, i >= 3) << i;
        }
        EXPECT_FALSE(b->provide(9, 1, NO_CHUNK).coarse) << "above 32 MiB";
        const ChunkRun large = b->provide(8, 1, NO_CHUNK);
        EXPECT_TRUE(large.coarse);
        EXPECT_TRUE(
            asked_for_huge_pages(chunk_address(large.first) + 8 * CHUNK_SIZE - OS_PAGE_SIZE));
        EXPECT_TRUE(b->provide(8, 1, NO_CHUNK).coarse);
        EXPECT_FALSE(b->provide(2, 1, NO_CHUNK).coarse) << "64 MiB are, of 132";
        EXPECT_TRUE(b->release(large.first, 1));
        EXPECT_TRUE(b->release(ChunkIndex{raw(large.first) + 1}, 1));
        EXPECT_TRUE(b->provide(2, 1, NO_CHUNK).coarse) << "56 MiB were";
        for (u32 i = 0; i < 12; ++i) b->provide(1, 1, NO_CHUNK);
        EXPECT_TRUE(b->provide(2, 1, NO_CHUNK).coarse) << "72 of 188 MiB, below half";
        use_huge_pages(~usize{0});
        EXPECT_FALSE(b->provide(1, 1, NO_CHUNK).coarse) << "never";
    });
}

TEST(Anonymous, AlignsAndGrowsInPlace) {
    in_child([] {
        const Backing* b = anonymous_backing();
        ASSERT_EQ(raw(b->provide(1, 1, NO_CHUNK).first), 0u);
        const ChunkRun aligned = b->provide(3, 8, NO_CHUNK);
        EXPECT_EQ(raw(aligned.first), 8u);
        EXPECT_EQ(aligned.count, 3u);
        EXPECT_TRUE(b->provide(2, 1, ChunkIndex{11}));
        EXPECT_FALSE(b->provide(2, 1, ChunkIndex{10})) << "taken";
        EXPECT_FALSE(b->provide(2, 2, ChunkIndex{13})) << "not aligned";
        EXPECT_FALSE(b->provide(1, 1, ChunkIndex{MAX_CHUNKS})) << "outside";
        EXPECT_FALSE(b->provide(2, 1, ChunkIndex{MAX_CHUNKS - 1})) << "outside";
        EXPECT_EQ(raw(b->provide(1, 1, NO_CHUNK).first), 1u) << "the gap is used";
        EXPECT_FALSE(b->provide(0, 1, NO_CHUNK));
        EXPECT_FALSE(b->provide(MAX_CHUNKS, 1, NO_CHUNK));
    });
}

TEST(Anonymous, ReleasedChunksComeBackZero) {
    in_child([] {
        const Backing* b = anonymous_backing();
        ASSERT_TRUE(b->provide(6, 1, NO_CHUNK));
        std::memset(bytes_at(ChunkIndex{2}), 7, 2 * CHUNK_SIZE);
        EXPECT_TRUE(b->release(ChunkIndex{2}, 2));
        EXPECT_FALSE(b->provide(3, 1, ChunkIndex{2}));
        const ChunkRun again = b->provide(2, 1, NO_CHUNK);
        EXPECT_EQ(raw(again.first), 2u);
        EXPECT_TRUE(again.zero);
        EXPECT_TRUE(is_zero(bytes_at(again.first), 2 * CHUNK_SIZE));
    });
}

TEST(Anonymous, PurgeMakesZero) {
    in_child([] {
        const Backing* b = anonymous_backing();
        const ChunkRun run = b->provide(1, 1, NO_CHUNK);
        std::memset(bytes_at(run.first), 7, CHUNK_SIZE);
        EXPECT_TRUE(b->purge(chunk_address(run.first) + SLICE_SIZE, 2 * SLICE_SIZE));
        EXPECT_EQ(bytes_at(run.first)[SLICE_SIZE - 1], 7);
        EXPECT_TRUE(is_zero(bytes_at(run.first) + SLICE_SIZE, 2 * SLICE_SIZE));
        EXPECT_EQ(bytes_at(run.first)[3 * SLICE_SIZE], 7);
    });
}

TEST(Anonymous, StepsOverWhatOthersMapped) {
    in_child([] {
        const usize occupied = 100 * CHUNK_SIZE;
        void* at = mmap(bytes_at(ChunkIndex{1}), occupied, PROT_READ,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        ASSERT_EQ(at, bytes_at(ChunkIndex{1}));
        const Backing* b = anonymous_backing();
        EXPECT_EQ(raw(b->provide(1, 1, NO_CHUNK).first), 0u);
        EXPECT_FALSE(b->provide(1, 1, ChunkIndex{1}));
        const ChunkRun run = b->provide(2, 2, NO_CHUNK);
        ASSERT_TRUE(run);
        EXPECT_GE(raw(run.first), 101u);
        EXPECT_LE(raw(run.first), 400u);
        EXPECT_EQ(raw(run.first) % 2, 0u);
        EXPECT_TRUE(is_mapped(DESCS.base + DESCS.stride * SLICES_PER_CHUNK * 50))
            << "below the top there is metadata everywhere";
    });
}

TEST(Anonymous, WorksUnderASmallAddressSpaceLimit) {
    in_child([] {
        test::limit_address_space(150 * MiB);
        const Backing* b = anonymous_backing();
        u32 count = 0;
        while (b->provide(1, 1, NO_CHUNK)) ++count;
        EXPECT_GE(count, 10u);
        EXPECT_LT(count, 40u);
        const ChunkIndex next{count};
        EXPECT_FALSE(is_mapped(chunk_address(next))) << "a failed provide leaves nothing mapped";
        EXPECT_TRUE(b->release(ChunkIndex{0}, 2));
        EXPECT_TRUE(b->provide(2, 1, NO_CHUNK)) << "what was released can be taken again";
    });
}

TEST(Anonymous, RefusesMetadataThatSomebodyElseMapped) {
    const test::Output out = test::stderr_of([] {
        void* wanted = reinterpret_cast<void*>(BLOCK_BITS.base);
        void* at = mmap(wanted, OS_PAGE_SIZE, PROT_READ,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        EXPECT_EQ(at, wanted);
        EXPECT_FALSE(anonymous_backing()->provide(1, 1, NO_CHUNK));
        EXPECT_FALSE(is_mapped(HEAP_BASE));
        EXPECT_FALSE(is_mapped(DESCS.base));
    });
    EXPECT_NE(out.text.find("metadata range 0x"), std::string::npos) << out.text;
    EXPECT_EQ(out.status, 0);
}

/// Whether the system could read from `at`, and write to it.
bool can_be_written(char* at) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    // Puts back what is there.
    const bool written = write(ends[1], at, 1) == 1 && read(ends[0], at, 1) == 1;
    EXPECT_TRUE(written || errno == EFAULT);
    close(ends[0]);
    close(ends[1]);
    return written;
}

/// OS pages of memory that this process has.
long resident_pages() {
    long size = 0;
    long resident = 0;
    FILE* statm = std::fopen("/proc/self/statm", "r");
    EXPECT_NE(statm, nullptr);
    EXPECT_EQ(std::fscanf(statm, "%ld %ld", &size, &resident), 2);
    std::fclose(statm);
    return resident;
}

/// Whether memory that was only ever read counts as resident: some kernels of virtual machines have
/// no page of zeros that all share.
bool reading_costs_memory() {
    constexpr usize BYTES = 4 * MiB;
    const auto* at = static_cast<const volatile char*>(
        mmap(nullptr, BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    const long before = resident_pages();
    for (usize i = 0; i < BYTES; i += OS_PAGE_SIZE) EXPECT_EQ(at[i], 0);
    return resident_pages() - before > static_cast<long>(BYTES / OS_PAGE_SIZE / 2);
}

TEST(Anonymous, MetadataBetweenOurChunksCanBeReadAndCostsNothing) {
    in_child([] {
        const Backing* b = anonymous_backing();
        ASSERT_TRUE(b->provide(1, 1, ChunkIndex{100}));
        const auto chunk = [](const MetaArray& array, u32 index) {
            return reinterpret_cast<char*>(array.base + array.stride * index * SLICES_PER_CHUNK);
        };
        const long before = resident_pages();
        for (const char* at = chunk(DESCS, 0); at < chunk(DESCS, 96); at += OS_PAGE_SIZE)
            ASSERT_EQ(*at, 0) << "a descriptor";
        for (const MetaArray& array : SLICE_ARRAYS) {
            EXPECT_FALSE(can_be_written(chunk(array, 20)));
            EXPECT_FALSE(can_be_written(chunk(array, 96) - 1));
            EXPECT_TRUE(can_be_written(chunk(array, 100)));
        }
        if (reading_costs_memory())
            test::cannot_run("what-reading-costs", "this kernel shares no page of zeros");
        else
            EXPECT_LT(resident_pages() - before, 1024) << "OS pages";
        ASSERT_TRUE(b->provide(1, 1, ChunkIndex{31}));
        ASSERT_TRUE(b->provide(20, 1, ChunkIndex{47}));
        EXPECT_FALSE(can_be_written(chunk(DESCS, 16) - 1));
        EXPECT_TRUE(can_be_written(chunk(DESCS, 16))) << "chunk 31 is in a group with 16";
        EXPECT_TRUE(can_be_written(chunk(DESCS, 80) - 1));
        EXPECT_FALSE(can_be_written(chunk(DESCS, 80)));
        // Bitmaps where chunks are, alone.
        EXPECT_FALSE(can_be_written(chunk(BLOCK_BITS, 30)));
        EXPECT_TRUE(can_be_written(chunk(BLOCK_BITS, 31)));
        EXPECT_TRUE(can_be_written(chunk(BLOCK_BITS, 67) - 1));
        EXPECT_FALSE(can_be_written(chunk(BLOCK_BITS, 68)));
        EXPECT_TRUE(
            can_be_written(reinterpret_cast<char*>(CHUNK_DESCS.base) + 31 * CHUNK_DESCS.stride));
        EXPECT_FALSE(
            can_be_written(reinterpret_cast<char*>(CHUNK_DESCS.base) + 15 * CHUNK_DESCS.stride));
    });
}

TEST(Anonymous, AChildHasItsOwnCopy) {
    in_child([] {
        const Backing* b = anonymous_backing();
        const ChunkRun run = b->provide(1, 1, NO_CHUNK);
        bytes_at(run.first)[0] = 1;
        ASSERT_TRUE(b->fork_prepare());
        const pid_t child = test::start_child([&] {
            b->fork_child();
            EXPECT_EQ(bytes_at(run.first)[0], 1);
            bytes_at(run.first)[0] = 2;
            EXPECT_EQ(raw(b->provide(1, 1, NO_CHUNK).first), 1u);
        });
        b->fork_parent();
        EXPECT_EQ(test::wait_for(child), 0);
        EXPECT_EQ(bytes_at(run.first)[0], 1);
        EXPECT_EQ(raw(b->provide(1, 1, NO_CHUNK).first), 1u);
    });
}

}  // namespace
}  // namespace aep
