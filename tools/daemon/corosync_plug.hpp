// Purpose: corosync as the membership engine: whether this node has quorum, which machines are out of sight, and that those
//          are cut off before anybody recovers what they held.
// Who calls it: daemon/main.cpp; membership and the loop, as an engine.
// Crash rule: see fence.hpp and tools/corosync/main.cpp.
//
// A machine is lost when corosync's partition, which has quorum, is without it. After a lease the first daemon of the group
// that is left cuts it off; if that one dies, the next one begins anew. A lease is longer than a machine needs to see by
// itself that it has lost quorum, and to stop: begin() sees to that.
#pragma once

#include <array>
#include <string>

#include "node/log.hpp"
#include "node/membership_engine.hpp"
#include "node/unique_fd.hpp"
#include "tools/corosync/view.hpp"
#include "tools/daemon/fence.hpp"

namespace aep {

class CorosyncEngine final : public MembershipEngine {
  public:
    /// Starts the helper and waits until it has said what it sees. Throws NodeError.
    CorosyncEngine(const FenceOptions& fence, Log log);
    ~CorosyncEngine() override;
    CorosyncEngine(const CorosyncEngine&) = delete;
    CorosyncEngine& operator=(const CorosyncEngine&) = delete;

    /// The pool's node that this machine is, from 0 on. Throws NodeError: corosync's id is none.
    u32 own_node() const;

    const char* name() const override { return "corosync"; }
    void begin(const Superblock& pool) override;
    bool has_quorum() override;
    NodeStanding judge(const OtherNode& other, u64 now_ms) override;
    int event_fd() const override { return events_.get(); }
    void on_event() override;

  private:
    void start_helper();
    void end_helper();
    void wait_for_view(const char* what, bool joined);
    void join_group();

    Log log_;
    Fence fence_;
    UniqueFd events_;  // an epoll that holds the helper's socket, whichever runs
    UniqueFd socket_;
    pid_t helper_ = 0;
    u64 started_ms_ = 0;
    ViewMessage view_{};
    u64 heard_ms_ = 0;  // when the helper said something last; 0: never
    bool has_group_ = false;
    GroupMessage group_{};
    u64 lease_ms_ = 0;
    u64 sees_ms_ = 0;  // so long a machine that is gone may be in sight
    /// Since when a node is out of sight, in one life of it.
    struct Lost {
        u32 generation = 0;
        u64 known_ms = 0;  // since when that life is known
        u64 since_ms = 0;  // 0: it is in sight
    };
    std::array<Lost, MOST_HOSTS> lost_{};
};

}  // namespace aep
