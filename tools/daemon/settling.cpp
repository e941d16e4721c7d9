// Purpose: see settling.hpp.
// Who calls it: see settling.hpp.
// Crash rule: see settling.hpp.
#include "tools/daemon/settling.hpp"

#include <fmt/format.h>

#include "dsm-core/context/format.hpp"
#include "node/process_facts.hpp"

namespace aep {
namespace {

// Clients wait 5 s for an answer.
constexpr u64 LONGEST_NS = 3'000'000'000;

bool is_settled(u32 client) {
    const u32 state = client_at(client).state.load();
    return state == static_cast<u32>(ClientState::free) ||
           state == static_cast<u32>(ClientState::frozen);
}

}  // namespace

void Settling::begin(std::vector<u32> left) {
    left_ = std::move(left);
    until_ns_ = monotonic_ns() + LONGEST_NS;
    goes_on_ = !left_.empty();
}

bool Settling::is_over() {
    std::erase_if(left_, is_settled);
    if (left_.empty()) return true;
    if (monotonic_ns() < until_ns_) return false;
    log_(LogLevel::warning,
         fmt::format("{} clients that died before this daemon served are not taken "
                     "back yet: others are let in all the same",
                     left_.size()));
    return true;
}

void Settling::end() {
    goes_on_ = false;
    left_.clear();
}

}  // namespace aep
