// Purpose: clients that write where they should not: what the host goes by is its own, and what it
//          reads of theirs leads it nowhere.
// Who calls it: ctest.
// Crash rule: in children: a host that is led astray ends its test.
#include "dsm-core/sharing/share_ops.hpp"
#include "dsm-core/sharing/topics.hpp"
#include "node/believed.hpp"
#include "node/findings.hpp"
#include "tests/node/sharing_tables.hpp"

namespace aep {
namespace {

using namespace test;

/// The first page of a file, as any client can map it with the descriptor that it was given: the
/// context's constants, or the pool's superblock.
class FirstPage {
  public:
    explicit FirstPage(int fd)
        : at_(mmap(nullptr, OS_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) {
        must(at_ != MAP_FAILED, "the first page");
        std::memcpy(before_, at_, sizeof before_);
    }
    ~FirstPage() { munmap(at_, OS_PAGE_SIZE); }
    FirstPage(const FirstPage&) = delete;
    FirstPage& operator=(const FirstPage&) = delete;

    ContextConstants& constants() { return *static_cast<ContextConstants*>(at_); }
    void fill(u64 value) {
        for (u32 i = 0; i < OS_PAGE_SIZE / sizeof value; ++i) static_cast<u64*>(at_)[i] = value;
    }
    void restore() { std::memcpy(at_, before_, sizeof before_); }

  private:
    void* at_;
    u8 before_[OS_PAGE_SIZE];
};
const u64 NONSENSE[] = {0, ~u64{0}, 0x4141'4141'4141'4141, u64{1} << 40};

/// Lets a client in, ends it, takes it back, checks.
void serve_one(Host& host) {
    ClientProcess process([](Client& client) { client.fill(100, 64); });
    const u32 client = process.attach_and_wait(host);
    process.kill_it();
    EXPECT_EQ(host.recover(client).state, RecoveryState::recovered);
    host.sweep(0);
    host.check();
}

/// Whether the kernel may write at the address, for us.
bool is_writable(const void* at) {
    int ends[2];
    must(pipe(ends) == 0 && write(ends[1], "\0", 1) == 1, "pipe");
    const bool could = read(ends[0], const_cast<void*>(at), 1) == 1;
    close(ends[0]);
    close(ends[1]);
    return could;
}

TEST(Hostile, ConstantsInTheFileAreNotReadAgain) {
    const Directory directory;
    for (const u64 value : NONSENSE) {
        in_child([&] {
            Host host(options_in(directory));
            ClientProcess living;
            const u32 client = living.attach_and_wait(host);
            FirstPage page(host.watched().context_fd);
            const u32 max_clients = context().max_clients;
            const u64 owners_offset = context().owners_offset;
            page.fill(value);
            host.sweep(0);
            EXPECT_TRUE(contains(all_of(host.check()), "magic"));
            EXPECT_EQ(context().max_clients, max_clients);
            EXPECT_EQ(context().owners_offset, owners_offset);
            living.kill_it();
            EXPECT_EQ(host.recover(client).state, RecoveryState::recovered);
            page.restore();
            serve_one(host);
            EXPECT_EQ(all_of(host.check()), "");
            host.remove();
        });
    }
}

TEST(Hostile, ASuperblockInTheFileIsNotReadAgain) {
    const Directory directory;
    for (const u64 value : NONSENSE) {
        in_child([&] {
            Host host(options_in(directory));
            ClientProcess living([](Client& client) { client.fill(100, 64); });
            const u32 client = living.attach_and_wait(host);
            FirstPage page(host.watched().pool_fd);
            page.fill(value);
            host.sweep(0);
            host.check();
            living.kill_it();
            EXPECT_EQ(host.recover(client).state, RecoveryState::recovered);
            host.sweep(~u64{0} >> 1);  // what is cached goes to the pool
            page.restore();
            serve_one(host);
            EXPECT_EQ(all_of(host.check()), "");
            host.remove();
        });
    }
}

TEST(Hostile, ConstantsWithAChecksumOfTheirOwnAreRefused) {
    const Directory directory;
    const auto refused = [&](auto&& change) {
        const Directory own;
        in_child([&] {
            const NodeOptions options = options_in(own);
            {
                Host host(options);
                FirstPage page(host.watched().context_fd);
                ContextConstants& forged = page.constants();
                change(forged);
                forged.checksum = fnv1a(reinterpret_cast<const u8*>(&forged),
                                        offsetof(ContextConstants, checksum));
            }
            try {
                Host again(options);
                // Nobody lives in it: it may have been made anew.
                EXPECT_FALSE(again.reopened());
            } catch (const NodeError& error) {
                EXPECT_TRUE(contains(error.what(), "expected") || contains(error.what(), "pool"))
                    << error.what();
            }
        });
    };
    refused([](ContextConstants& c) { c.owners_offset += 8; });
    refused([](ContextConstants& c) { c.slots_offset = 0; });
    refused([](ContextConstants& c) { c.max_clients = 4000; });
    refused([](ContextConstants& c) { c.max_slots = ~0u; });
    refused([](ContextConstants& c) { c.chunk_count = MAX_CHUNKS; });
    refused([](ContextConstants& c) { c.window_bytes = 64 * GiB; });
    refused([](ContextConstants& c) { c.pool_address -= 4096; });
    refused([](ContextConstants& c) { c.pool.chunk_words_offset += 1 * GiB; });
    refused([](ContextConstants& c) { c.pool.node_count = 1; });
    refused([](ContextConstants& c) { c.era_node = 3; });
    refused([](ContextConstants& c) { c.era_objects = 100; });
    refused([](ContextConstants& c) {  // and all of it lies where that would put it
        ContextPlan plan;
        plan.name = "tested";
        plan.image_hash = c.image_hash;
        plan.uid = c.uid;
        plan.max_clients = c.max_clients;
        plan.max_slots = c.max_slots - 1;
        plan.pool_address = c.pool_address;
        plan.pool = c.pool;
        std::memcpy(plan.pool_uuid, c.pool_uuid, sizeof plan.pool_uuid);
        plan.era_objects = 100;
        const UniqueFd made(memfd_create("forged", MFD_CLOEXEC));
        must(format_context(made.get(), plan) == 0, "forging");
        must(pread(made.get(), &c, sizeof c, 0) == sizeof c, "forged");
    });
}

TEST(Hostile, AClientMapsTheConstantsReadOnly) {
    with_host([&](Host& host) {
        ClientProcess process([](Client&) {
            must(!is_writable(&context().max_clients), "a client can write a constant");
            must(is_writable(&context().attached), "a client cannot write a word");
        });
        process.attach_and_wait(host);
        EXPECT_FALSE(is_writable(&context().max_clients));
    });
}

TEST(Hostile, WordsOfClientsLeadNowhere) {
    with_host([&](Host& host) {
        ClientProcess process([](Client& client) { client.fill(10, 64); });
        const u32 client = process.attach_and_wait(host);
        for (const u32 owner : {0xff'ffffu, 9u, 200'000u}) {
            Slot& slot = slot_at(3);
            slot.owner = SlotOwner::make(owner, 7).bits;
            slot.sequence = 1;
            EXPECT_EQ(owner_of(slot).bits, 0u);
            EXPECT_EQ(host.complete_slot(
                              getpid(),
                              [] {
                                  AskMessage ask = good_ask();
                                  ask.slot = 3;
                                  return ask;
                              }())
                          .error,
                      static_cast<u32>(EPERM));
            EXPECT_TRUE(contains(all_of(host.check()), "slot 3"));
            host.sweep(0);
        }
        slot_at(3).owner = 0;
        slot_at(3).sequence = 0;
        chunk_owner(3) = 0x00ab'cdef;
        chunk_owner(4) = OWNER_CLAIMING | 0x00ab'cdef;
        EXPECT_TRUE(contains(all_of(host.check()), "its owner is none"));
        chunk_owner(3) = chunk_owner(4) = OWNER_NOBODY;
        ClientEntry& entry = client_at(client);
        std::memset(entry.name, 0xfe, sizeof entry.name);
        entry.pid = ~0u;
        entry.state = 77;
        EXPECT_TRUE(facts_of(client).damaged);
        EXPECT_EQ(facts_of(client).name, std::string(sizeof entry.name, '?'));
        EXPECT_TRUE(contains(all_of(host.check()), "its state is none"));
        // As an export's owner may be written.
        for (const u32 none : {context().max_clients + 1, 0x7fff'ffffu, ~0u}) {
            EXPECT_TRUE(facts_of(none).damaged);
            EXPECT_EQ(facts_of(none).pid, 0u);
        }
        context().poison_slot = ~0u;
        std::memset(context().poison_client, 0x7f, sizeof context().poison_client);
        context().state = static_cast<u32>(ContextState::poisoned);
        EXPECT_TRUE(contains(host.poison_text(), "????????????????"));
        context().state = static_cast<u32>(ContextState::live);
        for (u32 i = 0; i < 2 * LogRing::RECORDS; ++i)
            log_ring().write(static_cast<Event>(i * 77), i * 991, ~u64{0}, i);
        said.clear();
        process.kill_it();
        host.sweep(0);
        EXPECT_EQ(client_at(client).state.load(), 0u);
        EXPECT_LT(std::count(said.begin(), said.end(), '\n'), 100) << said;
        log_ring().next = ~u64{0} - 5;
        host.sweep(0);
        EXPECT_EQ(host.poisoned(), false);
    });
}

/// Whoever takes a slot finds its stack, whatever was written into it before.
TEST(Hostile, ASlotThatWasWrittenIntoServesTheNext) {
    with_host([&](Host& host) {
        slot_at(0).stack_top = 77;
        ClientProcess process([](Client& client) { must(client.fill(10, 64) != 0, "fill"); });
        process.attach_and_wait(host);
        process.kill_it();
        expect_all_back(host);
    });
}

TEST(Hostile, AHeapThatLeadsAstrayEndsItsWalkAndNothingElse) {
    with_host([&](Host& host) {
        for (const int fill : {0xff, 0x41, 0x01}) {
            said.clear();
            ClientProcess process([fill](Client& client) {
                client.fill(100, 64);
                Domain& dom = domain_at(client.number());
                const u32 heaps = dom.heaps_mapped.load();
                std::memset(static_cast<void*>(&dom), fill, sizeof dom);
                dom.heaps_mapped = heaps;
            });
            const u32 client = process.attach_and_wait(host);
            process.kill_it();
            EXPECT_EQ(host.recover(client).state, RecoveryState::recovered);
            EXPECT_TRUE(contains(said, "its heap is broken")) << said;
        }
        EXPECT_EQ(host.broken_domains(), 3u);
    });
}

/// A list's first page is where no address is: whoever looks at it ends by a signal.
TEST(Hostile, AHeapThatEndsWhoWalksItEndsAProcessOfItsOwn) {
    with_host([&](Host& host) {
        ClientProcess process([](Client& client) {
            client.fill(100, 64);
            client.heap()->full = reinterpret_cast<PageDesc*>(0x4141'4141'4141'4141);
        });
        const u32 client = process.attach_and_wait(host);
        process.kill_it();
        EXPECT_EQ(host.recover(client).state, RecoveryState::recovered);
        EXPECT_TRUE(contains(said, "the walk was led astray (signal 11)")) << said;
        EXPECT_EQ(host.broken_domains(), 1u);
        serve_one(host);
        EXPECT_EQ(host.broken_domains(), 1u);
    });
}

TEST(Hostile, ACheckOfListsWithoutEndEnds) {
    with_tables([](Host& host) {
        ShareHeader& s = sharing();
        s.exports_used = MAX_EXPORTS;
        s.holders_used = MAX_HOLDERS;
        s.free_topic_users = 1;
        s.topic_users_used = ~0u;
        for (u32 i = 1; i <= context().max_clients; ++i) {
            ShareClient& c = share_client(i);
            c.inbox.open = 1;
            c.first_reference = i % 2 == 0 ? 1 : 3 | IS_BRANCH;
            c.first_export = 2;
            c.inbox.first_message = ~0u;
            c.inbox.messages = ~0u;
            // One list a circle, one that leads to another's, one to no inbox.
            c.inbox.next = i % 3 == 0 ? ~0u : FIRST_FURTHER + i % 2;
            c.first_topic_user = i % 3 == 0 ? ~0u : 1 + i % 2;
        }
        for (u32 i = 0; i < 2; ++i) {
            topic_at(first_topic() + i).first_user = 1;
            inbox_at(first_topic() + i).messages = ~0u;
            TopicUser& user = topic_user_at(1 + i);
            user.client = i;
            user.topic = ~0u;
            user.next_of_topic = 2 - i;
            user.next_of_client = 1 + i;
            user.behind = Behind::block;
            user.next = ~u64{0};
            Inbox& further = inbox_at(FIRST_FURTHER + i);
            further.client = i + 1;
            further.next = FIRST_FURTHER + i;
            further.messages = ~0u;
            further.kib = ~0u;
        }
        holder_at(1) = {.address = 1, .object = ~0u, .count = 7, .next = 2};
        holder_at(2) = {.address = 2, .object = 2, .count = 0, .next = 1};
        for (Logged<u32>& way : branch_at(3).ways) way = 3 | IS_BRANCH;
        branch_at(3).ways[7] = ~0u;
        static_cast<ExportFields&>(export_at(2)) = {.address = ~u64{0} - 5,
                                                    .bytes = ~u64{0},
                                                    .state = static_cast<u32>(ExportState::live),
                                                    .owner = 0xff'ffff,
                                                    .group = 2,
                                                    .writer = 5,
                                                    .root = ~0u - 1,
                                                    .object = ~0u};
        side_at(2) = {.next_of_owner = 3, .next_extent = 2};
        static_cast<ExportFields&>(export_at(3)) = export_at(2);
        side_at(3) = {.next_of_owner = ~0u, .next_extent = 2};
        // Hours, without a bound.
        const std::string found = all_of(host.check(600'000'000'000));
        EXPECT_FALSE(contains(found, "did not come to its end")) << found;
        EXPECT_TRUE(contains(found, "its list of extents has no end")) << found;
        EXPECT_TRUE(contains(found, "list has no end")) << found;
        EXPECT_TRUE(contains(found, "leads nowhere")) << found;
        EXPECT_TRUE(contains(found, "refers to no export")) << found;
    });
}

TEST(Hostile, ACheckSaysThatItHasNotSeenOrToldAll) {
    Findings late(0);
    bool over = false;
    for (int step = 0; step < 1000 && !over; ++step) over = late.over();
    EXPECT_TRUE(over);
    EXPECT_EQ(std::move(late).list().back().what, "it did not come to its end in time");
    Findings found(Findings::ALL_DAY);
    for (usize i = 0; i < 2 * Findings::MOST; ++i) {
        EXPECT_EQ(found.over(), i > Findings::MOST);
        found.add("client 1", "its state is none", i, 0);
    }
    const std::vector<Finding> all = std::move(found).list();
    EXPECT_EQ(all.size(), Findings::MOST + 1);
    EXPECT_EQ(all.back().what, "there is more than is told");
}

}  // namespace
}  // namespace aep
