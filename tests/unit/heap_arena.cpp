// Purpose: unit tests of dsm-core/heap/arena.hpp: taking, giving, growing, alignment, purging,
// detaching, over several
//          chunks.
// Who calls it: ctest.
// Crash rule: each test runs in a child of its own.
#include <atomic>
#include <latch>
#include <random>
#include <thread>
#include <vector>

#include "tests/unit/heap_fixture.hpp"

namespace aep {
namespace {

using namespace test;

Arena& arena() { return domain().arena; }
u32 raw_first(const Run& run) { return raw(run.first); }

TEST(Arena, FillsChunksFromBelowAndReportsTheEnd) {
    in_domain<2>([] {
        for (u32 i = 0; i < 2 * ALL_SLICES; ++i) {
            const auto run = arena().take(1, 1, 0, false);
            ASSERT_TRUE(run);
            ASSERT_EQ(raw_first(run), i);
            ASSERT_TRUE(run.zero);
            ASSERT_TRUE(run.committed);
        }
        EXPECT_FALSE(arena().take(1, 1, 0, false));
        arena().give(SliceIndex{70}, 1, 5);
        const auto again = arena().take(1, 1, 0, false);
        EXPECT_EQ(raw_first(again), 70u);
        EXPECT_FALSE(again.zero) << "it was used";
        expect_sound(CheckMoment::underway);
    });
}

TEST(Arena, PrefersTheTightestRank) {
    in_domain<2>([] {
        const auto most = arena().take(60, 1, 0, false);  // leaves 4 in chunk 0
        ASSERT_EQ(raw_first(most), 0u);
        const auto small = arena().take(4, 1, 0, false);
        EXPECT_EQ(raw_first(small), 60u);
        expect_sound(CheckMoment::underway);
    });
}

TEST(Arena, AChunkInWhichARunDoesNotFitIsNoReasonToStop) {
    in_domain<3>([] {
        for (u32 i = 0; i < 3; ++i) ASSERT_TRUE(arena().take(ALL_SLICES, 1, 0, false));
        arena().give(SliceIndex{8}, 2, 0);
        arena().give(SliceIndex{ALL_SLICES + 8}, 2, 0);
        arena().give(SliceIndex{2 * ALL_SLICES + 8}, 3, 0);
        EXPECT_EQ(raw_first(arena().take(3, 1, 0, false)), 2 * ALL_SLICES + 8)
            << "the other two are as tight and come first";
    });
}

TEST(Arena, WhatIsCommittedIsTakenFirst) {
    in_child([] {
        make_domain();
        add_chunks(0, 1, true, false);
        arena().set_committed(SliceIndex{5}, 1);
        EXPECT_EQ(raw_first(arena().take(1, 1, 0, false)), 5u);
        EXPECT_EQ(raw_first(arena().take(1, 1, 0, false)), 0u);
    });
}

TEST(Arena, AddedChunksAreWhatTheBackingSays) {
    in_child([] {
        make_domain();
        add_chunks(0, 1, false, true);
        EXPECT_EQ(arena().next_purge(), Decay::NEVER);
        EXPECT_FALSE(arena().take(1, 1, 0, false).zero);
        perform(op::AddChunks{
            .first = ChunkIndex{1}, .count = 1, .now = 5, .dirty = true, .committed = true});
        const Arena::Purge purge = arena().purge_begin(5, 0);
        EXPECT_EQ(raw(purge.chunk), 1u) << "what came dirty is to be purged";
        EXPECT_EQ(purge.mask, ~u64{0});
    });
}

TEST(Arena, AlignsWithinAndAcrossChunks) {
    in_domain<16>([] {
        ASSERT_TRUE(arena().take(1, 1, 0, false));
        for (u32 alignment = 1; alignment <= 4 * ALL_SLICES; alignment *= 2) {
            for (const u32 slices : {1u, 3u, 64u, 65u, 130u}) {
                const auto run = arena().take(slices, alignment, 0, false);
                ASSERT_TRUE(run) << slices << " at " << alignment;
                ASSERT_EQ(run.slices, slices);
                ASSERT_EQ(raw_first(run) % alignment, 0u) << slices << " at " << alignment;
                expect_sound(CheckMoment::underway);
                arena().give(run.first, slices, 0);
            }
        }
        EXPECT_FALSE(arena().take(1, 16 * ALL_SLICES, 0, false)) << "its only such place is taken";
    });
}

TEST(Arena, LongRunsCrossChunksAndEndAnywhere) {
    in_domain<6>([] {
        const auto long_run = arena().take(3 * ALL_SLICES + 5, 1, 0, false);
        ASSERT_TRUE(long_run);
        EXPECT_EQ(raw_first(long_run), 0u);
        const auto behind = arena().take(2, 1, 0, false);
        EXPECT_EQ(raw_first(behind), 3 * ALL_SLICES + 5) << "the rest of its last chunk is usable";
        EXPECT_FALSE(arena().take(3 * ALL_SLICES, 1, 0, false));
        EXPECT_TRUE(arena().take(2 * ALL_SLICES, 1, 0, false));
        arena().give(long_run.first, long_run.slices, 1);
        expect_sound(CheckMoment::underway);
        const auto again = arena().take(3 * ALL_SLICES + 5, 1, 0, false);
        EXPECT_EQ(raw_first(again), 0u);
        expect_sound(CheckMoment::underway);
    });
}

TEST(Arena, LongRunsStepOverHoles) {
    in_domain<1>([] {
        add_chunks(2, 1);  // chunk 1 is somebody else's
        add_chunks(4, 3);
        const auto run = arena().take(2 * ALL_SLICES + 1, 1, 0, false);
        ASSERT_TRUE(run);
        EXPECT_EQ(raw_first(run), 4 * ALL_SLICES);
        EXPECT_FALSE(arena().take(ALL_SLICES + 1, 1, 0, false));
        expect_sound(CheckMoment::underway);
    });
}

TEST(Arena, GrowsIntoFreeNeighboursOnly) {
    in_domain<3>([] {
        auto run = arena().take(10, 1, 0, false);
        aep::Run added;
        EXPECT_EQ(arena().grow(run.first, 10, 80, added), GrowResult::grown);
        EXPECT_EQ(raw_first(added), 10u);
        EXPECT_EQ(added.slices, 70u);
        EXPECT_TRUE(added.zero);
        EXPECT_EQ(desc_of(run.first)->slices, 80u);
        expect_sound(CheckMoment::underway);
        const auto neighbour = arena().take(1, 1, 0, false);
        ASSERT_EQ(raw_first(neighbour), 80u);
        EXPECT_EQ(arena().grow(run.first, 80, 81, added), GrowResult::blocked);
        arena().give(neighbour.first, 1, 0);
        EXPECT_EQ(arena().grow(run.first, 80, 3 * ALL_SLICES + 1, added),
                  GrowResult::beyond_last_chunk);
        EXPECT_EQ(arena().grow(run.first, 80, 3 * ALL_SLICES, added), GrowResult::grown);
        EXPECT_FALSE(added.zero) << "one slice of it was used";
        EXPECT_EQ(arena().grow(run.first, 3 * ALL_SLICES, 3 * ALL_SLICES + 1, added),
                  GrowResult::beyond_last_chunk);
        expect_sound(CheckMoment::underway);
    });
}

TEST(Arena, DoesNotGrowIntoAHole) {
    in_domain<1>([] {
        add_chunks(2, 1);
        const auto run = arena().take(64, 1, 0, false);
        aep::Run added;
        EXPECT_EQ(arena().grow(run.first, 64, 65, added), GrowResult::blocked);
        EXPECT_EQ(arena().grow(run.first, 64, 300, added), GrowResult::blocked);
    });
}

/// The first chunk that is purged at `now` or after it, with a window of 100 ms.
Arena::Purge next_purge(u64& now) {
    for (; now < 1000; ++now) {
        const Arena::Purge purge = arena().purge_begin(now, 100);
        if (purge.mask != 0) return purge;
    }
    return {};
}

TEST(Arena, PurgesWhatIsDueTheChunkThatWaitsLongestFirst) {
    in_domain<3>([] {
        EXPECT_EQ(arena().next_purge(), Decay::NEVER);
        std::vector<aep::Run> runs;
        for (int i = 0; i < 3; ++i) runs.push_back(arena().take(64, 1, 0, false));
        arena().give(runs[1].first, 64, 100);
        EXPECT_EQ(arena().next_purge(), 100u);
        arena().give(runs[0].first, 64, 150);
        u64 now = 100;
        u32 purged[2] = {0, 0};
        for (Arena::Purge purge; (purge = next_purge(now)).mask != 0;) {
            EXPECT_GT(now, 190u) << "too early";
            ASSERT_LT(raw(purge.chunk), 2u);
            EXPECT_TRUE(raw(purge.chunk) == 1 || purged[1] == 64) << "chunk 1 comes first";
            EXPECT_FALSE(arena().take_between(raw(purge.chunk), raw(purge.chunk) + 1, 64, 1, 0))
                << "withdrawn while it is purged";
            expect_sound(CheckMoment::underway);
            purged[raw(purge.chunk)] += static_cast<u32>(__builtin_popcountll(purge.mask));
            arena().purge_end(purge, purge.mask, false);
            expect_sound(CheckMoment::underway);
        }
        EXPECT_EQ(purged[0], 64u);
        EXPECT_EQ(purged[1], 64u);
        EXPECT_EQ(arena().next_purge(), Decay::NEVER);
        const auto again = arena().take(64, 1, 0, false);
        EXPECT_TRUE(again.zero);
        EXPECT_FALSE(again.committed);
        expect_sound(CheckMoment::underway);
    });
}

TEST(Arena, ALittleIsPurgedFromAbove) {
    in_domain<1>([] {
        const auto run = arena().take(64, 1, 0, false);
        arena().give(run.first, 64, 0);
        u64 now = 0;
        const Arena::Purge purge = next_purge(now);
        const u32 count = static_cast<u32>(__builtin_popcountll(purge.mask));
        EXPECT_LT(count, 32u);
        EXPECT_EQ(purge.mask, mask_of(64 - count, count));
        EXPECT_EQ(raw_first(arena().take(1, 1, 0, false)), 0u) << "the rest can be had";
    });
}

TEST(Arena, HugePagesGoWholeOrNotAtAll) {
    in_child([] {
        make_domain();
        const Arena::Added coarse{
            .zero = true, .committed = true, .dirty = false, .coarse = true, .sparse = false};
        arena().add(ChunkIndex{0}, 1, coarse, 0);
        const auto run = arena().take(64, 1, 0, false);
        arena().give(run.first, 40, 0);
        u64 now = 0;
        const Arena::Purge first = next_purge(now);
        EXPECT_EQ(first.mask, mask_of(32, 8)) << "what is dirty of the upper one";
        arena().purge_end(first, first.mask, true);
        const Arena::Purge second = next_purge(now);
        EXPECT_EQ(second.mask, mask_of(0, 32));
        arena().purge_end(second, second.mask, true);
        expect_sound(CheckMoment::underway);
    });
}

TEST(Arena, APurgeThatHalfFailedMakesOnlyThatHalfZero) {
    in_domain<1>([] {
        const auto run = arena().take(64, 1, 0, false);
        arena().give(run.first, 64, 0);
        const Arena::Purge purge = arena().purge_begin(0, 0);
        arena().purge_end(purge, mask_of(0, 32), false);
        expect_sound();
        const auto low = arena().take(32, 1, 0, false);
        const auto high = arena().take(32, 1, 0, false);
        EXPECT_TRUE(low.zero);
        EXPECT_FALSE(high.zero);
        EXPECT_FALSE(low.committed || high.committed) << "both must be made writable again";
    });
}

TEST(Arena, ChunksThatAreGivenToAgainWaitAgain) {
    in_domain<2>([] {
        std::vector<aep::Run> runs;
        for (int i = 0; i < 4; ++i) runs.push_back(arena().take(32, 1, 0, false));
        arena().give(runs[0].first, 32, 0);
        arena().give(runs[2].first, 32, 10);
        arena().give(runs[1].first, 32, 90);  // chunk 0 once more
        const Arena::Purge purge = arena().purge_begin(110, 0);
        EXPECT_EQ(raw(purge.chunk), 1u) << "chunk 0 went to the end of the line";
        EXPECT_EQ(purge.mask, mask_of(0, 32));
        arena().purge_end(purge, purge.mask, true);
        EXPECT_EQ(raw(arena().purge_begin(110, 0).chunk), 0u);
    });
}

TEST(Arena, WhatIsTakenAgainIsNotPurged) {
    in_domain<1>([] {
        const auto run = arena().take(64, 1, 0, false);
        arena().give(run.first, 64, 0);
        ASSERT_TRUE(arena().take(64, 1, 0, false));
        EXPECT_EQ(arena().purge_begin(1000, 0).mask, 0u);
        expect_sound(CheckMoment::underway);
    });
}

TEST(Arena, DetachesOnlyFreeAndCleanChunks) {
    in_child([] {
        make_domain();
        add_chunks(0, 3, true, false);
        const auto used = arena().take(1, 1, 0, false);
        const auto dirty = arena().take(64, 1, 0, false);
        ASSERT_EQ(raw_first(dirty), 1u) << "long runs begin in the end of the chunk before";
        arena().give(dirty.first, 64, 0);
        EXPECT_EQ(arena().detach_free_chunk(1), NO_CHUNK) << "one is kept";
        EXPECT_EQ(raw(arena().detach_free_chunk(0)), 2u);
        EXPECT_EQ(arena().detach_free_chunk(0), NO_CHUNK);
        EXPECT_EQ(arena().chunks_held(), 2u);
        expect_sound(CheckMoment::underway);
        EXPECT_FALSE(arena().take(65, 64, 0, false));
        add_chunks(2, 1, true, false);
        EXPECT_EQ(raw_first(arena().take(65, 64, 0, false)), 64u)
            << "chunk 2 is part of the arena again";
        arena().give(used.first, 1, 0);
        expect_sound(CheckMoment::underway);
    });
}

TEST(Arena, ACommitCoversExactlyItsRun) {
    in_child([] {
        make_domain();
        add_chunks(0, 2, true, false);
        const auto run = arena().take(65, 1, 0, false);
        EXPECT_FALSE(run.committed);
        arena().set_committed(run.first, 65);
        arena().give(run.first, 65, 0);
        EXPECT_TRUE(arena().take(65, 1, 0, false).committed);
        const auto next = arena().take(1, 1, 0, false);
        EXPECT_FALSE(next.committed);
    });
}

TEST(Arena, ThreadsThatTakeAtOnceGetDifferentRuns) {
    in_domain<2>([] {
        static std::atomic<bool> used[2 * ALL_SLICES];
        std::atomic<bool> overlap{false};
        std::latch all_there(4);
        std::vector<std::thread> threads;
        for (u32 n = 0; n < 4; ++n) {
            threads.emplace_back([&overlap, &all_there, n] {
                all_there.arrive_and_wait();
                for (u32 i = 0; i < 200'000 && !overlap; ++i) {
                    const auto run = arena().take(1 + n, 1, 0, false);
                    if (!run) continue;
                    const u32 first = raw_first(run);
                    for (u32 s = first; s < first + run.slices; ++s)
                        overlap = overlap | used[s].exchange(true);
                    for (u32 s = first; s < first + run.slices; ++s) used[s] = false;
                    arena().give(run.first, run.slices, 0);
                }
            });
        }
        for (std::thread& thread : threads) thread.join();
        EXPECT_FALSE(overlap);
        expect_sound();
    });
}

TEST(Arena, RandomTakesNeverOverlapAndAllComesBack) {
    in_domain<12>([] {
        std::mt19937 random(3);
        std::vector<bool> used(12 * ALL_SLICES);
        std::vector<aep::Run> runs;
        for (int step = 0; step < 4000; ++step) {
            if (random() % 2 == 0) {
                const u32 slices = 1 + static_cast<u32>(random() % (random() % 8 == 0 ? 200 : 16));
                const u32 alignment = 1u << random() % 8;
                const auto run = arena().take(slices, alignment, 1, false);
                if (!run) continue;
                ASSERT_EQ(raw_first(run) % alignment, 0u);
                for (u32 i = raw_first(run); i < raw_first(run) + slices; ++i) {
                    ASSERT_FALSE(used[i]);
                    used[i] = true;
                }
                runs.push_back(run);
            } else if (!runs.empty()) {
                std::swap(runs[random() % runs.size()], runs.back());
                const auto run = runs.back();
                runs.pop_back();
                for (u32 i = 0; i < run.slices; ++i) used[raw_first(run) + i] = false;
                arena().give(run.first, run.slices, static_cast<u64>(step));
            }
            if (step % 200 == 0) expect_sound(CheckMoment::underway);
        }
        for (const aep::Run& run : runs) arena().give(run.first, run.slices, 4000);
        expect_sound();
        EXPECT_TRUE(arena().take(12 * ALL_SLICES, 1, 0, false)) << "everything is one run again";
    });
}

}  // namespace
}  // namespace aep
