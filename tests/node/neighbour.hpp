// Purpose: a context that is a node of a pool, and its neighbour, which the test's process plays.
// Who calls it: tests/node/away.cpp, meanwhile.cpp, tests/undo/lanes.cpp.
// Crash rule: in children.
#pragma once

#include "dsm-core/era/mailbox.hpp"
#include "tests/node/sharing_tables.hpp"

namespace aep::test {

inline constexpr u32 HERE = 0, THERE = 1;

/// The node at the other end: what it does is done.
class Neighbour {
  public:
    Neighbour() : t_(era_tables()), live_(era::join(memory_, t_, THERE)) {
        era::DirectoryEntry& entry = t_.client(THERE, 1);
        entry.id.store(id());
        t_.entry(THERE).generation.store(live_.generation());
    }
    u64 id() const { return ShareId::make(1, 1, THERE, live_.generation()).bits; }
    /// Number of object `i` of its own.
    u32 number_of(u32 i) const { return t_.first_object(THERE) + i; }

    /// Makes object `i` of its own and sends it.
    void send(u32 i, u64 address, u64 to, bool group = false, const Label& label = {}) {
        const u32 object = number_of(i);
        era::ObjectEntry& entry = t_.object(object);
        era::Lane<era::LocalMemory> lane = this->lane();
        if (era::CountWord{entry.count.load()}.count() == 0) {
            entry.address.store(address);
            entry.bytes.store(64);
            entry.serial.store(entry.serial.load() + 1);
            entry.head.store(group ? address : 0);
            entry.head_bytes.store(group ? 64 : 0);
            EXPECT_EQ(lane.create(object, object), era::Status::ok);
        }
        EXPECT_EQ(era::send(lane, HERE, object, {to, id(), label}), era::Status::ok);
    }
    /// Its own reference to object `i` goes.
    void drop(u32 i) {
        era::Lane<era::LocalMemory> lane = this->lane();
        if (lane.release(number_of(i)) == era::Status::last) lane.reclaimed();
    }
    /// Drops all messages to it and all that it refers to.
    void drop_all() {
        era::Lane<era::LocalMemory> lane = this->lane();
        era::each_message(memory_, t_, HERE, THERE, true, [&](const era::RemoteMessage& w) {
            if (era::drop_message(lane, w) == era::Status::last) lane.reclaimed();
            return false;
        });
        for (u32 i = 0; i < t_.shape.refs; ++i)
            if (t_.ref(THERE, i).load() != 0 && lane.release(i) == era::Status::last)
                lane.reclaimed();
    }

  private:
    era::Lane<era::LocalMemory> lane() { return {memory_, t_, THERE, 0, live_}; }

    era::LocalMemory memory_;
    era::Tables t_;
    era::NodeWord live_;
};

/// Calls body(other) in a child whose context is node HERE, with so many records of each kind.
template <class Body>
void between_nodes(Body body, u32 records = 1000) {
    const Directory directory;
    in_child([&] {
        NodeOptions options = options_in(directory, 64 * MiB);
        options.pool = directory.path() + "/pool";
        options.nodes.node = HERE;
        Host host(options);
        perform(Caller{1, 1}, op::AddRecords{.exports = records, .holders = records});
        Neighbour other;
        body(other);
    });
}

}  // namespace aep::test
