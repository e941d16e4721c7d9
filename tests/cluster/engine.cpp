// Purpose: what the daemon makes of corosync's view: who is lost, since when, who may act, whether this machine has quorum; and
//          of the command that cuts a node off. Views are the test's, and the time by which it judges.
// Who calls it: ctest. Real clusters: corosync.py.
// Crash rule: helpers and commands end with their engine.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <mutex>
#include <optional>
#include <thread>

#include "dsm-core/pool/superblock.hpp"
#include "node/node_error.hpp"
#include "tests/unit/pool_fixture.hpp"
#include "tools/daemon/corosync_plug.hpp"

namespace aep {
namespace {

constexpr u64 LEASE_MS = 6000;

/// What a log has said.
struct Said {
    std::vector<std::string> lines;
    Log log() {
        return [this](LogLevel, const std::string& line) { lines.push_back(line); };
    }
    long count(const char* words) const {
        return std::count_if(
            lines.begin(), lines.end(),
            [&](const std::string& line) { return line.find(words) != std::string::npos; });
    }
};

/// This machine is the first of two, and sees both.
ViewMessage whole_cluster() {
    ViewMessage view{};
    view.magic = VIEW_MAGIC;
    view.own = 1;
    view.quorate = view.joined = 1;
    view.present = view.members = 0b11;
    view.token_ms = view.consensus_ms = 100;
    std::strcpy(view.cluster, "ours");
    std::strcpy(view.hosts[1], "second");
    return view;
}

/// Helpers ask here what they see (told_corosync.cpp).
class Corosync {
  public:
    explicit Corosync(const std::string& path) : view_(whole_cluster()) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strcpy(address.sun_path, path.c_str());
        listener_ = UniqueFd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
        EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        EXPECT_EQ(listen(listener_.get(), 4), 0);
        setenv("AEP_TEST_VIEWS", path.c_str(), 1);
        thread_ = std::thread([this] { welcome(); });
    }
    ~Corosync() {
        shutdown(listener_.get(), SHUT_RDWR);
        thread_.join();
        unsetenv("AEP_TEST_VIEWS");
    }
    Corosync(const Corosync&) = delete;
    Corosync& operator=(const Corosync&) = delete;

    /// False: the helper is not there.
    bool tell(const ViewMessage& view) {
        const std::lock_guard scope(lock_);
        view_ = view;
        return say();
    }
    /// The helper ends.
    void end_helper() {
        const std::lock_guard scope(lock_);
        helper_.reset();
    }
    u32 helpers() {
        const std::lock_guard scope(lock_);
        return helpers_;
    }

  private:
    void welcome() {
        for (int fd; (fd = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
            const std::lock_guard scope(lock_);
            helper_ = UniqueFd(fd);
            ++helpers_;
            say();
        }
    }
    bool say() { return send(helper_.get(), &view_, sizeof view_, MSG_NOSIGNAL) > 0; }

    std::mutex lock_;
    ViewMessage view_;
    UniqueFd listener_, helper_;
    u32 helpers_ = 0;
    std::thread thread_;
};

class CorosyncView : public ::testing::Test {
  protected:
    CorosyncView() : corosync_(directory_.file("views")) {}

    void start(const std::string& command = "true") {
        engine_.emplace(FenceOptions{.command = command}, said_.log());
        pool_.terms.lease_ms = LEASE_MS;
        engine_->begin(pool_);
    }
    /// From now on corosync says this, and the engine has heard it.
    void see(const ViewMessage& view) {
        view_ = view;
        corosync_.tell(view);
        pollfd event{engine_->event_fd(), POLLIN, 0};
        ASSERT_EQ(poll(&event, 1, 60'000), 1);
        engine_->on_event();
    }
    /// The second machine is out of sight, or is not.
    static ViewMessage second_lost() {
        ViewMessage view = whole_cluster();
        view.present = view.members = 0b01;
        return view;
    }
    /// How it stands at that time, by a view that has just come.
    NodeStanding judge_at(u64 now_ms, u32 generation = 1) {
        see(view_);
        return engine_->judge({.node = 1, .generation = generation, .name = "second"}, now_ms);
    }
    bool is_given() const { return said_.count("is to be cut off") != 0; }

    test::Directory directory_;
    Corosync corosync_;
    Said said_;
    ViewMessage view_ = whole_cluster();
    Superblock pool_{};
    std::optional<CorosyncEngine> engine_;
};

TEST_F(CorosyncView, WhoIsOutOfSightIsCutOffAfterALease) {
    start();
    EXPECT_EQ(judge_at(500), NodeStanding::live);
    see(second_lost());
    EXPECT_EQ(judge_at(1000), NodeStanding::suspect);
    EXPECT_EQ(judge_at(1000 + LEASE_MS - 1), NodeStanding::suspect);
    EXPECT_FALSE(is_given());
    EXPECT_EQ(judge_at(1000 + LEASE_MS), NodeStanding::suspect);
    EXPECT_TRUE(is_given());
    while (judge_at(1000 + LEASE_MS) != NodeStanding::fenced) continue;
    EXPECT_EQ(said_.count("is cut off"), 1);
}

TEST_F(CorosyncView, WithoutQuorumItSaysNothingOfOthers) {
    start();
    ViewMessage view = second_lost();
    view.quorate = 0;
    see(view);
    EXPECT_EQ(judge_at(1000), NodeStanding::live);
    EXPECT_EQ(judge_at(1000 + 2 * LEASE_MS), NodeStanding::live);
    EXPECT_FALSE(is_given());
}

/// Who has no quorum cannot tell who has stopped.
TEST_F(CorosyncView, TheTimeWithoutQuorumDoesNotCount) {
    start();
    see(second_lost());
    EXPECT_EQ(judge_at(1000), NodeStanding::suspect);
    ViewMessage view = second_lost();
    view.quorate = 0;
    see(view);
    EXPECT_EQ(judge_at(1000 + LEASE_MS / 2), NodeStanding::live);
    see(second_lost());
    EXPECT_EQ(judge_at(1000 + LEASE_MS), NodeStanding::suspect);
    EXPECT_FALSE(is_given());
}

TEST_F(CorosyncView, EachLifeIsJudgedByItself) {
    start();
    see(second_lost());
    EXPECT_EQ(judge_at(1000, 1), NodeStanding::suspect);
    EXPECT_EQ(judge_at(1000 + LEASE_MS, 2), NodeStanding::suspect);
    EXPECT_FALSE(is_given());
}

TEST_F(CorosyncView, OneOfThePartitionActs) {
    start();
    ViewMessage view = second_lost();
    view.own = 3;
    view.present = view.members = 0b101;
    see(view);
    EXPECT_EQ(judge_at(1000), NodeStanding::suspect);
    EXPECT_EQ(judge_at(1000 + 2 * LEASE_MS), NodeStanding::suspect);
    EXPECT_FALSE(is_given());
    view.members = 0b100;  // the first one's daemon has ended
    see(view);
    EXPECT_EQ(judge_at(1000 + 2 * LEASE_MS), NodeStanding::suspect);
    EXPECT_TRUE(is_given());
}

/// It may be on its way down.
TEST_F(CorosyncView, WhoIsBeingCutOffAndSeenAgainIsCutOff) {
    const std::string fifo = directory_.file("end");
    ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
    start("read word < " + fifo + "; true");
    see(second_lost());
    EXPECT_EQ(judge_at(1000), NodeStanding::suspect);
    EXPECT_EQ(judge_at(1000 + LEASE_MS), NodeStanding::suspect);
    ASSERT_TRUE(is_given());
    see(whole_cluster());
    ASSERT_EQ(judge_at(1000 + LEASE_MS), NodeStanding::suspect);
    std::ofstream(fifo) << "now\n";
    while (judge_at(1000 + LEASE_MS) != NodeStanding::fenced) continue;
}

TEST_F(CorosyncView, ACorosyncThatIsSilentHasNoQuorum) {
    start();
    ViewMessage view = whole_cluster();
    see(view);
    EXPECT_TRUE(engine_->has_quorum());
    view.silent_ms = 60'000;
    see(view);
    EXPECT_FALSE(engine_->has_quorum());
}

/// Long before it is ended for its silence, and another one started.
TEST_F(CorosyncView, AHelperThatIsSilentHasNoQuorum) {
    start();
    see(whole_cluster());
    while (engine_->has_quorum()) std::this_thread::yield();
    EXPECT_TRUE(corosync_.tell(view_));
    EXPECT_EQ(corosync_.helpers(), 1u);
}

TEST_F(CorosyncView, AHelperThatEndsIsFollowedByAnother) {
    start();
    corosync_.end_helper();
    while (corosync_.helpers() < 2 || !engine_->has_quorum()) {
        pollfd event{engine_->event_fd(), POLLIN, 0};
        if (poll(&event, 1, 10) == 1) engine_->on_event();
        engine_->has_quorum();  // which starts the next one
    }
}

TEST_F(CorosyncView, PoolsOfOtherTermsAreRefused) {
    start();
    // Silence is seen after 1.4 s, by the view's times; and a sixth of the lease is for stopping.
    pool_.terms.lease_ms = 1600;
    EXPECT_THROW(engine_->begin(pool_), NodeError);
    pool_.terms.lease_ms = 1800;
    EXPECT_NO_THROW(engine_->begin(pool_));
    std::strcpy(pool_.terms.cluster, "theirs");
    EXPECT_THROW(engine_->begin(pool_), NodeError);
    std::strcpy(pool_.terms.cluster, "ours");
    EXPECT_NO_THROW(engine_->begin(pool_));
}

// ---- the command

/// One that gives this command for the second node.
struct Cutting {
    explicit Cutting(const std::string& command)
        : fence({.command = command, .limit_ms = 1000}, said.log()) {}
    bool at(u64 now_ms, u32 generation = 1) {
        return fence.has_cut_off({.node = 1, .generation = generation, .name = "second"}, "second",
                                 LEASE_MS, now_ms);
    }
    Said said;
    Fence fence;
};

TEST(Fence, ACommandThatFailsHasCutOffNobody) {
    Cutting cutting("exit 3 #");
    while (cutting.said.count("exit status 3") == 0) ASSERT_FALSE(cutting.at(10));
    EXPECT_EQ(cutting.said.count("is cut off"), 0);
}

TEST(Fence, ItIsGivenAgainAfterAPause) {
    Cutting cutting("exit 3 #");
    while (cutting.said.count("exit status 3") == 0) ASSERT_FALSE(cutting.at(10));
    EXPECT_FALSE(cutting.at(10 + 1999));
    EXPECT_EQ(cutting.said.count("is to be cut off"), 1);
    EXPECT_FALSE(cutting.at(10 + 2000));
    EXPECT_EQ(cutting.said.count("is to be cut off"), 2);
}

TEST(Fence, OneThatDoesNotEndHasFailed) {
    Cutting cutting("sleep 1000 #");
    EXPECT_FALSE(cutting.at(10));
    EXPECT_FALSE(cutting.at(10 + 999));
    EXPECT_EQ(cutting.said.count("no answer"), 0);
    EXPECT_FALSE(cutting.at(10 + 1000));
    EXPECT_EQ(cutting.said.count("no answer for 1000 ms"), 1);
    EXPECT_FALSE(cutting.fence.is_under_way(1, 1));
}

TEST(Fence, EachLifeIsCutOffByItself) {
    Cutting cutting("true");
    while (!cutting.at(10, 1)) continue;
    EXPECT_TRUE(cutting.fence.is_under_way(1, 1));
    EXPECT_FALSE(cutting.at(20, 2));
    EXPECT_EQ(cutting.said.count("of generation 2 (second) is to be cut off"), 1);
}

}  // namespace
}  // namespace aep
