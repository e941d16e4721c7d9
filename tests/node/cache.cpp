// Purpose: the cache's decay, and that check sees damage that is planted.
// Who calls it: ctest.
// Crash rule: in children.
#include "dsm-core/sharing/share_ops.hpp"
#include "tests/node/fixture.hpp"

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

/// Leaves `chunks` chunks with data in the cache.
u32 fill_cache(Host& host, u32 chunks) {
    ClientProcess process([chunks](Client& client) {
        const u32 first = client.claim(chunks);
        must(first != raw(NO_CHUNK), "claim");
        void* at = reinterpret_cast<void*>(chunk_address(ChunkIndex{first}));
        mprotect(at, chunks * CHUNK_SIZE, PROT_READ | PROT_WRITE);
        std::memset(at, 0x5a, chunks * CHUNK_SIZE);
    });
    const u32 client = process.attach_and_wait(host);
    process.kill_it();
    return host.recover(client).chunks;
}

/// The chunks that are due now; one call does what it has time for.
u32 give_back(Host& host, u64 now_ms) {
    u32 returned = 0;
    while (const u32 some = host.return_cached(now_ms, false)) returned += some;
    return returned;
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

/// Asks for `count` chunks from `first` on; whether it got them.
bool claim_at(Client& client, u32 first, u32 count) {
    const auto reply = client.ask(op::ClaimChunks{.count = count, .at = ChunkIndex{first}});
    must(reply.status == Status::ok || reply.status == Status::miss, "claim at a place");
    must(reply.status == Status::miss || raw(reply.first) == first, "the place");
    return reply.status == Status::ok;
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

/// Plants damage, expects a finding that names it, and puts it right.
TEST(Check, SeesPlantedDamage) {
    with_host([](Host& host, const Directory&) {
        ASSERT_EQ(fill_cache(host, 4), 4u);
        ClientProcess process([](Client& client) { client.fill(100, 64); });
        const u32 client = process.attach_and_wait(host);
        ASSERT_EQ(all_of(host.check()), "");
        const auto sees = [&](auto&& word, auto value, const std::string& where, const char* what) {
            auto before = word;
            word = value;
            const std::string found = all_of(host.check());
            EXPECT_NE(found.find(where), std::string::npos) << what << ", found: " << found;
            EXPECT_NE(found.find(what), std::string::npos) << what << ", found: " << found;
            word = before;
            EXPECT_EQ(all_of(host.check()), "") << what;
        };
        const auto word_of = [](auto& atomic) -> auto& {
            return *reinterpret_cast<
                typename std::remove_reference_t<decltype(atomic)>::value_type*>(&atomic);
        };
        const PoolTables& pool = host.pool().tables;
        const u32 last = pool.chunk_count - 1;  // nobody's
        u32 cached = 0, held = 0;
        for (u32 c = 0; c < last; ++c) {
            if (chunk_owner(c).load() == OWNER_CACHED) cached = c;
            if (chunk_owner(c).load() == client) held = c;
        }
        const u64 ours = pool.words[held].load();
        // The constants in the file; what the host goes by is a copy of its own.
        void* const at = mmap(nullptr, OS_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                              host.watched().context_fd, 0);
        ASSERT_NE(at, MAP_FAILED);
        ContextConstants& shared = *static_cast<ContextConstants*>(at);
        sees(shared.image_hash, u64{1}, "header", "checksum");
        sees(shared.max_slots, 1u, "header", "checksum");
        sees(shared.version, 1u, "header", "version");
        munmap(at, OS_PAGE_SIZE);
        sees(word_of(client_at(3).state), 77u, "client 3", "its state is none");
        sees(word_of(client_at(client).state), 0u, "client 1", "but it lives");
        sees(slot_at(2).stack_top, u64{4096}, "slot 2", "another's");
        sees(word_of(slot_at(3).sequence), 3u, "slot 3", "an operation is open");
        sees(word_of(slot_at(4).owner), SlotOwner::make(6, 1).bits, "slot 4", "no client");
        sees(word_of(slot_at(0).owner), SlotOwner::make(client, 99).bits, "slot 0", "no client");
        slot_at(0).sequence.fetch_add(1);
        for (const u32 known :
             {number_of<op::TakeRun>(), number_of<op::ClaimChunks>(), number_of<op::Send>()}) {
            slot_at(0).op = known;
            EXPECT_EQ(all_of(host.check()), "");
        }
        sees(slot_at(0).op, op::ShareOperations::END, "slot 0", "an operation is open");
        slot_at(0).sequence.fetch_sub(1);
        sees(word_of(chunk_owner(last)), 5u, "chunk " + std::to_string(last),
             "a client that is none");
        sees(word_of(chunk_owner(last)), 12345u, "chunk " + std::to_string(last),
             "its owner is none");
        sees(word_of(chunk_owner(held)), u32{OWNER_NOBODY}, "chunk " + std::to_string(held),
             "nobody has it");
        sees(word_of(pool.words[last]), ours, "chunk " + std::to_string(last), "nobody has it");
        sees(word_of(pool.words[held]), u64{0}, "chunk " + std::to_string(held), "not ours");
        sees(word_of(pool.words[last]), ChunkWord::owned(9, 3).bits, "pool at offset", "");
        sees(word_of(pool.nodes[host.pool().owner.node].word),
             PoolNodeWord::make(PoolNodeState::free, 1).bits, "pool", "");
        sees(chunk_desc(ChunkIndex{cached})->free, u64{1}, "chunk " + std::to_string(cached),
             "has a descriptor");
        PageDesc* page = desc_of(first_slice(ChunkIndex{cached}));
        sees(word_of(page->tag), u32{TAG_LARGE}, "slice " + std::to_string(raw(slice_of(page))),
             "in use");
        sees(block_bits_of(slice_of(page))->live, u64{16}, "slice", "in use");
        process.kill_it();
        host.recover(client);
        // A hint, which the next sweep puts right.
        context().chunks_cached.store(77);
        host.sweep(0);
        EXPECT_EQ(context().chunks_cached.load(), 4u);
        expect_all_back(host);
    });
}

}  // namespace
}  // namespace aep
