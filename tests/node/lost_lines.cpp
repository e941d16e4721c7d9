// Purpose: two nodes on one pool; the one dies at every single change of what they share, with the
//          lines in its cache lost or not, and the other one puts everything right: no object, no
//          reference, no message is left, and no chunk.
// Who calls it: ctest; built from the sharing operations' own sources, with a hook in their Memory.
// Crash rule: this is the test of the crash rules of dsm-core/sharing/away.cpp and of membership.
#include <filesystem>
#include <random>

#include "dsm-core/era/flush.hpp"
#include "dsm-core/sharing/records.hpp"
#include "dsm-core/sharing/share_ops.hpp"
#include "node/check_sharing.hpp"
#include "node/crash_points.hpp"
#include "tests/node/fixture.hpp"

namespace aep {
namespace {

using namespace test;

constexpr u64 POOL_BYTES = 64 * MiB;
constexpr usize MAX_DIRTY = 4096;

/// What memory has of a line that differs from what the caches have.
struct Line {
    u64 offset;  // in the region
    u8 saved[CACHE_LINE];
    u8 flushed[CACHE_LINE];
    bool on_its_way;
};

/// The machine that dies: shared with the test, which survives it.
struct Machine {
    u64 base;            // of the region in its process
    u64 bytes;           //
    u64 die_at;          // the change before which it dies; 0: never
    u64 changes;         // so far
    bool died;           //
    bool careless;       // flushes do nothing
    u64 chunk;           // of the survivor's client
    u32 used;            // lines below
    u32 index[1 << 17];  // line -> 1 + place below
    Line lines[MAX_DIRTY];
};
Machine* machine = nullptr;

Line& line_of(const era::Word* word) {
    const u64 offset = round_down(reinterpret_cast<u64>(word) - machine->base, CACHE_LINE);
    u32& place = machine->index[offset / CACHE_LINE];
    if (place == 0) {
        if (machine->used == MAX_DIRTY) abort();
        Line& line = machine->lines[machine->used++];
        line.offset = offset;
        std::memcpy(line.saved, reinterpret_cast<void*>(machine->base + offset), CACHE_LINE);
        place = machine->used;
    }
    return machine->lines[place - 1];
}

void at_access(era::Access access, const era::Word* word) {
    if (access == era::Access::load) return;
    if (access != era::Access::flush && ++machine->changes == machine->die_at) {
        machine->died = true;
        kill(getpid(), SIGKILL);
    }
    if (access == era::Access::fence) {
        for (u32 i = 0; i < machine->used; ++i) {
            Line& line = machine->lines[i];
            if (line.on_its_way) std::memcpy(line.saved, line.flushed, CACHE_LINE);
            line.on_its_way = false;
        }
        return;
    }
    Line& line = line_of(word);
    if (access == era::Access::flush && !machine->careless) {
        std::memcpy(line.flushed, reinterpret_cast<void*>(machine->base + line.offset), CACHE_LINE);
        line.on_its_way = true;
    }
}

NodeOptions options_of(const Directory& directory, u32 node) {
    NodeOptions options = options_in(directory, POOL_BYTES);
    const std::string home = directory.path() + "/" + std::to_string(node + 1);
    mkdir(home.c_str(), 0700);
    options.paths = context_paths("tested", home + "/context", home + "/socket");
    options.pool = directory.path() + "/pool";
    options.nodes.node = node;
    return options;
}

template <class O>
typename O::Reply ask(const O& o) {
    return perform(Caller{1, 1}, o);
}

/// Client 1 of this process's host takes part, with a chunk of its own: the chunk's address.
u64 take_part() {
    EXPECT_EQ(ask(op::AddRecords{1000, 1000}).status, Status::ok);
    const auto claimed = perform(1, op::ClaimChunks{.count = 1});
    EXPECT_EQ(claimed.status, Status::ok);
    client_at(1).generation = 1;
    EXPECT_EQ(ask(op::Open{}).status, Status::ok);
    return chunk_address(claimed.first);
}

/// The other node's client 1.
ShareId peer(u32 node) { return ShareId{era_tables().client(node, 1).id.load()}; }

/// One word each way between the processes of a test.
class Baton {
  public:
    Baton() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends_), 0); }
    ~Baton() {
        close(ends_[0]);
        close(ends_[1]);
    }
    void pass(int side) const { EXPECT_EQ(write(ends_[side], "g", 1), 1); }
    /// False: the other side is gone.
    bool take(int side) const {
        char byte;
        return read(ends_[side], &byte, 1) == 1;
    }
    void leave_to(int side) { close(std::exchange(ends_[1 - side], -1)); }

  private:
    int ends_[2];
};

/// All that the node that dies does, with what it was sent, too.
void work_of_first(u64 chunk) {
    const ShareId other = peer(1);
    u64 got[4] = {};
    const u64 group = chunk + 64 * KiB;
    ask(op::MakeGroup{group, 4096});
    ask(op::ExtendGroup{group, chunk + 128 * KiB, 64 * KiB});
    ask(op::SetRoot{group, chunk + 128 * KiB, 64});
    ask(op::Send{chunk + 128 * KiB, other});
    ask(op::ExtendGroup{group, chunk + 192 * KiB, 64 * KiB});
    for (u32 round = 0; round < 2; ++round) {
        ask(op::Send{chunk + round * 256, other, 256});
        ask(op::Send{chunk + round * 256, other, 256});
        for (u32 i = 0; i < 2; ++i) got[i] = ask(op::Receive{}).object;
        ask(op::Send{got[0], other, 256});
        ask(op::Drop{got[0]});
        ask(op::Drop{chunk + round * 256});
        ask(op::Settle{});
        ask(op::Drop{got[1]});
    }
    ask(op::Drop{group});
    perform(Caller{0, 0}, op::Tidy{});
}

/// Takes and drops all there is, as long as it takes: the survivor's client.
void empty_mailbox() {
    for (;;) {
        const auto reply = ask(op::Receive{});
        if (reply.status != Status::ok) return;
        EXPECT_EQ(ask(op::Drop{reply.object}).status, Status::ok);
    }
}

/// Nothing is under way or left in what nodes share.
void expect_empty(const era::Tables& t) {
    for (u32 i = 0; i < t.shape.objects; ++i) ASSERT_EQ(t.count(i).load(), 0u) << "object " << i;
    for (u32 node = 0; node < 2; ++node) {
        for (u32 i = 0; i < t.shape.refs; ++i)
            ASSERT_EQ(t.ref(node, i).load(), 0u) << "reference " << i << " of node " << node;
        for (u32 i = 0; i < t.shape.slots; ++i)
            ASSERT_EQ(t.message(node, 1 - node, i).load(), 0u) << "message " << i;
        for (u32 lane = 0; lane < t.shape.lanes; ++lane) {
            const era::RedoHead head{t.lane(t.writer(node, lane)).redo.head.load()};
            ASSERT_EQ(head.kind(), era::RedoKind::none) << "lane " << lane << " of node " << node;
        }
    }
}

void run_first(const Directory& directory, Baton& baton) {
    baton.leave_to(0);
    EXPECT_TRUE(baton.take(0));
    Host host(options_of(directory, 0));
    const u64 chunk = take_part();
    baton.pass(0);  // it can be sent to
    EXPECT_TRUE(baton.take(0));
    const era::Tables t = era_tables();
    machine->base = reinterpret_cast<u64>(t.base);
    machine->bytes = t.at.bytes;
    era::memory_hook = at_access;
    work_of_first(chunk);
    // As the power goes: all at once.
    era::memory_hook = nullptr;
    kill(getpid(), SIGKILL);
}

/// The survivor recovers the dead node, and its client lets go of everything.
void put_right(Host& host) {
    const era::Tables t = era_tables();
    host.sweep(0);
    EXPECT_EQ(era::NodeWord{t.node(0).load()}.state(), era::NodeState::free) << said;
    era::memory_hook = nullptr;
    empty_mailbox();
    for (u32 i = 0; i < 4; ++i) ask(op::Drop{machine->chunk + i * 64});
    for (u32 i = 0; i < 20; ++i) host.sweep(0);
    while (ask(op::TakeReturned{}).status == Status::ok) {
    }
    Findings found(Findings::ALL_DAY);  // of sharing alone: the client is no process
    check_sharing(found);
    ASSERT_EQ(all_of(std::move(found).list()), "");
    expect_empty(t);
    EXPECT_EQ(count_shares().exports, 0u);
    EXPECT_EQ(count_shares().holders, 0u);
    // All but our client's own chunk.
    EXPECT_EQ(free_chunks(host), host.pool().tables.chunk_count - 1);
}

/// `dies_at`: the change of its recovery before which the survivor's host dies; 0: never. `others`:
/// somebody else recovers first, and says when it has.
void run_second(const Directory& directory, Baton& baton, u64 seed, u64 dies_at,
                Baton* others = nullptr) {
    baton.leave_to(1);
    Host host(options_of(directory, 1));
    machine->chunk = take_part();
    baton.pass(1);
    EXPECT_TRUE(baton.take(1));
    for (u32 i = 0; i < 4; ++i) {
        const u64 object = machine->chunk + i * 64;
        EXPECT_EQ(ask(op::Send{object, peer(0), 64}).status, Status::ok);
    }
    const era::Tables t = era_tables();
    baton.pass(1);
    EXPECT_FALSE(baton.take(1));  // it is dead
    // Its cache is gone: each line that it did not flush, or not.
    std::mt19937_64 random(seed);
    for (u32 i = 0; i < machine->used; ++i) {
        const Line& line = machine->lines[i];
        if (seed == 0 || random() % 2 == 0)
            std::memcpy(t.base + line.offset, line.saved, CACHE_LINE);
    }
    if (dies_at != 0) {
        std::memset(static_cast<void*>(machine->index), 0, sizeof machine->index);
        machine->base = reinterpret_cast<u64>(t.base);
        machine->used = 0;
        machine->changes = 0;
        machine->died = false;
        machine->die_at = dies_at;
        era::memory_hook = [](era::Access access, const era::Word* word) {
            // Until the dead node is free. What comes afterwards is an operation: the provider's
            // business.
            const auto* dead = reinterpret_cast<const era::Word*>(machine->base);
            if (era::NodeWord{dead->load()}.state() != era::NodeState::free)
                at_access(access, word);
        };
    }
    if (others != nullptr) {
        others->pass(1);
        EXPECT_TRUE(others->take(1));
    }
    put_right(host);
}

/// The dead node's next life, which finds what it was and leaves at once. True: it was killed
/// before its change `dies_at`.
bool comes_back(const Directory& directory, u64 dies_at) {
    std::filesystem::remove_all(directory.path() + "/1/context");  // it was in its memory
    machine->changes = 0;
    machine->used = 0;
    std::memset(static_cast<void*>(machine->index), 0, sizeof machine->index);
    machine->died = false;
    machine->die_at = dies_at;
    const int ended = wait_for(start_child([&] {
        const NodeOptions options = options_of(directory, 0);
        era::memory_hook = [](era::Access access, const era::Word* word) {
            if (word == nullptr) return;
            if (machine->base == 0) {
                // The first access is that of the node's word.
                machine->base = reinterpret_cast<u64>(word);
            }
            at_access(access, word);
        };
        machine->base = 0;
        Host host(options);
        era::memory_hook = nullptr;
        host.remove();
    }));
    EXPECT_EQ(ended != 0, machine->died);
    return machine->died;
}

enum class Outcome { lived, sound, broken };

/// One life and death, and what the survivor found. lived: the first node came to the end of its
/// work.
Outcome die_at(u64 change, u64 seed, bool careless = false) {
    const Directory directory;
    std::memset(static_cast<void*>(machine), 0, sizeof *machine);
    machine->die_at = change;
    machine->careless = careless;
    Baton baton;
    const pid_t second = start_child([&] {
        if (careless && dup2(open("/dev/null", O_WRONLY), 1) < 0) _exit(2);  // it is to complain
        run_second(directory, baton, seed, 0);
    });
    const pid_t first = start_child([&] { run_first(directory, baton); });
    baton.leave_to(0);
    baton.leave_to(1);
    EXPECT_TRUE(WIFSIGNALED(wait_for(first))) << "the first node failed";
    if (wait_for(second) != 0) return Outcome::broken;
    return machine->died ? Outcome::sound : Outcome::lived;
}

class LostLines : public testing::TestWithParam<u64> {
  protected:
    void SetUp() override {
        machine = static_cast<Machine*>(mmap(nullptr, sizeof(Machine), PROT_READ | PROT_WRITE,
                                             MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    }
    void TearDown() override { munmap(machine, sizeof(Machine)); }
};
using CarelessNode = LostLines;

/// Seed 0: every line is lost; else each with a probability of one half.
TEST_P(LostLines, WhereverTheNodeDies) {
    u64 change = 1;
    for (Outcome outcome = Outcome::sound; outcome == Outcome::sound; ++change) {
        outcome = die_at(change, GetParam() == 0 ? 0 : GetParam() + change);
        ASSERT_NE(outcome, Outcome::broken) << "it died before change " << change;
    }
    std::printf("%llu deaths\n", static_cast<unsigned long long>(change - 2));
    EXPECT_GT(change, 200u);  // a node that changes so little does not do its work
}
INSTANTIATE_TEST_SUITE_P(Seeds, LostLines, testing::Values(0, 1000, 2000));

/// The survivor's daemon is killed at every change that it makes while it recovers the dead node,
/// and the next one goes on.
TEST_P(LostLines, WhereverItsRecovererDies) {
    const u64 first_dies_at = GetParam() == 0 ? 120 : GetParam() == 1000 ? 60 : 180;
    u64 change = 1;
    for (bool died = true; died; ++change) {
        const Directory directory;
        std::memset(static_cast<void*>(machine), 0, sizeof *machine);
        machine->die_at = first_dies_at;
        Baton baton;
        const pid_t second = start_child([&] { run_second(directory, baton, GetParam(), change); });
        const pid_t first = start_child([&] { run_first(directory, baton); });
        baton.leave_to(0);
        baton.leave_to(1);
        ASSERT_TRUE(WIFSIGNALED(wait_for(first)));
        const int ended = wait_for(second);
        died = machine->died;
        ASSERT_EQ(WIFSIGNALED(ended), died);
        if (!died) {
            ASSERT_EQ(ended, 0);
            break;
        }
        in_child([&] {
            Host host(options_of(directory, 1));
            put_right(host);
        });
        ASSERT_FALSE(HasFailure()) << "the recoverer died before change " << change;
    }
    std::printf("%llu deaths of the recoverer\n", static_cast<unsigned long long>(change - 1));
    EXPECT_GT(change, 20u);
}

/// The dead node comes back before anybody has recovered it and undoes itself what it left; and is
/// killed at every change of that.
TEST_P(LostLines, WhereverItDiesWhenItComesBack) {
    u64 change = 1;
    for (bool died = true; died; ++change) {
        const Directory directory;
        std::memset(static_cast<void*>(machine), 0, sizeof *machine);
        machine->die_at = GetParam() == 0 ? 120 : GetParam() == 1000 ? 60 : 180;
        Baton baton, others;
        const pid_t second =
            start_child([&] { run_second(directory, baton, GetParam(), 0, &others); });
        const pid_t first = start_child([&] { run_first(directory, baton); });
        baton.leave_to(0);
        baton.leave_to(1);
        ASSERT_TRUE(WIFSIGNALED(wait_for(first)));
        ASSERT_TRUE(others.take(0));
        died = comes_back(directory, change);
        if (died) EXPECT_FALSE(comes_back(directory, 0));
        others.pass(0);
        ASSERT_EQ(wait_for(second), 0) << "it died again before change " << change;
    }
    std::printf("%llu deaths when it comes back\n", static_cast<unsigned long long>(change - 2));
    EXPECT_GT(change, 20u);
}

/// That this test can fail: without flushes it does.
TEST_P(CarelessNode, IsFound) {
    u64 change = 1;
    Outcome outcome = Outcome::sound;
    while (outcome == Outcome::sound) {
        outcome = die_at(change, change, true);  // some lines are lost, others not
        ++change;
    }
    EXPECT_EQ(outcome, Outcome::broken);
}
INSTANTIATE_TEST_SUITE_P(All, CarelessNode, testing::Values(0));

}  // namespace
}  // namespace aep
