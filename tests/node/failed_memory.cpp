// Purpose: what becomes of chunks of which memory has failed, in the cache, in the pool, between two hosts. Memory that really
//          fails: tests/sharing/failing.py; on a device: tests/vm.
// Who calls it: ctest.
// Crash rule: in children.
#include <sys/stat.h>

#include "dsm-core/context/log_ring.hpp"
#include "tests/node/fixture.hpp"

namespace aep {
namespace {

using namespace test;

/// Neither a client nor the pool gets it; a file's is other memory afterwards.
TEST(FailedMemory, WhatHasFailedIsTakenByNobodyAndRetiredAtOnce) {
    with_host([](Host& host) {
        const PoolTables& t = host.pool().tables;
        ASSERT_EQ(fill_cache(host, 3), 3u);
        ASSERT_TRUE(mark_failed(t, 0) && mark_failed(t, 2));
        ClientProcess process([](Client& client) {
            for (const u32 c : {0u, 2u})
                must(!claim_at(client, c, 1), "a marked one, at its place");
            must(client.claim(1) == 1, "a sound one of the cache");
            must(client.claim(2) == 3, "a run without a marked one");
        });
        process.attach_and_wait(host);
        EXPECT_EQ(give_back(host, 1), 2u);  // they wait for nobody
        for (const u32 c : {0u, 2u}) {
            EXPECT_EQ(t.chunk(c).bits, RETIRED_CHUNK.bits) << c;
            EXPECT_EQ(chunk_owner(c).load(), OWNER_NOBODY) << c;
        }
        EXPECT_EQ(all_of(host.check()), "");
        said.clear();
        host.sweep(2);
        EXPECT_TRUE(contains(said, "chunk 0 is whole again") && contains(said, "chunk 2 is whole"))
            << said;
        process.kill_it();
        expect_all_back(host);
    });
}

TEST(FailedMemory, WhatWasBeingMendedWhenItsHostDiedIsRetiredAndMendedByTheNext) {
    const Directory directory;
    in_child([&] {
        const NodeOptions options = options_in(directory);
        {
            const Host host(options);
            const PoolTables& t = host.pool().tables;
            mark_failed(t, 5);
            ASSERT_TRUE(claim_retired_chunk(t, host.pool().owner, 5));
            chunk_owner(5).store(OWNER_RETURNING);
        }
        Host next(options);
        EXPECT_EQ(next.pool().tables.chunk(5).bits, RETIRED_CHUNK.bits);
        EXPECT_EQ(chunk_owner(5).load(), OWNER_NOBODY);
        next.sweep(0);
        expect_all_back(next);
    });
}

/// The pool's file ends a chunk earlier, as if somebody had cut it; then it is as long as before.
template <class Body>
void with_last_chunk_cut(const Host& host, const Body& body) {
    const int fd = host.watched().pool_fd;
    struct stat file;
    ASSERT_EQ(fstat(fd, &file), 0);
    ASSERT_EQ(ftruncate(fd, file.st_size - static_cast<off_t>(CHUNK_SIZE)), 0);
    body();
    ASSERT_EQ(ftruncate(fd, file.st_size), 0);
}

TEST(FailedMemory, WhatAClientSaysOfAFileIsBelievedIfTheHostCannotReadItEither) {
    with_host([](Host& host) {
        const PoolTables& t = host.pool().tables;
        const u32 last = t.chunk_count - 1;
        const auto client_says = [&] {
            log_ring().write(Event::memory_failed, 1, chunk_address(ChunkIndex{last}), BUS_ADRERR);
            host.sweep(1);
        };
        client_says();
        EXPECT_FALSE(contains(said, "cannot be read")) << said;
        with_last_chunk_cut(
            host,
            [&] {
                client_says();
                EXPECT_TRUE(t.chunk(last).has_failed());
            });
    });
}

TEST(FailedMemory, WhatCannotBeReadIsNotWhole) {
    with_host([](Host& host) {
        const PoolTables& t = host.pool().tables;
        const u32 last = t.chunk_count - 1;
        t.words[last].store(RETIRED_CHUNK.bits);
        with_last_chunk_cut(
            host,
            [&] {
                host.sweep(1);
                EXPECT_EQ(t.chunk(last).bits, RETIRED_CHUNK.bits);
            });
        host.sweep(2);
        expect_all_back(host);
    });
}

}  // namespace
}  // namespace aep
