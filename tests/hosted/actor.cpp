// Purpose: see actor.hpp.
// Who calls it: see actor.hpp.
// Crash rule: see actor.hpp.
#include "tests/hosted/actor.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/undo.hpp"

namespace aep::test {
namespace {

/// Where an actor's objects lie in its four chunks: small ones in the first, and one across the others, one of which it
/// fills.
constexpr u32 OWN_CHUNKS = 4;
constexpr u32 SMALL_OBJECTS = 24;
constexpr u64 LARGE_BYTES = 2 * CHUNK_SIZE;

u64 bytes_of(u64 address) {
    return address % CHUNK_SIZE == CHUNK_SIZE / 2 ? LARGE_BYTES : 64 + address / 4096 % 64 * 64;
}

}  // namespace

// ---- operations

Hosted::Hosted(u32 index)
    : index_(index),
      generation_(client_at(index).generation.fetch_add(1, std::memory_order_relaxed) + 1),
      slot_(&slot_at(index - 1)) {
    client_at(index).state.store(static_cast<u32>(ClientState::live), std::memory_order_release);
    u64 nobody = 0;
    EXPECT_TRUE(
        slot_->owner.compare_exchange_strong(nobody, SlotOwner::make(index_, generation_).bits));
}

void Hosted::add_records() {
    static std::mutex growing;  // others may add some at the same time
    const std::scoped_lock scope(growing);
    const u32 exports = sharing().exports_present.load() + 64;
    const u32 holders = sharing().holders_present.load() + 64;
    open_records(exports, holders);
    EXPECT_EQ(ask(op::AddRecords{exports, holders}).status, Status::ok);
}

Status Hosted::open(const char* name) {
    op::Open request{.barriers = take_part_in_barriers()};
    std::memcpy(request.name.text, name, std::strlen(name));
    return ask(request).status;
}

void Hosted::die() {
    while (ask(op::Leave{}).status == Status::ok) {
    }
    slot_->owner.store(0, std::memory_order_release);
    client_at(index_).state.store(static_cast<u32>(ClientState::recovering),
                                  std::memory_order_release);
    for (u32 c = 0; c < context().chunk_count; ++c) {
        if (chunk_owner(c).load(std::memory_order_acquire) != index_) continue;
        if (!exports_gone(c) && keep_chunk(index_, c)) {
            if (exports_gone(c)) give_kept_chunk(c);
            continue;
        }
        EXPECT_TRUE(reclaim_chunk(index_, c));
    }
    client_at(index_).chunks.store(0, std::memory_order_relaxed);
    client_at(index_).state.store(static_cast<u32>(ClientState::free), std::memory_order_release);
}

bool tidy() {
    Slot& slot = slot_at(host_slot());
    slot.owner.store(SlotOwner::make(0, 0).bits, std::memory_order_relaxed);
    return perform_through(slot, op::Tidy{}).status == Status::ok;
}

// ---- a life

Actor::Actor(u32 index, Roster& roster, u32 node, u64 seed)
    : self_(index), roster_(roster), node_(node), alone_(!shares_between_nodes()), random_(seed) {}

void Actor::make_memory() {
    const auto run = self_.ask(op::ClaimChunks{.count = OWN_CHUNKS});
    if (run.status != Status::ok)
        return;  // others keep what dead ones had exported: it lives without
    const u64 base = chunk_address(run.first);
    for (u32 i = 0; i < SMALL_OBJECTS; ++i)
        own_[base + 4096 + i * 64 * KiB] = {bytes_of(base + 4096 + i * 64 * KiB)};
    const u64 large = base + CHUNK_SIZE + CHUNK_SIZE / 2;
    own_[large] = {bytes_of(large)};
}

u64 Actor::held() {
    if (held_.empty()) return 0;
    auto it =
        held_.lower_bound(std::next(held_.begin(), pick(static_cast<u32>(held_.size())))->first);
    return it->first;
}
u64 Actor::fresh() {
    if (own_.empty()) return 0;
    auto it = std::next(own_.begin(), pick(static_cast<u32>(own_.size())));
    return it->second.state == Own::fresh ? it->first : 0;
}

void Actor::send() {
    const u64 one = pick(2) == 0 ? fresh() : held();
    if (one == 0) return;
    const ShareId to = roster_.some(static_cast<u32>(random_()));
    if (to.bits == 0) return;
    const auto own = own_.find(one);
    const bool first = own != own_.end() && own->second.state == Own::fresh;
    const bool drop = pick(4) == 0;
    const auto said =
        self_.ask(op::Send{.object = one, .to = to, .bytes = bytes_of(one), .drop = drop});
    const Status status = said.status;
    switch (status) {
        case Status::ok:
            ++sent_;
            break;
        case Status::full:
        case Status::gone:  // it died meanwhile
            break;
        case Status::limit:
            EXPECT_FALSE(alone_);  // no number for it between nodes
            break;
        default:
            ADD_FAILURE() << "send: " << static_cast<u32>(status);
    }
    // A send to another node makes it an export, whatever becomes of the message.
    const bool exported =
        status == Status::ok || (first && self_.ask(op::Query{one}).status == Status::ok);
    if (first && exported) {
        own->second.state = Own::exported;
        held_[one] = 1;
    }
    if (drop && status == Status::ok) has_dropped(one, said.memory == Memory::yours_to_free);
}

/// Each object once: of those that went it knows what it has.
void Actor::send_many() {
    op::SendMany all{.to = roster_.some(static_cast<u32>(random_())), .drop = pick(4) == 0};
    if (all.to.bits == 0 || (!alone_ && is_elsewhere(all.to))) return;
    const u32 most = 1 + pick(op::SendMany::MOST);
    for (u32 tries = 0; tries < most; ++tries) {
        const u64 one = pick(2) == 0 ? fresh() : held();
        const uptr* const end = all.objects + all.count;
        if (one == 0 || std::find(static_cast<const uptr*>(all.objects), end, one) != end) continue;
        all.objects[all.count] = one;
        all.bytes[all.count++] = bytes_of(one);
    }
    if (all.count == 0) return;
    const auto said = self_.ask(all);
    ASSERT_LE(said.sent, all.count);
    EXPECT_EQ(said.status == Status::ok, said.sent == all.count);
    EXPECT_TRUE(said.status == Status::ok || said.status == Status::full ||
                said.status == Status::gone || said.status == Status::need_records)
        << static_cast<u32>(said.status);
    sent_ += said.sent;
    for (u32 i = 0; i < said.sent; ++i) {
        const auto own = own_.find(all.objects[i]);
        if (own != own_.end() && own->second.state == Own::fresh) {
            own->second.state = Own::exported;
            held_[all.objects[i]] = 1;
        }
    }
    for (u32 i = 0; all.drop && i < said.sent; ++i) has_dropped(all.objects[i], false);
}

void Actor::receive() {
    const ShareId from = pick(4) == 0 ? roster_.some(static_cast<u32>(random_())) : ShareId{};
    const auto said = self_.ask(op::Receive{from});
    if (said.status == Status::miss || said.status == Status::gone) return;
    ASSERT_EQ(said.status, Status::ok);
    has_received(said, from);
}

void Actor::receive_many() {
    const u32 most = 1 + pick(op::ReceiveMany::MOST);
    const auto said = self_.ask(op::ReceiveMany{.most = most});
    if (said.status == Status::miss || said.status == Status::gone) return;
    ASSERT_EQ(said.status, Status::ok);
    ASSERT_LE(said.count, most);
    EXPECT_NE(said.count, 0u);
    for (u32 i = 0; i < said.count; ++i) has_received(said.taken.message[i], {});
}

void Actor::has_received(const auto& message, ShareId from) {
    ++received_;
    ++held_[message.object];
    EXPECT_TRUE(message.kind == ObjectKind::group || message.bytes == bytes_of(message.object));
    EXPECT_TRUE(from.bits == 0 || message.sender == from);
    const auto own = own_.find(message.object);
    if (own == own_.end()) return;
    EXPECT_TRUE(own->second.state == Own::exported || own->second.state == Own::let_go);
    EXPECT_EQ(message.kind == ObjectKind::group, own->second.group);
    own->second.state = Own::exported;
}

void Actor::reference() {
    const u64 one = pick(2) == 0 ? fresh() : held();
    if (one == 0) return;
    ASSERT_EQ(self_.ask(op::Reference{one, bytes_of(one)}).status, Status::ok);
    const auto own = own_.find(one);
    if (own != own_.end() && own->second.state == Own::fresh) {
        own->second.state = Own::exported;
        ++held_[one];
    }
    ++held_[one];
}

void Actor::drop(u64 one) {
    if (one == 0) return;
    const auto said = self_.ask(op::Drop{one});
    ASSERT_EQ(said.status, Status::ok);
    has_dropped(one, said.memory == Memory::yours_to_free);
}

/// Each object as often as it likes: those that it does not hold, or that an operation of their own must drop, end it.
void Actor::drop_many() {
    op::DropMany all;
    const u32 most = 1 + pick(op::DropMany::MOST);
    for (u32 tries = 0; tries < most; ++tries)
        if (const u64 one = held(); one != 0) all.objects[all.count++] = one;
    if (all.count == 0) return;
    const auto said = self_.ask(all);
    ASSERT_LE(said.dropped, all.count);
    EXPECT_EQ(said.status == Status::ok, said.dropped == all.count);
    EXPECT_TRUE(said.status == Status::ok || said.status == Status::busy ||
                said.status == Status::not_held || said.status == Status::miss)
        << static_cast<u32>(said.status);
    for (u32 i = 0; i < said.dropped; ++i) {
        ASSERT_NE(held_.count(all.objects[i]), 0u);
        has_dropped(all.objects[i], (said.yours_to_free >> i & 1) != 0);
    }
}

void Actor::has_dropped(u64 one, bool freed) {
    const bool last_of_ours = --held_[one] == 0;
    if (last_of_ours) held_.erase(one);
    const auto own = own_.find(one);
    if (own == own_.end() || !last_of_ours) {
        EXPECT_FALSE(freed);
        return;
    }
    EXPECT_FALSE(own->second.group && freed);
    own->second.writes = false;
    own->second.state = freed ? Own::fresh : Own::let_go;
    if (!freed) {
        // It is found while others have it, or comes back to us; it is not ours to use.
        EXPECT_EQ(self_.ask(op::Reference{one, own->second.bytes}).status, Status::not_held);
    }
}

void Actor::collect() {
    for (;;) {
        const auto said = self_.ask(op::TakeReturned{});
        if (said.status == Status::miss) return;
        ASSERT_EQ(said.status, Status::ok);
        for (u32 i = 0; i < said.count; ++i) {
            const auto own = own_.find(said.objects[i]);
            ASSERT_NE(own, own_.end());
            EXPECT_TRUE(own->second.state == Own::let_go || own->second.state == Own::extent);
            EXPECT_EQ(held_.count(said.objects[i]), 0u);
            own->second = {own->second.bytes};
        }
    }
}

void Actor::make_group() {
    const u64 one = fresh();
    if (one == 0 || bytes_of(one) == LARGE_BYTES) return;
    ASSERT_EQ(self_.ask(op::MakeGroup{one, bytes_of(one)}).status, Status::ok);
    Object& own = own_[one];
    own.state = Own::exported;
    own.group = own.writes = true;
    held_[one] = 1;
}

void Actor::extend_group() {
    const u64 part = fresh();
    for (auto& [address, own] : own_) {
        if (part == 0 || !own.group || own.state != Own::exported) continue;
        const Status status = self_.ask(op::ExtendGroup{address, part, bytes_of(part)}).status;
        EXPECT_TRUE(own.writes ? status == Status::ok || (!alone_ && status == Status::limit)
                               : status == Status::not_writer || status == Status::ok)
            << static_cast<u32>(status);
        if (status == Status::ok) own_[part].state = Own::extent;
        return;
    }
}

void Actor::change_group() {
    const u64 one = held();
    const auto own = own_.find(one);
    if (own == own_.end() || !own->second.group) return;
    const auto found = self_.ask(op::FindGroup{one});
    EXPECT_EQ(found.status, Status::ok);
    EXPECT_EQ(found.group, one);
    if (pick(2) == 0) {
        const Status status = self_.ask(op::SetRoot{one, one + 16, 32}).status;
        EXPECT_TRUE(status == Status::ok || status == Status::busy ||
                    (!own->second.writes && status == Status::not_writer));
    } else {
        const ShareId to = roster_.some(static_cast<u32>(random_()));
        const Status status = self_.ask(op::SetWriter{one, to}).status;
        EXPECT_TRUE(status == Status::ok || status == Status::gone || status == Status::not_held ||
                    (!own->second.writes && status == Status::not_writer));
        if (status == Status::ok && to.bits != self_.id().bits) own->second.writes = false;
    }
}

/// One of a few, at most so many of the actor's own.
void Actor::open_topic() {
    constexpr usize MOST = 3;
    if (topics_.size() == MOST) return;
    const u32 which = pick(3);
    op::OpenTopic open{.topic = first_topic() + which, .most_messages = 8 * which};
    open.name.text[0] = static_cast<char>('a' + which);
    const auto said = self_.ask(open);
    ASSERT_EQ(said.status, Status::ok);
    topics_.push_back(said.use);
}

void Actor::use_topic() {
    if (topics_.empty()) return open_topic();
    const u32 which = pick(static_cast<u32>(topics_.size()));
    const TopicUse use = topics_[which];
    const auto is_subscribed = [&] {
        return topic_user_at(use.user()).behind.load() != Behind::none;
    };
    switch (pick(12)) {
        case 0:
            return open_topic();
        case 1:
            topics_.erase(topics_.begin() + which);
            for (Status status = Status::ok; status != Status::miss;)
                ASSERT_LE(status = self_.ask(op::CloseTopic{use}).status, Status::miss);
            return;
        case 2: {
            const bool subscribed = is_subscribed();
            const Behind behind = subscribed ? Behind::none : static_cast<Behind>(1 + pick(3));
            const Status status =
                self_.ask(op::Subscribe{use, behind, pick(5), pick(20), pick(20'000)}).status;
            ASSERT_EQ(status, Status::ok);
            return;
        }
        case 3:
        case 4:
        case 5:
            return publish(use);
        default:
            if (is_subscribed()) take(use);
    }
}

void Actor::publish(TopicUse use) {
    const u64 one = pick(2) == 0 ? fresh() : held();
    if (one == 0) return;
    const auto own = own_.find(one);
    const bool first = own != own_.end() && own->second.state == Own::fresh;
    const bool drop = pick(3) == 0;
    const Status status =
        self_.ask(op::Publish{.use = use, .object = one, .bytes = bytes_of(one), .drop = drop})
            .status;
    if (status == Status::full || status == Status::busy) return;  // somebody is behind
    ASSERT_EQ(status, Status::ok);
    ++sent_;
    if (first) {
        own->second.state = Own::exported;
        held_[one] = 1;
    }
    if (drop) has_dropped(one, false);
}

void Actor::take(TopicUse use) {
    const auto said = self_.ask(op::TakePublication{use});
    if (said.status == Status::miss) return;
    ASSERT_EQ(said.status, Status::ok);
    has_received(said, {});
}

void Actor::step() {
    switch (pick(27)) {
        default:
            return pick(4) == 0 ? send_many() : send();
        case 6:
        case 7:
        case 8:
        case 9:
        case 10:
        case 11:
            return pick(3) == 0 ? receive_many() : receive();
        case 12:
        case 13:
            return reference();
        case 14:
        case 15:
        case 16:
        case 17:
            return pick(4) == 0 ? drop_many() : drop(held());
        case 18:
            return collect();
        case 19:
            return make_group();
        case 20:
            return extend_group();
        case 21:
            return change_group();
        case 22: {
            const u64 one = held();
            if (one == 0) return;
            const auto said = self_.ask(op::Query{one});
            EXPECT_EQ(said.status, Status::ok);
            EXPECT_EQ(said.own, held_[one]);
            EXPECT_GE(said.references, held_[one]);
            return;
        }
        case 24:
        case 25:
        case 26:
            return use_topic();
        case 23:
            if (!alone_) self_.ask(op::Settle{});
            return;
    }
}

void Actor::live(int steps) {
    make_memory();
    EXPECT_EQ(self_.open(""), Status::ok);
    roster_.put(node_, self_.index(), self_.id());
    for (int i = 0; i < steps && !testing::Test::HasFatalFailure(); ++i) step();
    if (pick(2) == 0)  // some let go of all that they have first
        while (!held_.empty() && !testing::Test::HasFatalFailure()) drop(held_.begin()->first);
    roster_.put(node_, self_.index(), {});
    self_.die();
}

}  // namespace aep::test
