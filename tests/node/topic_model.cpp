// Purpose: topics beside a model of them: what each subscriber must get whatever the others do, and what is kept.
// Who calls it: ctest. The operations are called directly, for clients that are no processes.
// Crash rule: in children.
#include <algorithm>
#include <deque>
#include <map>
#include <random>

#include "tests/node/topic_tables.hpp"

namespace aep {
namespace {

using namespace test;

/// What each subscriber must get, by a model of it.
class Model {
  public:
    explicit Model(u64 seed) : random_(seed), at_(all_take_part()) {
        mine_ = open(1, named("t", 0, MOST, MOST_KIB));
    }

    void step() {
        const u32 client = 2 + pick(3);
        switch (pick(8)) {
            case 0:
                return subscribers_.count(client) == 0 ? join(client) : part(client);
            case 1:
            case 2:
            case 3:
                return publish();
            default:
                if (subscribers_.count(client) != 0) take(client);
        }
    }
    u32 refused = 0, missed = 0, published = 0;

  private:
    static constexpr u32 MOST = 6, MOST_KIB = 12;
    struct One {
        u64 number, object;
        u32 kib;
    };
    struct Subscriber {
        TopicUse use;
        Behind behind;
        u32 messages, kib;
        u64 next;
    };

    u32 pick(u32 below) { return static_cast<u32>(random_() % below); }
    u32 kib_from(u64 next) const {
        u32 kib = 0;
        for (const One& one : kept_)
            if (one.number >= next) kib += one.kib;
        return kib;
    }
    u64 tail() const { return published - kept_.size(); }

    void join(u32 client) {
        Subscriber s{open(client, named("t")), static_cast<Behind>(1 + pick(3)), pick(9), pick(15),
                     0};
        const u32 history = pick(9);
        ASSERT_EQ(ask(client, op::Subscribe{s.use, s.behind, history, s.messages, s.kib}).status,
                  Status::ok);
        if (s.messages == 0 || s.messages > MOST) s.messages = MOST;
        if (s.kib == 0 || s.kib > MOST_KIB) s.kib = MOST_KIB;
        s.next = published - std::min<u64>(history, kept_.size());
        subscribers_[client] = s;
    }
    void part(u32 client) {
        EXPECT_EQ(close(client, subscribers_[client].use), Status::miss);
        subscribers_.erase(client);
    }

    void publish() {
        const u32 kib = pick(3) == 0 ? 1 + pick(16) : 0;
        const u64 object = at_ + u64{kib} * 64 * KiB;  // one of each size
        Status expected = Status::ok;
        for (const auto& [client, s] : subscribers_) {
            if (s.behind == Behind::drop_oldest) continue;
            const u32 behind_kib = kib_from(s.next);
            const bool behind = published - s.next >= s.messages ||
                                (kib != 0 && behind_kib != 0 && behind_kib + kib > s.kib);
            if (behind && expected != Status::busy)
                expected = s.behind == Behind::fail ? Status::busy : Status::full;
        }
        const op::Publish one{
            .use = mine_, .object = object, .bytes = kib == 0 ? 64 : u64{kib} * KiB};
        ASSERT_EQ(ask(1, one).status, expected);
        if (expected != Status::ok) return static_cast<void>(++refused);
        const auto too_much = [&] {
            const u32 now = kib_from(0);
            return kept_.size() >= MOST || (kib != 0 && now != 0 && now + kib > MOST_KIB);
        };
        while (!kept_.empty() && too_much()) kept_.pop_front();
        kept_.push_back({published++, object, kib});
    }

    void take(u32 client) {
        Subscriber& s = subscribers_[client];
        u64 next = s.next;
        if (s.behind == Behind::drop_oldest) {
            next = std::max(next, tail());
            while (published - next > s.messages ||
                   (published - next > 1 && kib_from(next) > s.kib))
                ++next;
        }
        const auto taken = ask(client, op::TakePublication{s.use});
        if (next == published) {
            EXPECT_EQ(taken.status, Status::miss);
            return;
        }
        ASSERT_EQ(taken.status, Status::ok);
        EXPECT_EQ(taken.object, kept_[next - tail()].object);
        EXPECT_EQ(taken.missed, next - s.next);
        missed += static_cast<u32>(next - s.next);
        s.next = next + 1;
        EXPECT_EQ(ask(client, op::Drop{taken.object}).status, Status::ok);
    }

    std::mt19937_64 random_;
    u64 at_;
    TopicUse mine_{};
    std::deque<One> kept_;
    std::map<u32, Subscriber> subscribers_;
};

TEST(Topics, DoAsAModelOfThemDoes) {
    for (u64 seed = 1; seed <= 4; ++seed) {
        with_tables([&](Host&) {
            Model model(seed);
            for (int i = 0; i < 4000 && !testing::Test::HasFailure(); ++i) {
                model.step();
                if (i % 100 == 0) ASSERT_EQ(walk(), "") << "seed " << seed << ", step " << i;
            }
            EXPECT_GT(model.published, 500u);
            EXPECT_GT(model.refused, 50u);
            EXPECT_GT(model.missed, 50u);
        });
    }
}

}  // namespace
}  // namespace aep
