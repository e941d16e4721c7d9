// Purpose: who keeps a completer believes nothing that it says, and is neither ended, stopped nor
//          kept busy by one that misbehaves in any way.
// Who calls it: ctest. Needs no privilege: the completers are bad_completer.cpp's.
#include "tools/daemon/completer_keeper.hpp"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

#include "node/process_facts.hpp"
#include "tests/unit/pool_fixture.hpp"

namespace aep {
namespace {

constexpr u32 SLOT = 5;

/// Notes what it is told.
struct Owner final : CompleterOwner {
    std::vector<pid_t> watched;
    u32 works = 0, unwatched = 0;
    std::vector<CompleterReport> answers;
    std::vector<std::pair<u32, std::string>> hopeless;
    bool believes = true;

    std::string watch_completer(pid_t pid) override {
        watched.push_back(pid);
        return "";
    }
    void unwatch_completer(pid_t) override { ++unwatched; }
    void completer_works(pid_t) override { ++works; }
    bool answered(const CompleterReport& report) override {
        answers.push_back(report);
        return believes;
    }
    void given_up(u32 slot, const std::string& why) override { hopeless.emplace_back(slot, why); }
};

class CompleterKeeping : public ::testing::Test {
  protected:
    /// Keeps a completer that behaves so; `limit_ms` for each operation.
    void keep(const char* behaviour, u64 limit_ms = 60'000, bool performs = false) {
        const std::string program = directory_.path() + "/" + behaviour;
        ASSERT_EQ(symlink(AEP_BAD_COMPLETER, program.c_str()), 0);
        captures_ = UniqueFd(memfd_create("captures", MFD_CLOEXEC));
        const int file = captures_.get();
        keeper_.emplace(owner_, CompleterOptions{program, limit_ms},
                        [this](LogLevel, const std::string& line) { said_.push_back(line); });
        ASSERT_EQ(keeper_->prepare({file, file, file, file, ""}, performs ? -1 : file), "");
    }
    /// Handles events, as a daemon does, until that is so.
    template <class F>
    void until(F&& condition) {
        const u64 end = monotonic_ms() + 60'000;
        while (!condition()) {
            pollfd event{keeper_->event_fd(), POLLIN, 0};
            ASSERT_GE(poll(&event, 1, 60'000), 0);
            ASSERT_LT(monotonic_ms(), end);
            keeper_->on_event();
        }
    }
    bool is_said(const std::string& words) const {
        return std::any_of(
            said_.begin(), said_.end(),
            [&](const std::string& line) { return line.find(words) != std::string::npos; });
    }

    test::Directory directory_;
    Owner owner_;
    std::vector<std::string> said_;
    UniqueFd captures_;
    std::optional<CompleterKeeper> keeper_;
};

TEST_F(CompleterKeeping, OneThatBehaves) {
    keep("good");
    EXPECT_TRUE(keeper_->ask(SLOT));
    EXPECT_TRUE(keeper_->ask(SLOT));  // is under way
    EXPECT_TRUE(keeper_->asked(SLOT));
    EXPECT_FALSE(keeper_->works());
    until([&] { return !owner_.answers.empty(); });
    EXPECT_TRUE(keeper_->works());
    EXPECT_FALSE(keeper_->asked(SLOT));
    EXPECT_EQ(owner_.answers[0].slot, SLOT);
    EXPECT_EQ(owner_.answers[0].outcome, CompleterOutcome::completed);
    EXPECT_EQ(owner_.watched.size(), 1u);
    EXPECT_EQ(owner_.works, 1u);
    keeper_->end();
    EXPECT_EQ(owner_.unwatched, 1u);
    EXPECT_EQ(owner_.answers.size(), 1u);
    EXPECT_TRUE(said_.empty());
}

struct Misbehaviour {
    const char* name;
    const char* words;  // of the log
};

class CompleterMisbehaves : public CompleterKeeping,
                            public ::testing::WithParamInterface<Misbehaviour> {};

// Each ends: the operation is given up after three completers, and the owner was told nothing else.
TEST_P(CompleterMisbehaves, OperationIsGivenUp) {
    keep(GetParam().name);
    EXPECT_TRUE(keeper_->ask(SLOT));
    until([&] { return !owner_.hopeless.empty(); });
    EXPECT_EQ(owner_.hopeless[0].first, SLOT);
    EXPECT_EQ(owner_.hopeless[0].second, "3 completers have ended over it");
    EXPECT_EQ(owner_.hopeless.size(), 1u);
    EXPECT_FALSE(keeper_->asked(SLOT));
    EXPECT_TRUE(owner_.answers.empty());
    EXPECT_TRUE(is_said(GetParam().words)) << said_[0];
    EXPECT_TRUE(std::find(owner_.watched.begin(), owner_.watched.end(), 0) == owner_.watched.end());
}
INSTANTIATE_TEST_SUITE_P(
    Ways, CompleterMisbehaves,
    ::testing::Values(Misbehaviour{"out-of-range", "reports slot 4294967295, which it was not"},
                      Misbehaviour{"another-slot", "reports slot 6, which it was not asked for"},
                      Misbehaviour{"floods", "reports slot 3, which it was not asked for"},
                      Misbehaviour{"twice-ready", "it says that it works"},
                      Misbehaviour{"dies", "is dead: signal 31"}),
    [](const auto& each) {
        std::string name = each.param.name;
        std::replace(name.begin(), name.end(), '-', '_');
        return name;
    });

TEST_F(CompleterKeeping, WhatIsNotSoOfASlotIsNotBelieved) {
    keep("good");
    owner_.believes = false;
    EXPECT_TRUE(keeper_->ask(SLOT));
    until([&] { return !owner_.hopeless.empty(); });
    EXPECT_EQ(owner_.answers.size(), 3u);
    EXPECT_TRUE(is_said("reports what is not so of slot 5"));
}

// Back-off: said once a stage, and never busy.
TEST_F(CompleterKeeping, OneThatExitsAgainAndAgainIsStartedLaterEachTime) {
    for (const char* behaviour : {"exits", "early", "unknown", "short"}) {
        SCOPED_TRACE(behaviour);
        keeper_.reset();
        owner_ = Owner();
        said_.clear();
        keep(behaviour);
        const u64 began = monotonic_ms();
        keeper_->want();
        until([&] { return owner_.watched.size() == 7; });
        // At once, 10, 20, 40, 80, 160.
        EXPECT_GE(monotonic_ms() - began, 300u);  // in whole milliseconds
        EXPECT_EQ(owner_.unwatched, 6u);
        ASSERT_EQ(said_.size(), 6u);
        EXPECT_NE(said_[0].find("another one starts at once"), std::string::npos) << said_[0];
        EXPECT_NE(said_[5].find("another one starts in 160 ms"), std::string::npos) << said_[5];
    }
}

TEST_F(CompleterKeeping, OneThatIsMisledAtItsStartAgainAndAgainIsHopeless) {
    for (const char* behaviour : {"misled", "faults"}) {
        for (const bool performs : {false, true}) {
            SCOPED_TRACE(behaviour);
            keeper_.reset();
            owner_ = Owner();
            said_.clear();
            ::unlink((directory_.path() + "/" + behaviour).c_str());
            keep(behaviour, 60'000, performs);
            EXPECT_FALSE(keeper_->hopeless());
            keeper_->want();
            until([&] { return keeper_->hopeless(); });
            EXPECT_EQ(owner_.unwatched, 5u);
            EXPECT_TRUE(keeper_->fails());
            EXPECT_TRUE(is_said(behaviour == std::string("misled")
                                    ? "what it shares with clients is not as the daemon made it"
                                    : "signal 11"));
        }
    }
}

// A full file system, a slow machine, somebody who kills it: it may go better the next time.
TEST_F(CompleterKeeping, WhatTheSystemLacksIsNoReasonToGiveUp) {
    for (const char* behaviour : {"lacks", "exits", "killed-at-start"}) {
        SCOPED_TRACE(behaviour);
        keeper_.reset();
        owner_ = Owner();
        keep(behaviour);
        keeper_->want();
        until([&] { return owner_.unwatched == 7; });
        EXPECT_FALSE(keeper_->hopeless());
        EXPECT_TRUE(keeper_->fails());
    }
    keeper_.reset();
    owner_ = Owner();
    keep("never-ready", 5);
    keeper_->want();
    until([&] { return owner_.unwatched == 7; });
    EXPECT_FALSE(keeper_->hopeless());
}

TEST_F(CompleterKeeping, OneThatPerformsAndEndsOverItAgainAndAgainIsHopeless) {
    for (const char* behaviour : {"dies", "another-slot", "never-ends"}) {
        SCOPED_TRACE(behaviour);
        keeper_.reset();
        owner_ = Owner();
        const bool ends = std::string(behaviour) != "never-ends";
        keep(behaviour, ends ? 60'000 : 50, true);
        keeper_->want();
        until([&] {
            if (keeper_->works()) keeper_->ask(SLOT);
            return keeper_->hopeless();
        });
        // One that is slow to begin, on a busy machine, does not count.
        EXPECT_GE(owner_.unwatched, 5u);
        if (ends) EXPECT_EQ(owner_.unwatched, 5u);
        EXPECT_TRUE(owner_.answers.empty());
    }
}

TEST_F(CompleterKeeping, OneThatHasFinishedSomethingIsNotHopeless) {
    keep("good", 60'000, true);
    keeper_->want();
    for (u32 i = 1; i <= 6; ++i) {
        until([&] { return keeper_->works() && owner_.works == i && keeper_->ask(SLOT); });
        until([&] { return owner_.answers.size() == i; });
        kill(owner_.watched.back(), SIGSEGV);
        until([&] { return owner_.unwatched == i; });
    }
    EXPECT_FALSE(keeper_->hopeless());
}

// Killed by somebody else again and again: no operation's fault.
TEST_F(CompleterKeeping, KilledByOthersNothingIsGivenUp) {
    keep("never-ends");
    EXPECT_TRUE(keeper_->ask(SLOT));
    for (u32 i = 1; i <= 5; ++i) {
        until([&] { return keeper_->works() && owner_.works == i; });
        kill(owner_.watched.back(), SIGKILL);
        until([&] { return owner_.unwatched == i; });
    }
    EXPECT_TRUE(owner_.hopeless.empty());
    EXPECT_TRUE(keeper_->asked(SLOT));
    EXPECT_TRUE(is_said("is dead: signal 9"));
}

TEST_F(CompleterKeeping, AnOperationThatDoesNotEndIsGivenUp) {
    keep("never-ends", 100);
    EXPECT_TRUE(keeper_->ask(SLOT));
    until([&] { return !owner_.hopeless.empty(); });
    EXPECT_EQ(owner_.hopeless[0].first, SLOT);
    EXPECT_EQ(owner_.hopeless[0].second, "it does not end in 100 ms");
    EXPECT_TRUE(is_said("slot 5 takes it too long"));
    EXPECT_FALSE(keeper_->asked(SLOT));
    // No worker is in it any more, and another completer comes.
    EXPECT_EQ(owner_.unwatched, 1u);
    until([&] { return owner_.works == 2; });
}

TEST_F(CompleterKeeping, OneThatNeverComesToWorkIsGivenUpToo) {
    keep("never-ready", 50);
    EXPECT_TRUE(keeper_->ask(SLOT));
    until([&] { return !owner_.hopeless.empty(); });
    EXPECT_TRUE(is_said("it does not come to work"));
    EXPECT_EQ(owner_.works, 0u);
}

TEST_F(CompleterKeeping, OneThatIsMissingForAWhile) {
    keep("good");
    const std::string program = directory_.path() + "/good";
    ASSERT_EQ(unlink(program.c_str()), 0);
    keeper_->want();
    until([&] { return is_said("no completer: the completer: ENOENT"); });
    ASSERT_EQ(symlink(AEP_BAD_COMPLETER, program.c_str()), 0);
    until([&] { return keeper_->ask(SLOT); });
    until([&] { return !owner_.answers.empty(); });
}

}  // namespace
}  // namespace aep
