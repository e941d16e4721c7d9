// Purpose: tests of what makes a silent node dead, for each way to judge and each thing that a node may be. The clock is the
//          test's.
// Who calls it: ctest. Whole nodes: tests/sharing/suspects.py, tests/vm.
// Crash rule: none needed.
#include "node/liveness.hpp"

#include <cstring>

#include "node/file_lock.hpp"
#include "shim/backing/node_lock.hpp"
#include "tests/unit/device_memory.hpp"

namespace aep::test {
namespace {

constexpr u32 OWN = 0, OTHER = 1;
constexpr u32 GENERATION = 5;
constexpr u64 YEAR_MS = 365ull * 24 * 3600 * 1000;

/// Says what it is told to, and counts how often it is asked.
class Engine final : public MembershipEngine {
  public:
    NodeStanding says = NodeStanding::suspect;
    OtherNode asked{};
    const char* name() const override { return "test"; }
    bool has_quorum() override { return true; }
    NodeStanding judge(const OtherNode& other, u64) override {
        asked = other;
        return says;
    }
    void begin(const Superblock&) override {}
    int event_fd() const override { return -1; }
    void on_event() override {}
};

class Silence : public ::testing::Test {
  protected:
    void SetUp() override {
        ASSERT_TRUE(memory.create());
        pool.file = memory.file();
        pool.tables = memory.tables();
        tables = era::tables_in(&memory[0], shape_of(memory.superblock()));
        for (const u32 i : {OWN, OTHER})
            tables.node(i).store(era::NodeWord::make(era::NodeState::live, GENERATION).bits);
    }
    Liveness liveness(MembershipKind kind) {
        return {pool, memory.fd(), tables,
                OWN,  kind,        kind == MembershipKind::engine ? &engine : nullptr};
    }
    /// Node `i` has said who it is: of the system with that boot id. Its entry of the pool is `i`, and nobody locks that.
    void introduce(u32 i, const u8 (&boot_id)[16]) {
        era::NodeEntry& entry = tables.entry(i);
        std::memcpy(entry.boot_id, boot_id, sizeof boot_id);
        entry.pool_entry.store(i);
        entry.pool_generation.store(GENERATION);
        entry.generation.store(GENERATION);
        pool.tables.nodes[i].word.store(PoolNodeWord::make(PoolNodeState::live, GENERATION).bits);
    }
    /// What becomes of the other node when its beat never changes.
    NodeStanding after_a_year(Liveness& judge) {
        judge.judge(OTHER, 1);
        return judge.judge(OTHER, YEAR_MS);
    }

    static constexpr u8 ELSEWHERE[16] = {0xab};
    static constexpr MembershipKind KINDS[] = {MembershipKind::automatic, MembershipKind::lock,
                                               MembershipKind::manual, MembershipKind::engine};
    Memory memory;
    PoolHere pool{};
    era::Tables tables;
    Engine engine;
};

TEST_F(Silence, OfAnotherMachineIsNeverDeath) {
    introduce(OTHER, ELSEWHERE);
    for (const PoolMemory behind : {PoolMemory::device, PoolMemory::file}) {
        pool.file.memory = behind;
        for (const MembershipKind kind : KINDS) {
            Liveness judge = liveness(kind);
            EXPECT_EQ(after_a_year(judge), NodeStanding::suspect) << int(kind) << int(behind);
            EXPECT_EQ(judge.silent_ms(OTHER, YEAR_MS), YEAR_MS - 1);
        }
    }
}

/// On memory that other machines may map it may be one of theirs.
TEST_F(Silence, OfWhoHasNotSaidWhoHeIsIsNeverDeathOnADevice) {
    for (const MembershipKind kind : KINDS) {
        Liveness judge = liveness(kind);
        EXPECT_EQ(after_a_year(judge), NodeStanding::suspect) << int(kind);
    }
}

/// What tells of death is that nobody locks it, silent or not; and not even that where locks are to count for nothing.
TEST_F(Silence, OfThisSystemIsJudgedByLocks) {
    u8 here[16];
    std::memcpy(here, liveness(MembershipKind::lock).boot_id(), sizeof here);
    introduce(OTHER, here);
    for (const MembershipKind kind : KINDS) {
        const bool by_lock = kind == MembershipKind::automatic || kind == MembershipKind::lock;
        Liveness judge = liveness(kind);
        EXPECT_EQ(judge.judge(OTHER, 1) == NodeStanding::fenced, by_lock) << int(kind);
        EXPECT_EQ(after_a_year(judge), by_lock ? NodeStanding::fenced : NodeStanding::suspect);
    }
    // By another description of the file, as another process has it.
    const std::string path = "/proc/self/fd/" + std::to_string(memory.fd());
    const int theirs = open(path.c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_EQ(try_node_lock(theirs, OTHER), NodeLock::taken);
    Liveness judge = liveness(MembershipKind::lock);
    EXPECT_EQ(after_a_year(judge), NodeStanding::live) << "silent, and locked";
    close(theirs);
}

TEST_F(Silence, IsWhatAnEngineIsToldAndJudges) {
    introduce(OTHER, ELSEWHERE);
    Liveness judge = liveness(MembershipKind::engine);
    after_a_year(judge);
    EXPECT_TRUE(engine.asked.silent);
    EXPECT_EQ(engine.asked.generation, GENERATION);
    EXPECT_EQ(engine.asked.silent_ms, YEAR_MS - 1);
    engine.says = NodeStanding::fenced;
    EXPECT_EQ(judge.judge(OTHER, YEAR_MS), NodeStanding::fenced);
}

TEST_F(Silence, EndsWithASignOfLifeAndByPeopleForThatLifeAlone) {
    introduce(OTHER, ELSEWHERE);
    Liveness judge = liveness(MembershipKind::automatic);
    EXPECT_EQ(after_a_year(judge), NodeStanding::suspect);
    tables.entry(OTHER).beat.store(7);
    EXPECT_EQ(judge.judge(OTHER, YEAR_MS + 1), NodeStanding::live);
    EXPECT_NE(judge.declare_cut_off(OTHER, GENERATION, YEAR_MS + 1), "") << "it lives";
    EXPECT_EQ(judge.judge(OTHER, 2 * YEAR_MS), NodeStanding::suspect);
    EXPECT_NE(judge.declare_cut_off(OTHER, GENERATION + 1, 2 * YEAR_MS), "") << "another life";
    EXPECT_EQ(judge.declare_cut_off(OTHER, GENERATION, 2 * YEAR_MS), "");
    EXPECT_EQ(judge.judge(OTHER, 2 * YEAR_MS), NodeStanding::fenced);
    tables.node(OTHER).store(era::NodeWord::make(era::NodeState::live, GENERATION + 1).bits);
    tables.entry(OTHER).generation.store(GENERATION + 1);
    EXPECT_EQ(judge.judge(OTHER, 2 * YEAR_MS), NodeStanding::live) << "it came back";
    EXPECT_EQ(judge.judge(OTHER, 3 * YEAR_MS), NodeStanding::suspect);
}

/// A machine knows itself after a boot, and takes nobody else's former life for its own.
TEST_F(Silence, OfTheOwnNodeIsDeathIfItIsThisMachine_sFormerBoot) {
    introduce(OWN, ELSEWHERE);
    const auto former = [&](u64 machine) {
        Liveness judge = liveness(MembershipKind::automatic);
        tables.entry(OWN).machine = machine;
        EXPECT_EQ(judge.judge_former(1), Former::waited);
        return judge.judge_former(YEAR_MS);
    };
    const u64 here = liveness(MembershipKind::automatic).machine();
    EXPECT_EQ(former(here + 1), Former::unknown);
    EXPECT_EQ(former(0), Former::unknown) << "a machine without an id is nobody";
    if (here != 0) EXPECT_EQ(former(here), Former::dead);
    Liveness judge = liveness(MembershipKind::automatic);
    judge.judge_former(1);
    tables.entry(OWN).beat.store(9);
    EXPECT_EQ(judge.judge_former(2), Former::beating);
    EXPECT_EQ(judge.judge_former(YEAR_MS), Former::beating) << "it was two at once";
}

}  // namespace
}  // namespace aep::test
