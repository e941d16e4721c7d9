// Purpose: clients that have nothing to do with each other touch nothing of each other's: no line that the operations of one pair
//          write is touched by those of another; and a client that is stopped at any store holds up nobody else.
// Who calls it: ctest. Operations are called directly, for clients that are no processes.
// Crash rule: in children.
#include <map>
#include <set>

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/topics.hpp"
#include "dsm-core/sharing/undo.hpp"
#include "tests/node/sharing_tables.hpp"
#include "tests/undo/deaths.hpp"

namespace aep {
namespace {

using namespace test;

/// Two clients that share with each other, and with nobody else.
struct Pair {
    u32 one, other;
    u64 memory = 0;             // client `one`'s
    TopicUse ones{}, others{};  // a topic of one place that both have open

    ShareId id(u32 client) const { return id_of(client, client_at(client).generation.load()); }
    Caller as_one() const { return {one, one}; }
    Caller as_other() const { return {other, other}; }

    void begin() {
        for (u32 client : {one, other}) {
            const auto claimed = perform(client, op::ClaimChunks{.count = 1});
            ASSERT_EQ(claimed.status, Status::ok);
            if (client == one) memory = chunk_address(claimed.first);
            ++client_at(client).generation;
            ASSERT_EQ(perform(Caller{client, client}, op::Open{.barriers = true}).status,
                      Status::ok);
            op::OpenTopic open{.topic = first_topic() + one, .most_messages = 1};
            open.name.text[0] = static_cast<char>('a' + one);
            const auto opened = perform(Caller{client, client}, open);
            ASSERT_EQ(opened.status, Status::ok);
            (client == one ? ones : others) = opened.use;
        }
    }
};

/// The same object twice.
op::SendMany many(const Pair& p, u64 object) {
    return {.to = p.id(p.other), .count = 2, .objects = {object, object}, .bytes = {64, 64}};
}

op::Publish publish(const Pair& p) { return {.use = p.ones, .object = p.memory + 64, .bytes = 64}; }

/// What both do with each other, from the first send of an object to when it is free again; groups, too.
std::vector<Step> life(const Pair& p) {
    const u64 a = p.memory, group = a + 4096;
    const Caller one = p.as_one(), other = p.as_other();
    return {
        {"first send", one, op::Send{.object = a, .to = p.id(p.other), .bytes = 64}},
        {"send", one, op::Send{.object = a, .to = p.id(p.other), .bytes = 64}},
        {"receive", other, op::Receive{}},
        {"receive again", other, op::Receive{.from = p.id(p.one)}},
        {"reference", other, op::Reference{.object = a, .bytes = 64}},
        {"query", other, op::Query{.object = a}},
        {"send back", other, op::Send{.object = a, .to = p.id(p.one), .bytes = 64}},
        {"receive back", one, op::Receive{}},
        {"watch", other, op::Watch{}},
        {"drop", one, op::Drop{.object = a}},
        {"drop again", one, op::Drop{.object = a}},
        {"drop of the other", other, op::Drop{.object = a}},
        {"drop of the other again", other, op::Drop{.object = a}},
        {"last drop", other, op::Drop{.object = a}},
        {"take returned", one, op::TakeReturned{}},
        {"send away", one, op::Send{.object = a, .to = p.id(p.other), .bytes = 64, .drop = true}},
        {"receive what was sent away", other, op::Receive{}},
        {"send on and away", other, op::Send{.object = a, .to = p.id(p.one), .drop = true}},
        {"receive it back", one, op::Receive{}},
        {"reference", one, op::Reference{.object = a, .bytes = 64}},
        {"drop one of two", one, op::Drop{.object = a}},
        {"last one with some to spare", one,
         op::Send{.object = a, .to = p.id(p.other), .drop = true}},
        {"receive it again", other, op::Receive{}},
        {"last drop of it", other, op::Drop{.object = a}},
        {"take it back", one, op::TakeReturned{}},
        {"send many", one, many(p, a)},
        {"receive many", other, op::ReceiveMany{}},
        {"drop one of many", other, op::Drop{.object = a}},
        {"last drop of many", other, op::Drop{.object = a}},
        {"last drop of many by who sent them", one, op::Drop{.object = a}},
        {"send many again", one, many(p, a)},
        {"receive many again", other, op::ReceiveMany{}},
        {"drop many", one, op::DropMany{.count = 1, .objects = {a}}},
        {"last drop of many at once", other, op::DropMany{.count = 2, .objects = {a, a}}},
        {"take many back", one, op::TakeReturned{}},
        {"make a group", one, op::MakeGroup{.block = group, .bytes = 4096}},
        {"extend", one, op::ExtendGroup{.group = group, .extent = a + 8192, .bytes = 4096}},
        {"set the root", one, op::SetRoot{.group = group, .root = group + 64, .bytes = 64}},
        {"send the group", one, op::Send{.object = group + 64, .to = p.id(p.other)}},
        {"receive the group", other, op::Receive{}},
        {"find the group", other, op::FindGroup{.object = group}},
        {"hand over", one, op::SetWriter{.group = group, .writer = p.id(p.other)}},
        {"drop the group", one, op::Drop{.object = group}},
        {"last drop of the group", other, op::Drop{.object = group}},
        {"take the group and its extent", one, op::TakeReturned{}},
        {"subscribe", other, op::Subscribe{.use = p.others, .behind = Behind::block}},
        {"publish", one, publish(p)},
        {"take a publication", other, op::TakePublication{p.others}},
        {"publish in its place", one, publish(p)},
        {"take that", other, op::TakePublication{p.others}},
        {"leave the topic", other, op::Subscribe{.use = p.others}},
        {"drop one publication", other, op::Drop{.object = a + 64}},
        {"drop the other one", other, op::Drop{.object = a + 64}},
    };
}

/// Lines of shared memory that operations touch.
struct Lines {
    std::map<uptr, const char*> read, written;  // by whom first

    void run(const Step& step) {
        Status status = Status::ok;
        see(step.name, [&] { status = step.perform(step.caller); });
        EXPECT_EQ(status, Status::ok) << step.name;
    }
    void see(const char* name, const std::function<void()>& code) {
        stores.watch(
            code,
            [&](uptr address, u32 bytes, bool store) {
                for (uptr line = round_down(address, CACHE_LINE); line < address + bytes;
                     line += CACHE_LINE)
                    (store ? written : read).emplace(line, name);
            });
    }
};

/// What pairs have in common all the same: how many exports lie in each chunk, for sixteen chunks a line. It changes when an
/// object is sent for the first time, and when it is freed.
bool is_excepted(uptr line) {
    const uptr counts = reinterpret_cast<uptr>(&chunk_exports(0));
    return line - round_down(counts, CACHE_LINE) < context().chunk_count * sizeof(u32) + CACHE_LINE;
}

void expect_apart(const Lines& writer, const Lines& toucher) {
    for (const auto& [line, by] : writer.written) {
        if (is_excepted(line)) continue;
        for (const auto* touched : {&toucher.read, &toucher.written}) {
            const auto other = touched->find(line);
            if (other != touched->end())
                ADD_FAILURE() << by << " writes what " << other->second
                              << " touches: " << place_of(line);
        }
    }
}

/// Hashes may send both pairs' objects to one stripe of the address table; then they take turns there.
bool share_stripes(const Pair& a, const Pair& b) {
    std::set<u32> stripes;
    for (u64 at : {0, 64, 4096, 4160, 8192}) stripes.insert(stripe_of(a.memory + at));
    for (u64 at : {0, 64, 4096, 4160, 8192})
        if (stripes.count(stripe_of(b.memory + at)) != 0) return true;
    return false;
}

void with_pairs(const std::function<void(Pair&, Pair&)>& body) {
    with_tables([&](Host&) {
        Pair a{1, 2}, b{3, 4};
        a.begin(), b.begin();
        ASSERT_FALSE(share_stripes(a, b));
        for (const Pair* p : {&a, &b})  // each gets records at hand
            for (const Step& step : life(*p))
                ASSERT_EQ(step.perform(step.caller), Status::ok) << step.name;
        body(a, b);
    });
}

TEST(Conflicts, PairsTouchNothingOfEachOther) {
    with_pairs([](Pair& a, Pair& b) {
        Lines of_a, of_b;
        for (const Step& step : life(a)) of_a.run(step);
        for (const Step& step : life(b)) of_b.run(step);
        EXPECT_GT(of_a.written.size(), 10u);
        EXPECT_GT(of_b.written.size(), 10u);
        expect_apart(of_a, of_b);
        expect_apart(of_b, of_a);
        // The test sees what two have in common: the other one of a pair touches what the first has written.
        Lines again;
        for (const Step& step : life(a)) again.run(step);
        EXPECT_NE(again.written.count(of_a.written.begin()->first), 0u);
    });
}

/// One of a pair dies with all that it has, in the middle of an operation, too, and comes again. What that looks at of the other
/// pair is whether somebody there waits for the dead one's messages: a line of each client, read once.
TEST(Conflicts, DeathAndAttachTouchNothingOfAnotherPair) {
    with_pairs([](Pair& a, Pair& b) {
        const std::vector<Step> steps = life(a);
        Lines of_a, of_b;
        for (const usize left_at :
             {2, 6, 12, 17, 21, 28, 32, 39, 42}) {  // with messages, objects, groups
            for (usize i = 0; i < left_at; ++i) steps[i].perform(steps[i].caller);
            stores.run([&] { steps[left_at].perform(steps[left_at].caller); }, 12);
            of_a.see(
                "undoing",
                [&] {
                    undo_operation(
                        steps[left_at].caller.slot, [](uptr, u64) { return true; });
                });
            for (const u32 client : {a.one, a.other}) {
                const Caller host{client, host_slot()};
                for (Status status = Status::ok; status == Status::ok;)
                    of_a.see(
                        "leaving", [&] { status = perform(host, op::Leave{}).status; });
                of_a.see(
                    "giving chunks up", [&] { give_up_chunks(client); });
            }
            EXPECT_FALSE(has_shares(share_client(a.one)) || has_shares(share_client(a.other)));
            of_a.see(
                "attaching", [&] { a.begin(); });
            ASSERT_FALSE(share_stripes(a, b));
        }
        for (const Step& step : life(b)) of_b.run(step);
        EXPECT_GT(of_a.written.size(), 20u);
        // A death and an attach change whose chunks these are, sixteen to a line, and which records are nobody's: there others
        // look how many there are when a group goes.
        for (const auto* line : {reinterpret_cast<const void*>(&sharing().records),
                                 static_cast<const void*>(&chunk_owner(first_chunk_of(b.one)))})
            of_a.written.erase(round_down(reinterpret_cast<uptr>(line), CACHE_LINE));
        for (const u32 client : {b.one, b.other})
            of_a.read.erase(reinterpret_cast<uptr>(&share_client(client).inbox.lock));
        expect_apart(of_a, of_b);
        expect_apart(of_b, of_a);
        EXPECT_EQ(walk(), "");
    });
}

/// Stopped at each of its stores, with all that it has locked: the other pair does all that it would do.
TEST(Conflicts, WhoIsStoppedHoldsUpNobodyElse) {
    with_pairs([](Pair& a, Pair& b) {
        constexpr u64 MORE_THAN_ANY_READS = 20'000;
        u64 stops = 0, locked = 0;
        for (const Step& stopped : life(a)) {
            for (u64 at = 1;; ++at) {
                const usize begin = stores.mark();
                if (stores.run([&] { stopped.perform(stopped.caller); }, at)) break;
                ++stops;
                locked += share_client(stopped.caller.client).lock.is_held_by(stopped.caller.slot);
                for (const Step& step : life(b)) {
                    Status status = Status::ok;
                    stores.most_loads = MORE_THAN_ANY_READS;
                    const bool ended = stores.run([&] { status = step.perform(step.caller); });
                    stores.most_loads = 10'000'000;
                    EXPECT_TRUE(ended && status == Status::ok)
                        << step.name << " waits for " << stopped.name << ", stopped at store "
                        << at;
                    if (!ended) return;
                }
                stores.take_back(begin);
            }
        }
        EXPECT_GT(stops, 500u);
        EXPECT_GT(locked, stops / 2);
        std::printf("%llu stops, %llu of them with the client's lock\n",
                    static_cast<unsigned long long>(stops),
                    static_cast<unsigned long long>(locked));
    });
}

}  // namespace
}  // namespace aep
