// Purpose: what a check finds, and how long it may look: damage may be everywhere, and lists may
//          have no end.
// Who calls it: checker.cpp, check_sharing.cpp; the daemon shows them.
// Crash rule: reads only.
#pragma once

#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "node/process_facts.hpp"

namespace aep {

/// One thing that a check found wrong.
struct Finding {
    std::string where;  // "chunk 17", "client 3"
    std::string what;
    u64 found = 0;
    u64 expected = 0;
};

class Findings {
  public:
    static constexpr usize MOST = 1000;
    static constexpr u64 ALL_DAY = ~u64{0};

    /// Until `end_ns` of the monotonic clock.
    explicit Findings(u64 end_ns) : end_ns_(end_ns) {}

    void add(std::string where, std::string what, u64 found, u64 expected) {
        if (list_.size() < MOST)
            list_.push_back({std::move(where), std::move(what), found, expected});
        else
            full_ = true;
    }
    void add(const Findings& others) {
        for (const Finding& f : others.list_) add(f.where, f.what, f.found, f.expected);
        steps_ += others.steps_;
        late_ = late_ || others.late_;
        full_ = full_ || others.full_;
    }
    bool empty() const { return list_.empty(); }

    /// Whether the check is to end here: time or room are used up. To be asked at every step.
    bool over() {
        if (++steps_ % 256 == 0) late_ = late_ || monotonic_ns() > end_ns_;
        return late_ || full_;
    }
    u64 end_ns() const { return end_ns_; }

    /// Whether the broken state lasts, which running clients may be changing: f() says that
    /// something is wrong. Waits a little while naps are left.
    template <class F>
    bool stays(F&& f) {
        constexpr int LOOKS = 64;
        for (int i = 0; i < LOOKS; ++i) {
            if (!f()) return false;
            if (i > LOOKS / 2 && naps_ != 0 && !over()) {
                --naps_;
                usleep(100);
            }
        }
        return true;
    }

    /// All of it, and whether it is all.
    std::vector<Finding> list() && {
        if (late_) list_.push_back({"check", "it did not come to its end in time", steps_, 0});
        if (full_) list_.push_back({"check", "there is more than is told", MOST, 0});
        return std::move(list_);
    }

  private:
    u64 end_ns_;
    u64 steps_ = 0;
    u32 naps_ = 5000;
    bool late_ = false;
    bool full_ = false;
    std::vector<Finding> list_;
};

}  // namespace aep
