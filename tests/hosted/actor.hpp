// Purpose: a client as a thread: its slot, its operations one by one, and a life of random ones, of which it knows what
//          each must say whatever the others do meanwhile: its own references change by its own operations alone.
// Who calls it: tests/hosted.
// Crash rule: it ends between two operations; what a client's death leaves is taken back as the host does it.
#pragma once

#include <atomic>
#include <map>
#include <optional>
#include <random>
#include <vector>

#include "aep-lib/image/enter.hpp"
#include "dsm-core/op/operations.hpp"
#include "dsm-core/sharing/topics.hpp"
#include "tests/hosted/world.hpp"

namespace aep::test {

/// One client's way in. Its thread is inside its node's context.
class Hosted {
  public:
    /// Attaches: client `index` in slot index - 1, one generation later than before.
    explicit Hosted(u32 index);

    u32 index() const { return index_; }
    ShareId id() const { return id_of(index_, generation_); }

    /// Performs one operation; makes records present as it needs them, as the client side does.
    template <ShareOperation O>
    typename O::Reply ask(const O& o) {
        typename O::Reply reply = perform_through(*slot_, o);
        while (reply.status == Status::need_records) {
            add_records();
            reply = perform_through(*slot_, o);
        }
        return reply;
    }
    /// Some of many may have gone before there are no more records: those are not to go again.
    op::SendMany::Reply ask(const op::SendMany& o) {
        const op::SendMany::Reply reply = perform_through(*slot_, o);
        if (reply.status == Status::need_records) add_records();
        return reply;
    }
    template <NodeOperation O>
    typename O::Reply ask(const O& o) {
        return perform_through(*slot_, o);
    }
    Status open(const char* name);

    /// As the host does when a client is dead: its references go, then its chunks.
    void die();

  private:
    void add_records();

    u32 index_;
    u32 generation_;
    Slot* slot_;
};

/// What the host does from time to time in this context. True: something lingers yet.
bool tidy();

/// Ids that take part now, by node and client: whom actors send to.
class Roster {
  public:
    Roster(u32 nodes, u32 clients) : clients_(clients), ids_(nodes * clients) {}
    void put(u32 node, u32 client, ShareId id) {
        ids_[node * clients_ + client - 1].store(id.bits);
    }
    ShareId some(u32 random) const { return {ids_[random % ids_.size()].load()}; }

  private:
    u32 clients_;
    std::vector<std::atomic<u64>> ids_;
};

/// A life of `steps` random operations, and its end. `between_nodes`: references of the node outlast its clients'.
class Actor {
  public:
    Actor(u32 index, Roster& roster, u32 node, u64 seed);
    void live(int steps);

    u64 sent() const { return sent_; }
    u64 received() const { return received_; }

  private:
    enum class Own { fresh, exported, let_go, extent };
    struct Object {
        u64 bytes;
        Own state = Own::fresh;
        bool group = false;
        bool writes = false;  // of a group: we are its writer
    };

    u32 pick(u32 below) { return static_cast<u32>(random_() % below); }
    /// An address that we may pass on; 0: none.
    u64 held();
    /// One of ours that nobody has; 0: none.
    u64 fresh();
    void make_memory();
    void step();
    void send();
    void send_many();
    void receive();
    void receive_many();
    void has_received(const auto& message, ShareId from);
    void reference();
    void drop(u64 address);
    void drop_many();
    /// One reference of ours is gone; `freed`: and with it the object.
    void has_dropped(u64 address, bool freed);
    void collect();
    void make_group();
    void extend_group();
    void change_group();
    void open_topic();
    void use_topic();
    void publish(TopicUse use);
    void take(TopicUse use);

    Hosted self_;
    Roster& roster_;
    u32 node_;
    bool alone_;  // no other node
    std::mt19937_64 random_;
    std::map<u64, u32> held_;  // our references
    std::map<u64, Object> own_;
    std::vector<TopicUse> topics_;
    u64 sent_ = 0, received_ = 0;
};

}  // namespace aep::test
