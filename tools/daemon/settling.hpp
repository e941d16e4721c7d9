// Purpose: the time after a daemon's start in which clients that died before it served are taken back. Nobody is let in
//          before: then what they had is free, names too.
// Who calls it: daemon/server.cpp.
// Crash rule: nothing is kept; the next daemon settles anew.
#pragma once

#include <vector>

#include "dsm-core/base/types.hpp"
#include "node/log.hpp"

namespace aep {

class Settling {
  public:
    explicit Settling(Log log) : log_(std::move(log)) {}

    /// `left`: the clients that are dead, or die, and could not be taken back at once.
    void begin(std::vector<u32> left);
    bool goes_on() const { return goes_on_; }
    /// Whether it is over: all are taken back, or it has lasted too long, which the log says.
    bool is_over();
    void end();

  private:
    Log log_;
    bool goes_on_ = false;
    std::vector<u32> left_;
    u64 until_ns_ = 0;
};

}  // namespace aep
