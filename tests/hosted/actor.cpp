// Purpose: see actor.hpp.
// Who calls it: see actor.hpp.
// Crash rule: see actor.hpp.
#include "tests/hosted/actor.hpp"

#include <cstring>
#include <mutex>

#include "aep-lib/image/image_info.hpp"
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

Said Hosted::ask(u32 number, const Request& request) {
    slot_->op = number;
    slot_->request = request;
    enter_image()(slot_);
    const Reply& r = slot_->reply;
    return {r.status, r.value, r.mask, r.extra};
}
Said Hosted::share(ShareOp op, const ShareRequest& r) {
    Request request{};
    request.a = r.a;
    request.b = r.b;
    request.now = r.now;
    request.mask = r.mask;
    Said said = ask(static_cast<u32>(op), request);
    while (said.status == Status::need_records) {
        // As the client side does: others may add some at the same time.
        static std::mutex growing;
        const std::scoped_lock scope(growing);
        const u32 exports = sharing().exports_present.load() + 64;
        const u32 holders = sharing().holders_present.load() + 64;
        open_records(exports, holders);
        Request more{};
        more.a = exports;
        more.b = holders;
        EXPECT_EQ(ask(static_cast<u32>(ShareOp::add_records), more).status, Status::ok);
        said = ask(static_cast<u32>(op), request);
    }
    return said;
}

Said Hosted::open(const char* name) {
    u64 words[4] = {};
    std::memcpy(words, name, std::strlen(name));
    return share(ShareOp::open, {words[0], words[1], words[2], words[3]});
}
Said Hosted::leave() { return share(ShareOp::leave, {}); }
Said Hosted::send(u64 address, u64 bytes, ShareId to) {
    return share(ShareOp::send, {.a = address, .b = to.bits, .mask = bytes});
}
Said Hosted::receive(ShareId from) { return share(ShareOp::receive, {.b = from.bits}); }
Said Hosted::reference(u64 address, u64 bytes) {
    return share(ShareOp::reference, {.a = address, .mask = bytes});
}
Said Hosted::drop(u64 address) { return share(ShareOp::drop, {.a = address}); }
Said Hosted::query(u64 address) { return share(ShareOp::query, {.a = address}); }
Said Hosted::take_returned() { return share(ShareOp::take_returned, {}); }
Said Hosted::watch() { return share(ShareOp::watch, {}); }
Said Hosted::settle() { return share(ShareOp::settle, {}); }
Said Hosted::group_make(u64 address, u64 bytes) {
    return share(ShareOp::group_make, {.a = address, .mask = bytes});
}
Said Hosted::group_find(u64 address) { return share(ShareOp::group_find, {.a = address}); }
Said Hosted::group_extend(u64 group, u64 address, u64 bytes) {
    return share(ShareOp::group_extend, {.a = group, .b = address, .mask = bytes});
}
Said Hosted::group_root(u64 group, u64 address, u64 bytes) {
    return share(ShareOp::group_root, {.a = group, .b = address, .mask = bytes});
}
Said Hosted::group_writer(u64 group, ShareId to) {
    return share(ShareOp::group_writer, {.a = group, .b = to.bits});
}

Said Hosted::claim_chunks(u32 count, u32 align, u32 exact) {
    Request request{};
    request.a = count;
    request.b = align;
    request.mask = exact;
    return ask(static_cast<u32>(NodeOp::claim_chunks), request);
}
Said Hosted::return_chunk(u32 chunk, bool clean) {
    Request request{};
    request.a = chunk;
    request.b = clean;
    return ask(static_cast<u32>(NodeOp::return_chunk), request);
}

void Hosted::die() {
    while (leave().status == Status::ok) {
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
    slot.op = static_cast<u32>(ShareOp::tidy);
    slot.request = {};
    enter_image()(&slot);
    return slot.reply.status == Status::ok;
}

// ---- a life

Actor::Actor(u32 index, Roster& roster, u32 node, u64 seed)
    : self_(index), roster_(roster), node_(node), alone_(!shares_between_nodes()), random_(seed) {}

void Actor::make_memory() {
    const Said run = self_.claim_chunks(OWN_CHUNKS);
    if (run.status != Status::ok)
        return;  // others keep what dead ones had exported: it lives without
    const u64 base = chunk_address(ChunkIndex{static_cast<u32>(run.value)});
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
    const Said said = self_.send(one, bytes_of(one), to);
    switch (said.status) {
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
            ADD_FAILURE() << "send: " << static_cast<u32>(said.status);
    }
    // A send to another node makes it an export, whatever becomes of the message.
    const bool exported =
        said.status == Status::ok || (first && self_.query(one).status == Status::ok);
    if (first && exported) {
        own->second.state = Own::exported;
        held_[one] = 1;
    }
}

void Actor::receive() {
    const ShareId from = pick(4) == 0 ? roster_.some(static_cast<u32>(random_())) : ShareId{};
    const Said said = self_.receive(from);
    if (said.status == Status::miss || said.status == Status::gone) return;
    ASSERT_EQ(said.status, Status::ok);
    ++received_;
    ++held_[said.value];
    EXPECT_TRUE(said.mask == 0 || said.mask == bytes_of(said.value));
    EXPECT_TRUE(from.bits == 0 || said.extra == from.bits);
    const auto own = own_.find(said.value);
    if (own == own_.end()) return;
    EXPECT_TRUE(own->second.state == Own::exported || own->second.state == Own::let_go);
    EXPECT_EQ(said.mask == 0, own->second.group);
    own->second.state = Own::exported;
}

void Actor::reference() {
    const u64 one = pick(2) == 0 ? fresh() : held();
    if (one == 0) return;
    ASSERT_EQ(self_.reference(one, bytes_of(one)).status, Status::ok);
    const auto own = own_.find(one);
    if (own != own_.end() && own->second.state == Own::fresh) {
        own->second.state = Own::exported;
        ++held_[one];
    }
    ++held_[one];
}

void Actor::drop(u64 one) {
    if (one == 0) return;
    const Said said = self_.drop(one);
    ASSERT_EQ(said.status, Status::ok);
    const bool last_of_ours = --held_[one] == 0;
    if (last_of_ours) held_.erase(one);
    const auto own = own_.find(one);
    if (own == own_.end()) {
        EXPECT_EQ(said.mask, 0u);
        return;
    }
    if (!last_of_ours) {
        EXPECT_EQ(said.mask, 0u);
        return;
    }
    EXPECT_FALSE(own->second.group && said.mask != 0);
    own->second.writes = false;
    own->second.state = said.mask != 0 ? Own::fresh : Own::let_go;
    if (said.mask == 0) {
        // It is found while others have it, or comes back to us; it is not ours to use.
        EXPECT_EQ(self_.reference(one, own->second.bytes).status, Status::not_held);
    }
}

void Actor::collect() {
    for (;;) {
        const Said said = self_.take_returned();
        if (said.status == Status::miss) return;
        ASSERT_EQ(said.status, Status::ok);
        const auto own = own_.find(said.value);
        ASSERT_NE(own, own_.end());
        EXPECT_TRUE(own->second.state == Own::let_go || own->second.state == Own::extent);
        EXPECT_EQ(held_.count(said.value), 0u);
        own->second = {own->second.bytes};
    }
}

void Actor::make_group() {
    const u64 one = fresh();
    if (one == 0 || bytes_of(one) == LARGE_BYTES) return;
    ASSERT_EQ(self_.group_make(one, bytes_of(one)).status, Status::ok);
    Object& own = own_[one];
    own.state = Own::exported;
    own.group = own.writes = true;
    held_[one] = 1;
}

void Actor::extend_group() {
    const u64 part = fresh();
    for (auto& [address, own] : own_) {
        if (part == 0 || !own.group || own.state != Own::exported) continue;
        const Status status = self_.group_extend(address, part, bytes_of(part)).status;
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
    const Said found = self_.group_find(one);
    EXPECT_EQ(found.status, Status::ok);
    EXPECT_EQ(found.value, one);
    if (pick(2) == 0) {
        const Status status = self_.group_root(one, one + 16, 32).status;
        EXPECT_TRUE(status == Status::ok || status == Status::busy ||
                    (!own->second.writes && status == Status::not_writer));
    } else {
        const ShareId to = roster_.some(static_cast<u32>(random_()));
        const Status status = self_.group_writer(one, to).status;
        EXPECT_TRUE(status == Status::ok || status == Status::gone || status == Status::not_held ||
                    (!own->second.writes && status == Status::not_writer));
        if (status == Status::ok && to.bits != self_.id().bits) own->second.writes = false;
    }
}

void Actor::step() {
    switch (pick(24)) {
        default:
            return send();
        case 6:
        case 7:
        case 8:
        case 9:
        case 10:
        case 11:
            return receive();
        case 12:
        case 13:
            return reference();
        case 14:
        case 15:
        case 16:
        case 17:
            return drop(held());
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
            const Said said = self_.query(one);
            EXPECT_EQ(said.status, Status::ok);
            EXPECT_EQ(said.extra, held_[one]);
            EXPECT_GE(said.value, held_[one]);
            return;
        }
        case 23:
            if (!alone_) self_.settle();
            return;
    }
}

void Actor::live(int steps) {
    make_memory();
    EXPECT_EQ(self_.open("").status, Status::ok);
    roster_.put(node_, self_.index(), self_.id());
    for (int i = 0; i < steps && !testing::Test::HasFatalFailure(); ++i) step();
    if (pick(2) == 0) {  // some let go of all that they have first
        while (!held_.empty() && !testing::Test::HasFatalFailure()) drop(held_.begin()->first);
    }
    roster_.put(node_, self_.index(), {});
    self_.die();
}

}  // namespace aep::test
