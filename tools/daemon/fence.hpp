// Purpose: cuts nodes off from the pool by a command that the operator gives, or by pacemaker: a node is fenced when that has
//          succeeded, and not before.
// Who calls it: corosync_plug.cpp.
// Crash rule: a command that outlives its daemon does no harm; the next daemon gives it again.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>

#include "node/log.hpp"
#include "node/membership_engine.hpp"

namespace aep {

struct FenceOptions {
    std::string command;  // for the shell, which appends node, generation and host; empty: none
    bool pacemaker = false;
    u64 limit_ms = 60'000;  // a command that takes longer has failed

    bool is_given() const { return pacemaker || !command.empty(); }
};

class Fence {
  public:
    Fence(FenceOptions options, Log log) : options_(std::move(options)), log_(std::move(log)) {}
    ~Fence();
    Fence(const Fence&) = delete;
    Fence& operator=(const Fence&) = delete;

    /// Whether the node, in its generation, has been cut off: gives the command, looks whether it has ended, gives it again
    /// some seconds after it has failed. Never waits. `host`: its machine's name; `counts_ms`: how long ago pacemaker may have
    /// fenced it at most for that to be the end of this generation.
    bool has_cut_off(const OtherNode& node, const std::string& host, u64 counts_ms, u64 now_ms);
    /// Whether that generation of the node is being cut off just now, or has been.
    bool is_under_way(u32 node, u32 generation) const;

  private:
    struct Attempt {
        u32 generation = 0;
        pid_t pid = 0;  // of the command that runs
        u64 began_ms = 0;
        u64 again_ms = 0;  // not before
        u32 failures = 0;
        bool done = false;
    };
    void start(Attempt& attempt, const OtherNode& node, const std::string& host, u64 counts_ms,
               u64 now_ms);
    bool ended(Attempt& attempt, const OtherNode& node, u64 now_ms);
    void failed(Attempt& attempt, const OtherNode& node, const std::string& why, u64 now_ms);
    static void stop(Attempt& attempt);

    FenceOptions options_;
    Log log_;
    std::map<u32, Attempt> attempts_;  // by node
};

}  // namespace aep
