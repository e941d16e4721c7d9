// Purpose: the context's log ring: many writers, a reader that may be slow, writers that die.
// Who calls it: ctest.
// Crash rule: reads and writes memory of its own.
#include "dsm-core/context/log_ring.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "tests/unit/stepped.hpp"

namespace aep {
namespace {

using test::Stepped;

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

/// What two processes share: a ring, and what one of them read there.
struct Shared {
    LogRing ring;
    u64 read, wrong;
};

class SteppedLogRing : public testing::Test {
  protected:
    SteppedLogRing() {
        void* const at = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        EXPECT_NE(at, MAP_FAILED);
        shared_ = static_cast<Shared*>(at);
    }
    ~SteppedLogRing() override { munmap(shared_, sizeof *shared_); }

    void write(u32 count) {
        for (const u64 end = written_ + count; written_ != end; ++written_)
            shared_->ring.write(Event::no_run, 1, written_, ~written_);
    }
    void begin(u32 records) {
        std::memset(static_cast<void*>(shared_), 0, sizeof *shared_);
        write(records);
    }

    Shared* shared_ = nullptr;
    u64 written_ = 0;
};

TEST_F(SteppedLogRing, ARecordThatIsBeingWrittenOverIsNotReadHalf) {
    bool within = true;
    u32 not_read = 0;
    for (u32 steps = 1; within && !HasFailure(); ++steps) {
        begin(LogRing::RECORDS);
        Stepped writer([this] {
            write(1);
            Stepped::stop();
            shared_->ring.write(Event::client_limit, 7, 0, 0);
        });
        LogReader reader;
        u64 read = 0;
        const u64 lost = reader.read(shared_->ring, [&](const LogEntry& e) {
            // It knows by now how many there are; the next one is being written over.
            if (read++ == 0) {
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
}

TEST_F(SteppedLogRing, ARecordThatIsWrittenOverWhileItIsReadIsLost) {
    bool within = true;
    u32 not_read = 0;
    for (u32 steps = 1; within && !HasFailure(); ++steps) {
        begin(1);
        Stepped reader([this] {
            LogReader().read(shared_->ring, [this](const LogEntry& e) {
                ++shared_->read;
                shared_->wrong += e.b != ~e.a;
            });
        });
        within = reader.makes_steps(steps);
        write(LogRing::RECORDS);
        if (within) reader.goes_on();
        EXPECT_EQ(shared_->wrong, 0u) << "after " << steps << " steps";
        not_read += shared_->read == 0;
    }
    EXPECT_GT(not_read, 5u);
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
