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

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/share_ops.hpp"
#include "tests/hosted/world.hpp"

namespace aep::test {

/// What an operation says, as far as tests look at it.
struct Said {
    Status status = Status::ok;
    u64 value = 0;
    u64 mask = 0;
    u64 extra = 0;
};

/// One client's way in. Its thread is inside its node's context.
class Hosted {
  public:
    /// Attaches: client `index` in slot index - 1, one generation later than before.
    explicit Hosted(u32 index);

    u32 index() const { return index_; }
    ShareId id() const { return id_of(index_, generation_); }

    Said open(const char* name);
    Said leave();
    Said send(u64 address, u64 bytes, ShareId to);
    Said receive(ShareId from = {});
    Said reference(u64 address, u64 bytes);
    Said drop(u64 address);
    Said query(u64 address);
    Said take_returned();
    Said watch();
    Said settle();
    Said group_make(u64 address, u64 bytes);
    Said group_find(u64 address);
    Said group_extend(u64 group, u64 address, u64 bytes);
    Said group_root(u64 group, u64 address, u64 bytes);
    Said group_writer(u64 group, ShareId to);
    Said claim_chunks(u32 count, u32 align = 1, u32 exact = raw(NO_CHUNK));
    Said return_chunk(u32 chunk, bool clean);

    /// As the host does when a client is dead: its references go, then its chunks.
    void die();

  private:
    Said ask(u32 number, const Request& request);
    Said share(ShareOp op, const ShareRequest& request);

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
    void receive();
    void reference();
    void drop(u64 address);
    void collect();
    void make_group();
    void extend_group();
    void change_group();

    Hosted self_;
    Roster& roster_;
    u32 node_;
    bool alone_;  // no other node
    std::mt19937_64 random_;
    std::map<u64, u32> held_;  // our references
    std::map<u64, Object> own_;
    u64 sent_ = 0, received_ = 0;
};

}  // namespace aep::test
