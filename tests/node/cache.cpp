// Purpose: the cache's decay, and that check sees damage that is planted.
// Who calls it: ctest.
// Crash rule: in children.
#include <utility>

#include "dsm-core/sharing/share_ops.hpp"
#include "tests/node/fixture.hpp"
#include "tests/unit/refused_call.hpp"

namespace aep {
namespace {

using namespace test;

template <class Body>
void with_host(Body body) {
    const Directory directory;
    in_child([&] {
        Host host(options_in(directory));
        body(host, directory);
    });
}

TEST(Cache, UnusedChunksDecayAfterTheirTime) {
    with_host([](Host& host, const Directory& directory) {
        const u32 all = host.pool().tables.chunk_count;
        ASSERT_EQ(fill_cache(host, 4), 4u);
        EXPECT_EQ(free_chunks(host), all - 4);
        EXPECT_EQ(give_back(host, 1000), 0u);  // first seen
        EXPECT_EQ(give_back(host, 1499), 0u);
        EXPECT_TRUE(host.sweep(1499).busy);
        EXPECT_EQ(give_back(host, 1500), 4u);
        EXPECT_EQ(free_chunks(host), all);
        EXPECT_TRUE(free_chunks_are_clean(directory.path() + "/context/pool"));
        EXPECT_EQ(context().chunks_cached.load(), 0u);
        EXPECT_EQ(all_of(host.check()), "");
        EXPECT_FALSE(host.sweep(1600).busy);
    });
}

TEST(Cache, WhatIsTakenAgainBeginsAnew) {
    with_host([](Host& host, const Directory&) {
        ASSERT_EQ(fill_cache(host, 2), 2u);
        host.return_cached(1000, false);
        ClientProcess process([](Client& client) { must(client.claim(1) == 0, "the cached one"); });
        const u32 client = process.attach_and_wait(host);
        host.return_cached(1100, false);
        process.kill_it();
        host.recover(client);
        host.return_cached(1200, false);
        EXPECT_EQ(give_back(host, 1500), 1u);
        EXPECT_EQ(give_back(host, 1699), 0u);
        EXPECT_EQ(give_back(host, 1700), 1u);
    });
}

TEST(Cache, ARunOfCachedChunksComesBeforeFreshOnes) {
    with_host([](Host& host, const Directory&) {
        const u32 all = host.pool().tables.chunk_count;
        ASSERT_EQ(fill_cache(host, 4), 4u);
        ASSERT_EQ(fill_cache(host, 3), 3u);
        EXPECT_EQ(free_chunks(host), all - 4);
        ASSERT_EQ(fill_cache(host, 5), 5u);  // more than there are
        EXPECT_EQ(all_of(host.check()), "");
    });
}

TEST(Cache, ARunAtAPlaceThatIsTakenInPartGoesBackWhole) {
    with_host([](Host& host, const Directory&) {
        const u32 all = host.pool().tables.chunk_count;
        ASSERT_GE(all, 8u);
        ClientProcess other([](Client& client) { must(claim_at(client, 3, 1), "the obstacle"); });
        const u32 obstacle = other.attach_and_wait(host);
        ClientProcess process([](Client& client) {
            for (const auto& [first, count] : {std::pair<u32, u32>{2, 2}, {1, 4}, {3, 2}}) {
                must(!claim_at(client, first, count), "a run with the obstacle");
                must(client_at(client.index()).chunks.load() == 0, "nothing is held");
            }
            must(claim_at(client, 1, 2), "what was given back");
            must(!claim_at(client, 1, 2), "what it has");
            must(claim_at(client, 4, 1), "the place behind");
        });
        const u32 client = process.attach_and_wait(host);
        EXPECT_EQ(client_at(client).chunks.load(), 3u);
        EXPECT_EQ(client_at(obstacle).chunks.load(), 1u);
        EXPECT_EQ(chunk_owner(3).load(), obstacle);
        for (const u32 c : {1u, 2u, 4u}) EXPECT_EQ(chunk_owner(c).load(), client) << c;
        EXPECT_EQ(context().chunks_cached.load(), 0u);
        EXPECT_EQ(free_chunks(host), all - 4);
        EXPECT_EQ(all_of(host.check()), "");
        for (ClientProcess* each : {&process, &other}) each->kill_it();
        EXPECT_EQ(host.recover(client).chunks, 3u);
        EXPECT_EQ(host.recover(obstacle).chunks, 1u);
        expect_all_back(host);
    });
}

/// Its memory is there, and no other node need be asked; wherever it lies.
TEST(Cache, ACachedChunkComesBeforeAFreshOne) {
    with_host([](Host& host, const Directory&) {
        ClientProcess process([](Client& client) {
            claim_bare(client, 4);
            client.ask(op::ReturnChunk{.chunk = ChunkIndex{0}, .clean = true});
            client.ask(op::ReturnChunk{.chunk = ChunkIndex{2}, .clean = false});
            const auto one = client.ask(op::ClaimChunks{.count = 1});
            must(one.status == Status::ok && raw(one.first) == 2 && !one.clean, "the cached one");
        });
        const u32 client = process.attach_and_wait(host);
        process.kill_it();
        EXPECT_EQ(host.recover(client).chunks, 3u);
        expect_all_back(host);
    });
}

/// Nothing is known of what lies in a chunk of the cache: a client must not take it for zero.
TEST(Cache, ARunOfCachedChunksIsNotClean) {
    with_host([](Host& host, const Directory&) {
        ASSERT_EQ(fill_cache(host, 2), 2u);
        ClientProcess process([](Client& client) {
            const op::ClaimChunks two{.count = 2};
            const auto cached = client.ask(two);
            must(cached.status == Status::ok && raw(cached.first) == 0 && !cached.clean,
                 "the cached ones");
            const auto fresh = client.ask(two);
            must(fresh.status == Status::ok && raw(fresh.first) == 2 && fresh.clean, "fresh ones");
            client.ask(op::ReturnChunk{.chunk = ChunkIndex{1}, .clean = false});
            client.ask(op::ReturnChunk{.chunk = fresh.first, .clean = true});
            const auto mixed = client.ask(op::ClaimChunks{.count = 2, .at = ChunkIndex{1}});
            must(mixed.status == Status::ok && !mixed.clean, "one of each");
        });
        const u32 client = process.attach_and_wait(host);
        process.kill_it();
        EXPECT_EQ(host.recover(client).chunks, 4u);
        expect_all_back(host);
    });
}

TEST(Cache, RunsThatCannotBeAreNotThere) {
    with_host([](Host& host, const Directory&) {
        ClientProcess process([](Client& client) {
            const u32 all = context().pool.chunk_count;
            const op::ClaimChunks none[] = {
                {.count = 0},
                {.count = 0, .at = ChunkIndex{0}},
                {.count = all + 1},
                {.count = ~0u},
                {.count = all + 1, .at = ChunkIndex{0}},
                {.count = 1, .alignment = 0},
                {.count = 1, .alignment = 3},
                {.count = 1, .alignment = 2, .at = ChunkIndex{1}},
                {.count = 2, .at = ChunkIndex{all - 1}},
                {.count = 1, .at = ChunkIndex{all}},
            };
            for (const op::ClaimChunks& o : none) {
                must(client.ask(o).status == Status::miss, "there is none");
                must(client_at(client.number()).chunks.load() == 0, "nothing is counted");
            }
            for (const u32 chunk : {all, all + 1, ~0u / 4, ~0u})
                must(client.ask(op::ReturnChunk{.chunk = ChunkIndex{chunk}}).status == Status::miss,
                     "not its own");
            must(client.ask(op::ClaimChunks{.count = 1, .at = ChunkIndex{all - 1}}).status ==
                     Status::ok,
                 "the last");
        });
        const u32 client = process.attach_and_wait(host);
        process.kill_it();
        EXPECT_EQ(host.recover(client).chunks, 1u);
        expect_all_back(host);
    });
}

/// What `aep clients` shows as the most that a client had.
TEST(Cache, TheMostThatAClientHeldIsNoted) {
    with_host([](Host& host, const Directory&) {
        ClientProcess process([](Client& client) {
            claim_bare(client, 3);
            for (const u32 c : {0u, 1u, 2u})
                client.ask(op::ReturnChunk{.chunk = ChunkIndex{c}, .clean = true});
            claim_bare(client, 2);
        });
        const u32 client = process.attach_and_wait(host);
        EXPECT_EQ(client_at(client).chunks.load(), 2u);
        EXPECT_EQ(client_at(client).peak.load(), 3u);
        process.kill_it();
        host.recover(client);
        ClientProcess next([](Client& one) { claim_bare(one, 1); });
        ASSERT_EQ(next.attach_and_wait(host), client);
        EXPECT_EQ(client_at(client).peak.load(), 1u) << "its predecessor's";
        next.kill_it();
        host.recover(client);
        expect_all_back(host);
    });
}

/// Bytes of the context's file that are there for the descriptors of a chunk.
bool has_metadata(Host& host, u32 chunk) {
    const off_t at = static_cast<off_t>(
        context_offset_of_meta(reinterpret_cast<uptr>(desc_of(first_slice(ChunkIndex{chunk})))));
    const off_t data = lseek(host.watched().context_fd, at, SEEK_DATA);
    return data >= 0 && data < at + static_cast<off_t>(SLICES_PER_CHUNK * sizeof(PageDesc));
}

TEST(Cache, WhatGoesBackToThePoolHasNoMetadata) {
    with_host([](Host& host, const Directory&) {
        ASSERT_EQ(fill_cache(host, 2), 2u);
        ASSERT_TRUE(has_metadata(host, 0));
        EXPECT_EQ(host.return_cached(0, true), 2u);
        for (const u32 c : {0u, 1u}) EXPECT_FALSE(has_metadata(host, c));
        expect_all_back(host);
    });
}

/// Between a giver's chunk and its count: who takes the chunk then takes it from a count that comes later.
TEST(Cache, AChunkThatIsTakenBeforeItIsCountedLeavesNoCount) {
    with_host([](Host& host, const Directory&) {
        ASSERT_EQ(fill_cache(host, 1), 1u);
        context().chunks_cached.fetch_sub(1);
        ASSERT_EQ(perform(1, op::ClaimChunks{.count = 1, .at = ChunkIndex{0}}).status, Status::ok);
        EXPECT_EQ(chunks_in_cache(), 0u);
        context().chunks_cached.fetch_add(1);  // the giver goes on
        EXPECT_EQ(context().chunks_cached.load(), 0u);
    });
}

/// Another node would find what lay in it.
TEST(Cache, AChunkThatCannotBeCleanedStays) {
    with_host([](Host& host, const Directory&) {
        const u32 all = host.pool().tables.chunk_count;
        ASSERT_EQ(fill_cache(host, 2), 2u);
        refuse_call(__NR_fallocate, 1, FALLOC_FL_PUNCH_HOLE, EIO);
        EXPECT_EQ(host.return_cached(0, true), 0u);
        EXPECT_EQ(free_chunks(host), all - 2);
        EXPECT_EQ(context().chunks_cached.load(), 2u);
        for (const u32 c : {0u, 1u}) EXPECT_EQ(chunk_owner(c).load(), OWNER_CACHED);
        EXPECT_EQ(all_of(host.check()), "");
    });
}

/// Its former host was killed while it gave the chunk back, and another node has taken it since.
TEST(Cache, AChunkThatWentBackBeforeACrashIsLeftToWhoeverHasIt) {
    const Directory directory;
    constexpr u64 OTHERS = ChunkWord::owned(9, 3).bits;
    in_child([&] {
        Host host(options_in(directory));
        ASSERT_EQ(fill_cache(host, 1), 1u);
        chunk_owner(0).store(OWNER_RETURNING);
        context().chunks_cached.store(0);
        host.pool().tables.words[0].store(OTHERS);
    });
    in_child([&] {
        const Host host(options_in(directory));
        const off_t at = static_cast<off_t>(host.pool().file.superblock.chunks_offset);
        EXPECT_EQ(chunk_owner(0).load(), OWNER_NOBODY);
        EXPECT_EQ(host.pool().tables.words[0].load(), OTHERS);
        u64 first = 0;
        EXPECT_EQ(pread(host.watched().pool_fd, &first, sizeof first, at), 8);
        EXPECT_EQ(first, 0x5a5a'5a5a'5a5a'5a5aU) << "it was emptied under its owner";
    });
}

TEST(Cache, OthersInNeedAreNotMadeToWait) {
    with_host([](Host& host, const Directory& directory) {
        ASSERT_EQ(fill_cache(host, 6), 6u);
        const Signal taken, end;
        const pid_t other = start_child([&] {
            const Backing* backing = attach(directory.path() + "/context/pool");
            take_all(backing);
            taken.say();
            end.wait();
        });
        taken.wait();
        EXPECT_EQ(free_chunks(host), 0u);
        // However little a sweep has time for: each gives back one at least while it must.
        const auto given_back_until = [&](u64 now_ms) {
            u32 returned = 0;
            for (int i = 0; i < 6; ++i) returned += host.sweep(now_ms).chunks_returned;
            return returned;
        };
        const u32 at_once = given_back_until(1000);
        EXPECT_GE(at_once, 1u);  // the rest has time when the pool is no longer short
        EXPECT_EQ(free_chunks(host), at_once);
        EXPECT_EQ(at_once + given_back_until(1500), 6u);
        EXPECT_EQ(free_chunks(host), 6u);
        end.say();
        wait_for(other);
    });
}

TEST(Cache, DeadNodesOfThePoolAreTakenBackForClients) {
    with_host([](Host& host, const Directory& directory) {
        const u32 all = host.pool().tables.chunk_count;
        const pid_t other = start_child([&] {
            close_range(3, ~0u, 0);
            take_all(attach(directory.path() + "/context/pool"));
        });
        wait_for(other);
        EXPECT_EQ(free_chunks(host), 0u);
        EXPECT_EQ(host.sweep(1000).nodes_reclaimed_chunks, all);
        EXPECT_EQ(free_chunks(host), all);
    });
}

/// A host with chunks in its cache and a client that holds some: damage is planted here, and put right.
struct Damaged {
    Host& host;
    ClientProcess process;
    const u32 client;
    u32 cached = 0, held = 0;  // a chunk of each
    const u32 last;            // a chunk that is nobody's

    explicit Damaged(Host& damaged)
        : host(damaged),
          process([](Client& one) { one.fill(100, 64); }),
          client(process.attach_and_wait(damaged)),
          last(damaged.pool().tables.chunk_count - 1) {
        for (u32 c = 0; c < last; ++c) {
            if (chunk_owner(c).load() == OWNER_CACHED) cached = c;
            if (chunk_owner(c).load() == client) held = c;
        }
    }

    /// Puts `value` into a word, plain or atomic, and expects a finding that names `where` and `what`.
    template <class Word>
    void sees(Word& word, auto value, const std::string& where, const char* what) {
        const auto swap_in = [&word](auto other) {
            if constexpr (requires { word.exchange(other); })
                return word.exchange(other);
            else
                return std::exchange(word, other);
        };
        const auto before = swap_in(value);
        const std::string found = all_of(host.check());
        EXPECT_NE(found.find(where), std::string::npos) << what << ", found: " << found;
        EXPECT_NE(found.find(what), std::string::npos) << what << ", found: " << found;
        swap_in(before);
        EXPECT_EQ(all_of(host.check()), "") << what;
    }
};

template <class Body>
void with_damage(Body body) {
    with_host([&](Host& host, const Directory&) {
        ASSERT_EQ(fill_cache(host, 4), 4u);
        Damaged at(host);
        ASSERT_EQ(all_of(host.check()), "");
        body(at);
        at.process.kill_it();
        host.recover(at.client);
        expect_all_back(host);
    });
}

std::string chunk(u32 number) { return "chunk " + std::to_string(number); }

/// The constants in the file; what the host goes by is a copy of its own.
TEST(Check, SeesDamagedConstants) {
    with_damage([](Damaged& at) {
        void* const page = mmap(nullptr, OS_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                                at.host.watched().context_fd, 0);
        ASSERT_NE(page, MAP_FAILED);
        ContextConstants& shared = *static_cast<ContextConstants*>(page);
        at.sees(shared.image_hash, u64{1}, "header", "checksum");
        at.sees(shared.max_slots, 1u, "header", "checksum");
        at.sees(shared.version, 1u, "header", "version");
        munmap(page, OS_PAGE_SIZE);
    });
}

TEST(Check, SeesDamagedClientsAndSlots) {
    with_damage([](Damaged& at) {
        at.sees(client_at(3).state, 77u, "client 3", "its state is none");
        at.sees(client_at(at.client).state, 0u, "client 1", "but it lives");
        at.sees(slot_at(2).stack_top, u64{4096}, "slot 2", "another's");
        at.sees(slot_at(3).sequence, 3u, "slot 3", "an operation is open");
        at.sees(slot_at(4).owner, SlotOwner::make(6, 1).bits, "slot 4", "no client");
        at.sees(slot_at(0).owner, SlotOwner::make(at.client, 99).bits, "slot 0", "no client");
    });
}

TEST(Check, SeesAnOperationThatIsNone) {
    with_damage([](Damaged& at) {
        slot_at(0).sequence.fetch_add(1);
        for (const u32 known :
             {number_of<op::TakeRun>(), number_of<op::ClaimChunks>(), number_of<op::Send>()}) {
            slot_at(0).op = known;
            EXPECT_EQ(all_of(at.host.check()), "");
        }
        at.sees(slot_at(0).op, op::ShareOperations::END, "slot 0", "an operation is open");
        slot_at(0).sequence.fetch_sub(1);
    });
}

TEST(Check, SeesChunksWithAWrongOwner) {
    with_damage([](Damaged& at) {
        const PoolTables& pool = at.host.pool().tables;
        const u64 ours = pool.words[at.held].load();
        at.sees(chunk_owner(at.last), 5u, chunk(at.last), "a client that is none");
        at.sees(chunk_owner(at.last), 12345u, chunk(at.last), "its owner is none");
        at.sees(chunk_owner(at.held), u32{OWNER_NOBODY}, chunk(at.held), "nobody has it");
        at.sees(pool.words[at.last], ours, chunk(at.last), "nobody has it");
        at.sees(pool.words[at.held], u64{0}, chunk(at.held), "not ours");
        at.sees(pool.words[at.last], ChunkWord::owned(9, 3).bits, "pool at offset", "");
        at.sees(pool.nodes[at.host.pool().owner.node].word,
                PoolNodeWord::make(PoolNodeState::free, 1).bits, "pool", "");
    });
}

TEST(Check, SeesCachedChunksInUse) {
    with_damage([](Damaged& at) {
        const ChunkIndex cached{at.cached};
        at.sees(chunk_desc(cached)->free, u64{1}, chunk(at.cached), "has a descriptor");
        PageDesc* page = desc_of(first_slice(cached));
        const std::string slice = "slice " + std::to_string(raw(slice_of(page)));
        at.sees(page->tag, u32{TAG_LARGE}, slice, "in use");
        at.sees(block_bits_of(slice_of(page))->live, u64{16}, "slice", "in use");
    });
}

/// A hint, which the next sweep puts right.
TEST(Cache, CountIsPutRight) {
    with_host([](Host& host, const Directory&) {
        ASSERT_EQ(fill_cache(host, 4), 4u);
        context().chunks_cached.store(77);
        host.sweep(0);
        EXPECT_EQ(context().chunks_cached.load(), 4u);
        expect_all_back(host);
    });
}

}  // namespace
}  // namespace aep
