// Purpose: the context's log ring: many writers, a reader that may be slow, writers that die.
// Who calls it: ctest.
// Crash rule: reads and writes memory of its own.
#include "dsm-core/context/log_ring.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <thread>
#include <vector>

namespace aep {
namespace {

std::vector<LogEntry> read_all(LogReader& reader, const LogRing& ring, u64& lost) {
    std::vector<LogEntry> entries;
    lost = reader.read(ring, [&](const LogEntry& e) { entries.push_back(e); });
    return entries;
}

TEST(LogRing, RecordsComeInOrderAndOnce) {
    auto ring = std::make_unique<LogRing>();
    LogReader reader;
    u64 lost = 0;
    EXPECT_TRUE(read_all(reader, *ring, lost).empty());
    ring->write(Event::client_limit, 3, 5, 7);
    ring->write(Event::no_run, 4, 6, 0);
    const auto entries = read_all(reader, *ring, lost);
    ASSERT_EQ(entries.size(), 2u);
    EXPECT_EQ(entries[0].event, Event::client_limit);
    EXPECT_EQ(entries[0].client, 3u);
    EXPECT_EQ(entries[0].a, 5u);
    EXPECT_EQ(entries[0].b, 7u);
    EXPECT_EQ(entries[1].event, Event::no_run);
    EXPECT_EQ(lost, 0u);
    EXPECT_TRUE(read_all(reader, *ring, lost).empty());
}

TEST(LogRing, WhatIsWrittenOverIsCounted) {
    auto ring = std::make_unique<LogRing>();
    LogReader reader;
    for (u32 i = 0; i < LogRing::RECORDS + 10; ++i) ring->write(Event::no_run, 1, i, 0);
    u64 lost = 0;
    const auto entries = read_all(reader, *ring, lost);
    EXPECT_EQ(lost, 10u);
    ASSERT_EQ(entries.size(), LogRing::RECORDS);
    EXPECT_EQ(entries.front().a, 10u);
}

TEST(LogRing, ARecordThatIsNeverCompletedIsSkippedInTheEnd) {
    auto ring = std::make_unique<LogRing>();
    LogReader reader;
    ring->next.fetch_add(1);  // its writer died here
    for (u32 i = 0; i < 10; ++i) ring->write(Event::no_run, 1, i, 0);
    u64 lost = 0;
    EXPECT_TRUE(read_all(reader, *ring, lost).empty()) << "it may still come";
    for (u32 i = 10; i < LogRing::RECORDS / 2; ++i) ring->write(Event::no_run, 1, i, 0);
    EXPECT_EQ(read_all(reader, *ring, lost).size(), LogRing::RECORDS / 2);
    EXPECT_EQ(lost, 1u);
}

/// A process that is stopped before and after it writes; it may be led through it by single steps.
class Writer {
  public:
    explicit Writer(LogRing& ring) : pid_(fork()) {
        if (pid_ == 0) {
            ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
            for (u64 i = 0; i < 2; ++i) {
                stop();
                ring.write(Event::client_limit, 7, i, ~i);
            }
            stop();
            _exit(0);
        }
        next_stop();
    }
    ~Writer() {
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
    }
    void goes_on() {
        ptrace(PTRACE_CONT, pid_, nullptr, nullptr);
        next_stop();
    }
    /// False: it stopped by itself.
    bool makes_steps(u32 count) {
        int signal = SIGTRAP;
        for (; count != 0 && signal == SIGTRAP; --count) {
            ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr);
            signal = next_stop();
        }
        return signal == SIGTRAP;
    }

  private:
    static void stop() { syscall(SYS_tgkill, getpid(), gettid(), SIGSTOP); }
    int next_stop() {
        int status = 0;
        EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
        EXPECT_TRUE(WIFSTOPPED(status));
        return WIFSTOPPED(status) ? WSTOPSIG(status) : SIGKILL;
    }

    pid_t pid_;
};

TEST(LogRing, ARecordThatIsBeingWrittenOverIsNotReadHalf) {
    void* const at =
        mmap(nullptr, sizeof(LogRing), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(at, MAP_FAILED);
    LogRing& ring = *static_cast<LogRing*>(at);
    bool within = true;
    u32 not_read = 0;
    for (u32 steps = 1; within && !testing::Test::HasFailure(); ++steps) {
        std::memset(at, 0, sizeof ring);
        for (u64 i = 0; i < LogRing::RECORDS; ++i) ring.write(Event::no_run, 1, i, ~i);
        Writer writer(ring);
        LogReader reader;
        u64 read = 0;
        const u64 lost = reader.read(ring, [&](const LogEntry& e) {
            if (read++ ==
                0) {  // it knows by now how many there are; the next record is being written over
                writer.goes_on();
                within = writer.makes_steps(steps);
            }
            EXPECT_EQ(e.event, Event::no_run) << "after " << steps << " steps";
            EXPECT_EQ(e.client, 1u) << "after " << steps << " steps";
            EXPECT_EQ(e.b, ~e.a) << "after " << steps << " steps";
        });
        EXPECT_EQ(read + lost, LogRing::RECORDS);
        not_read += lost != 0;
    }
    EXPECT_GT(not_read, 5u);
    munmap(at, sizeof ring);
}

TEST(LogRing, ManyWritersAndAReaderAtOnce) {
    constexpr u32 WRITERS = 4;
    constexpr u64 EACH = 50'000;
    auto ring = std::make_unique<LogRing>();
    std::vector<std::thread> writers;
    for (u32 w = 0; w < WRITERS; ++w) {
        writers.emplace_back([&, w] {
            for (u64 i = 0; i < EACH; ++i) ring->write(Event::client_limit, w, i, ~i);
        });
    }
    LogReader reader;
    u64 seen = 0, lost = 0;
    u64 last[WRITERS] = {};
    const auto take = [&] {
        lost += reader.read(*ring, [&](const LogEntry& e) {
            ++seen;
            ASSERT_LT(e.client, WRITERS);
            EXPECT_EQ(e.b, ~e.a) << "half of one record and half of another";
            EXPECT_GE(e.a, last[e.client]);
            last[e.client] = e.a;
        });
    };
    while (seen + lost < WRITERS * EACH / 2) take();
    for (std::thread& writer : writers) writer.join();
    take();
    EXPECT_EQ(seen + lost, WRITERS * EACH);
}

}  // namespace
}  // namespace aep
