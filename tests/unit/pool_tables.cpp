// Purpose: unit tests of dsm-core/pool on tables in ordinary memory: geometry, claims by many
//          threads at once, the checker.
// Who calls it: ctest; also under ThreadSanitizer.
// Crash rule: no file is involved.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <csignal>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "dsm-core/pool/check.hpp"
#include "dsm-core/pool/tables.hpp"

namespace aep {
namespace {

constexpr u8 UUID[16] = {1, 2, 3};

/// The header of a pool, in memory; the chunks themselves are not there.
class Header {
  public:
    explicit Header(usize file_bytes) {
        Superblock s;
        make_superblock(s, file_bytes, UUID);
        bytes_ = std::make_unique<u64[]>(s.chunks_offset / sizeof(u64));
        std::memcpy(bytes_.get(), &s, sizeof s);
        barred_.resize(s.chunk_count);
    }
    Superblock& superblock() { return *reinterpret_cast<Superblock*>(bytes_.get()); }
    PoolTables tables() { return tables_of(bytes_.get(), shape_of(superblock())); }
    const u8* barred() const { return barred_.data(); }
    void bar(u32 chunk) { barred_[chunk] = 1; }
    bool check(PoolReport& report) {
        return pool_check(bytes_.get(), superblock().file_bytes, report);
    }
    void make_node(u32 node, u32 generation) {
        tables().nodes[node].word.store(PoolNodeWord::make(PoolNodeState::live, generation).bits);
    }

  private:
    std::unique_ptr<u64[]> bytes_;
    std::vector<u8> barred_;
};

TEST(Superblock, EverySizeGivesTablesThatFit) {
    for (const usize bytes :
         {MIN_POOL_BYTES, MIN_POOL_BYTES + 1, 100 * MiB, DEFAULT_POOL_BYTES, 5 * GiB + 4097,
          MAX_POOL_BYTES / 128, MAX_POOL_BYTES / 8, MAX_POOL_BYTES}) {
        Superblock s;
        make_superblock(s, bytes, UUID);
        EXPECT_FALSE(verify_superblock(s, round_down(bytes, CHUNK_SIZE)));
        EXPECT_EQ(s.file_bytes, s.chunks_offset + usize{s.chunk_count} * CHUNK_SIZE);
        EXPECT_GT(s.chunk_count, 0u);
        EXPECT_GE(s.node_count, 64u);
        EXPECT_LE(s.node_count, MAX_NODES);
        EXPECT_LE(s.nodes_offset + s.node_count * sizeof(PoolNodeEntry), s.chunk_words_offset);
        EXPECT_LE(tables_end(s), s.chunks_offset);
        EXPECT_EQ(s.chunks_offset % CHUNK_SIZE, 0u);
    }
}

TEST(Superblock, IsJudgedByVersionBeforeChecksum) {
    Superblock s;
    make_superblock(s, SUPERBLOCK_BYTES + DEFAULT_POOL_BYTES, UUID);
    s.version = 9;
    const PoolFault fault = verify_superblock(s, s.file_bytes);
    EXPECT_STREQ(fault.field, "version");
    EXPECT_EQ(fault.found, 9u);
    EXPECT_EQ(fault.expected, POOL_VERSION);
    EXPECT_NE(std::strstr(fault.advice, "another version"), nullptr);
}

/// The terms are believed only as a sound creation writes them: within bounds, and a name that ends.
TEST(Superblock, TermsThatCannotBeAreRefused) {
    const PoolTerms sound{.lease_ms = 700, .coherent = Coherence::no, .cluster = "shop-1"};
    const auto fault_of = [](const PoolTerms& terms) -> std::string {
        Superblock s;
        make_superblock(s, DEFAULT_POOL_BYTES, UUID, {}, 0, terms);
        const PoolFault fault = verify_superblock(s, s.file_bytes);
        return fault ? fault.field : "";
    };
    EXPECT_EQ(fault_of(sound), "");
    EXPECT_EQ(fault_of({}), "");
    for (const u32 lease : {MIN_LEASE_MS - 1, MAX_LEASE_MS + 1}) {
        PoolTerms terms = sound;
        terms.lease_ms = lease;
        EXPECT_EQ(fault_of(terms), "terms.lease_ms") << lease;
    }
    PoolTerms terms = sound;
    terms.coherent = static_cast<Coherence>(3);
    EXPECT_EQ(fault_of(terms), "terms.coherent");
    for (const std::string& name :
         {std::string(32, 'x'), std::string("a\0b", 3), std::string("a b")}) {
        terms = sound;
        std::memcpy(terms.cluster, name.data(), name.size());
        std::memset(terms.cluster + name.size(), 0, sizeof terms.cluster - name.size());
        EXPECT_EQ(fault_of(terms), "terms.cluster") << name;
    }
}

TEST(Superblock, ClusterNamesAreShortWords) {
    PoolTerms terms;
    EXPECT_TRUE(name_cluster(terms, std::string(31, 'x').c_str()));
    EXPECT_FALSE(name_cluster(terms, std::string(32, 'x').c_str()));
    EXPECT_FALSE(name_cluster(terms, "two words"));
    EXPECT_EQ(std::string(terms.cluster), std::string(31, 'x'));
    EXPECT_TRUE(name_cluster(terms, "a"));
    EXPECT_EQ(terms, (PoolTerms{.cluster = "a"}));
}

/// What lies behind the tables begins where this says: in whole pages, and in the file.
TEST(Superblock, TablesBetweenNodesOfASizeThatCannotBeAreRefused) {
    for (const u64 bytes :
         {u64{1}, u64{OS_PAGE_SIZE} - 1, u64{DEFAULT_POOL_BYTES}, ~u64{0} << 12, ~u64{0}}) {
        Superblock s;
        make_superblock(s, DEFAULT_POOL_BYTES, UUID, {}, bytes);
        const PoolFault fault = verify_superblock(s, s.file_bytes);
        EXPECT_STREQ(fault.field, "era_bytes") << bytes;
        EXPECT_EQ(fault.found, bytes);
    }
}

TEST(Tables, ClaimsFirstFitFromAPlace) {
    Header h(40 * MiB);  // 9 chunks
    h.make_node(3, 7);
    const Owner owner{3, 7};
    const PoolTables t = h.tables();
    const auto claim = [&](u32 count, u32 align, u32 from, bool exact) {
        return raw(claim_run(t, owner, count, align, from, exact, h.barred()));
    };
    EXPECT_EQ(claim(2, 1, 0, false), 0u);
    EXPECT_EQ(claim(1, 4, 1, false), 4u);
    EXPECT_EQ(claim(2, 2, 3, false), 6u) << "aligned behind an obstacle, too";
    EXPECT_TRUE(free_chunk(t, owner, 6) && free_chunk(t, owner, 7));
    h.bar(2);
    EXPECT_EQ(claim(1, 1, 0, false), 3u) << "a barred chunk is kept out";
    EXPECT_EQ(claim(1, 1, 2, true), raw(NO_CHUNK));
    EXPECT_EQ(claim(2, 1, 3, true), raw(NO_CHUNK)) << "the second one is taken";
    EXPECT_EQ(t.chunk(5).bits, FREE_CHUNK.bits);
    EXPECT_EQ(claim(3, 1, 7, true), raw(NO_CHUNK)) << "it would end behind the pool";
    EXPECT_EQ(claim(4, 1, 0, false), 5u);
    EXPECT_EQ(claim(1, 1, 0, false), raw(NO_CHUNK));
    EXPECT_EQ(claim(1, 1, 9, true), raw(NO_CHUNK));
    EXPECT_EQ(claim(0, 1, 0, false), raw(NO_CHUNK));
    EXPECT_EQ(claim(10, 1, 0, false), raw(NO_CHUNK));
    EXPECT_EQ(t.chunk(8).node(), 3u);
    EXPECT_EQ(t.chunk(8).generation(), 7u);
    EXPECT_EQ(next_chunk_of_node(t, 3, 2), 3u);
    EXPECT_EQ(next_chunk_of_node(t, 4, 0), t.chunk_count);
    EXPECT_FALSE(free_chunk(t, {3, 6}, 8)) << "another generation's";
    EXPECT_TRUE(free_chunk(t, owner, 8));
    EXPECT_FALSE(free_chunk(t, owner, 8)) << "free already";
    EXPECT_EQ(claim(1, 1, 0, false), 8u);
    EXPECT_FALSE(keep_chunk_in_pool(t, {3, 6}, 8)) << "another generation's";
    PoolReport report;
    EXPECT_TRUE(h.check(report));
    EXPECT_EQ(report.owned_chunks, 8u);
    EXPECT_EQ(report.free_chunks, 1u);
    EXPECT_EQ(report.live_nodes, 1u);
}

/// Somebody else is faster at the moment at which a claim looks at what lies on this OS page.
struct Faster {
    static inline void* page;
    static inline std::atomic<u64>* word;
    static void act(int) {
        mprotect(page, OS_PAGE_SIZE, PROT_READ | PROT_WRITE);
        word->store(ChunkWord::owned(4, 1).bits);
    }
};

TEST(Tables, ARunWhoseSecondChunkIsTakenMeanwhileLeavesNothing) {
    Header h(40 * MiB);
    h.make_node(3, 7);
    h.make_node(4, 1);
    const PoolTables t = h.tables();
    void* pages =
        mmap(nullptr, 2 * OS_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(pages, MAP_FAILED);
    Faster::page = static_cast<u8*>(pages) + OS_PAGE_SIZE;
    Faster::word = &t.words[1];
    const u8* barred = static_cast<const u8*>(Faster::page) - 2;  // chunk 2's is the page's first
    ASSERT_EQ(mprotect(Faster::page, OS_PAGE_SIZE, PROT_NONE), 0);
    struct sigaction action {
    }, before{};
    action.sa_handler = Faster::act;
    sigaction(SIGSEGV, &action, &before);
    const ChunkIndex run = claim_run(t, {3, 7}, 3, 1, 0, true, barred);
    sigaction(SIGSEGV, &before, nullptr);
    EXPECT_EQ(t.chunk(1).node(), 4u) << "it was not taken meanwhile";
    EXPECT_EQ(run, NO_CHUNK);
    EXPECT_EQ(t.chunk(0).bits, FREE_CHUNK.bits);
    EXPECT_EQ(t.chunk(2).bits, FREE_CHUNK.bits);
    munmap(pages, 2 * OS_PAGE_SIZE);
}

// ---- memory that has failed

TEST(Tables, AMarkedChunkIsRetiredWhenItIsGivenBack) {
    Header h(40 * MiB);
    h.make_node(3, 7);
    const Owner owner{3, 7};
    const PoolTables t = h.tables();
    for (const u32 c : {0u, 1u, 2u}) ASSERT_TRUE(claim_chunk(t, owner, c));
    ASSERT_TRUE(keep_chunk_in_pool(t, owner, 2));
    for (const u32 c : {0u, 2u, 4u}) {
        EXPECT_TRUE(mark_failed(t, c)) << c;
        EXPECT_FALSE(mark_failed(t, c)) << "twice";
    }
    EXPECT_EQ(t.chunk(0).node(), 3u) << "its owner keeps it";
    EXPECT_EQ(next_chunk_of_node(t, 3, 0), 0u);
    EXPECT_EQ(t.chunk(2).state(), ChunkState::kept);
    EXPECT_EQ(t.chunk(4).bits, RETIRED_CHUNK.bits) << "nobody's is nobody's at once";
    PoolReport report;
    EXPECT_TRUE(h.check(report));
    EXPECT_EQ(report.owned_chunks, 2u);
    EXPECT_EQ(report.kept_chunks, 1u);
    EXPECT_EQ(report.retired_chunks, 1u);
    EXPECT_EQ(report.free_chunks, t.chunk_count - 4);
    EXPECT_FALSE(free_chunk(t, {3, 6}, 0)) << "another generation's";
    EXPECT_TRUE(free_chunk(t, owner, 0));
    EXPECT_TRUE(claim_kept_chunk(t, owner, 2));
    EXPECT_TRUE(t.chunk(2).has_failed());
    EXPECT_TRUE(keep_chunk_in_pool(t, owner, 2) && claim_kept_chunk(t, owner, 2));
    EXPECT_TRUE(free_chunk(t, owner, 2));
    for (const u32 c : {0u, 2u, 4u}) {
        EXPECT_EQ(t.chunk(c).bits, RETIRED_CHUNK.bits) << c;
        EXPECT_FALSE(claim_chunk(t, owner, c)) << c;
    }
    EXPECT_EQ(claim_run(t, owner, 2, 1, 0, false, h.barred()), ChunkIndex{5});
}

TEST(Tables, OnlyARetiredChunkIsMendedAndOnlyByWhoHasTakenIt) {
    Header h(40 * MiB);
    h.make_node(3, 7);
    h.make_node(4, 1);
    const Owner owner{3, 7}, other{4, 1};
    const PoolTables t = h.tables();
    EXPECT_FALSE(claim_retired_chunk(t, owner, 0)) << "it is free";
    ASSERT_TRUE(claim_chunk(t, owner, 0));
    EXPECT_FALSE(mend_chunk(t, owner, 0)) << "it is not marked";
    mark_failed(t, 0);
    EXPECT_FALSE(claim_retired_chunk(t, other, 0)) << "its owner has it";
    ASSERT_TRUE(free_chunk(t, owner, 0));
    EXPECT_TRUE(claim_retired_chunk(t, other, 0));
    EXPECT_FALSE(claim_retired_chunk(t, owner, 0)) << "somebody is at it";
    EXPECT_FALSE(mend_chunk(t, owner, 0));
    PoolReport report;
    EXPECT_TRUE(h.check(report));
    EXPECT_TRUE(mend_chunk(t, other, 0));
    EXPECT_TRUE(free_chunk(t, other, 0));
    EXPECT_EQ(t.chunk(0).bits, FREE_CHUNK.bits);
}

TEST(Tables, AMarkIsLostToNothingThatHappensMeanwhile) {
    Header h(100 * MiB);
    const PoolTables t = h.tables();
    constexpr u32 THREADS = 3;
    std::atomic<bool> ends{false};
    std::vector<std::thread> threads;
    std::atomic<u32> passed{0};
    for (u32 n = 0; n < THREADS; ++n) {
        h.make_node(n, 1);
        threads.emplace_back([&, n] {
            const Owner owner{n, 1};
            while (!ends.load()) {
                for (u32 c = 0; c < t.chunk_count; ++c) {
                    if (!claim_chunk(t, owner, c)) continue;
                    EXPECT_TRUE(keep_chunk_in_pool(t, owner, c));
                    if (claim_kept_chunk(t, owner, c)) EXPECT_TRUE(free_chunk(t, owner, c));
                    passed.fetch_add(1);
                }
            }
        });
    }
    for (u32 c = 0; c < t.chunk_count; ++c) {
        for (const u32 before = passed.load(); c + 1 < t.chunk_count && passed.load() == before;) {
        }
        EXPECT_TRUE(mark_failed(t, c)) << c;
    }
    ends.store(true);
    for (std::thread& thread : threads) thread.join();
    for (u32 c = 0; c < t.chunk_count; ++c) EXPECT_EQ(t.chunk(c).bits, RETIRED_CHUNK.bits) << c;
}

TEST(Tables, ManyThreadsNeverOwnAChunkTwice) {
    Header h(100 * MiB);  // 24 chunks
    const PoolTables t = h.tables();
    constexpr u32 THREADS = 4;
    std::vector<std::atomic<int>> owners(t.chunk_count);
    std::vector<std::thread> threads;
    std::atomic<u32> claims{0};
    for (u32 n = 0; n < THREADS; ++n) {
        h.make_node(n, 1);
        threads.emplace_back([&, n] {
            for (u32 i = 0; i < 3000; ++i) {
                const u32 count = 1 + (i + n) % 5;
                const ChunkIndex run =
                    claim_run(t, {n, 1}, count, 1, i % t.chunk_count, false, h.barred());
                if (run == NO_CHUNK) continue;
                claims.fetch_add(1);
                for (u32 c = raw(run); c < raw(run) + count; ++c)
                    EXPECT_EQ(owners[c].fetch_add(1), 0);
                for (u32 c = raw(run); c < raw(run) + count; ++c) {
                    EXPECT_EQ(owners[c].fetch_sub(1), 1);
                    EXPECT_TRUE(free_chunk(t, {n, 1}, c));
                }
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_GT(claims.load(), 1000u);
    PoolReport report;
    EXPECT_TRUE(h.check(report));
    EXPECT_EQ(report.free_chunks, t.chunk_count);
}

TEST(Check, FindsEachBrokenInvariant) {
    Header h(40 * MiB);
    const PoolTables t = h.tables();
    PoolReport report;
    const auto fault = [&] {
        EXPECT_FALSE(h.check(report));
        return std::string(report.fault.field != nullptr ? report.fault.field : "");
    };
    t.words[4].store(ChunkWord::owned(2, 1).bits);
    EXPECT_EQ(fault(), "owner of chunk") << "node 2 is free";
    EXPECT_EQ(report.fault.offset, h.superblock().chunk_words_offset + 32);
    h.make_node(2, 2);
    EXPECT_EQ(fault(), "owner of chunk") << "another generation";
    h.make_node(2, 1);
    EXPECT_TRUE(h.check(report));
    t.words[4].store(ChunkWord::owned(64, 1).bits);
    EXPECT_EQ(fault(), "chunk word") << "no such node";
    t.words[4].store(0x100);
    EXPECT_EQ(fault(), "chunk word") << "free with an owner";
    t.words[4].store(0);
    t.nodes[63].word.store(0xff);
    EXPECT_EQ(fault(), "node entry");
    t.nodes[63].word.store(0);
    EXPECT_FALSE(pool_check(&h.superblock(), 100, report));
    EXPECT_TRUE(h.check(report));
    h.superblock().chunk_count ^= 1;
    EXPECT_EQ(fault(), "checksum");
}

}  // namespace
}  // namespace aep
