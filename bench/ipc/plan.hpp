// Purpose: what one run does, and the memory in which its processes agree when they begin and end.
// Who calls it: launcher.hpp, part.hpp, and every system, which learns here what it is to carry.
// Crash rule: the board is anonymous memory; it goes with the last process.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace aep::bench::ipc {

enum class Pattern : unsigned {
    STREAM,  ///< one to one, as many as there is room for
    WINDOW,  ///< the same, and an acknowledgement of each `window()` messages is waited for
    REPLY,   ///< there and back, one at a time
    TO_4,    ///< a stream of which each of four receives every message
    FROM_4,  ///< streams of four to one
};

/// What a process does that has to wait.
enum class Mode : unsigned { POLL, SLEEP };

/// From senders to receivers; or, where there is one of each, from the receiver to the sender.
enum class Path : unsigned { FORWARD, BACK };

constexpr unsigned MANY = 4;
constexpr unsigned PARTS = MANY + 1;  ///< processes at most
constexpr std::size_t LINE = 64;
constexpr std::size_t IN_FLIGHT = std::size_t{64} << 20;  ///< bytes, at most

struct Plan {
    Pattern pattern;
    Mode mode;
    std::size_t size;
    std::uint64_t messages;  ///< of each sender; 0: as long as the launcher says

    unsigned senders() const { return pattern == Pattern::FROM_4 ? MANY : 1; }
    unsigned receivers() const { return pattern == Pattern::TO_4 ? MANY : 1; }
    unsigned parts() const { return senders() + receivers(); }
    /// Those of them that measure: receivers, or who is answered.
    unsigned measuring() const { return pattern == Pattern::REPLY ? 1 : receivers(); }
    bool back() const { return pattern == Pattern::WINDOW || pattern == Pattern::REPLY; }
    bool polls() const { return mode == Mode::POLL; }
    /// Of the messages of one path.
    std::size_t size_of(Path path) const {
        return path == Path::BACK && pattern == Pattern::WINDOW ? LINE : size;
    }
    /// Messages that a queue is to hold, where that can be chosen.
    unsigned depth() const {
        return static_cast<unsigned>(std::clamp<std::size_t>(IN_FLIGHT / size, 4, 256));
    }
    unsigned window() const { return depth(); }
    /// Pairs of a sender and a receiver, each of which has a lane of its own where a system connects two; that of the way back
    /// comes after those there.
    unsigned lane_count(Path path) const {
        return path == Path::BACK ? 1 : std::max(senders(), receivers());
    }
    static unsigned lane(Path path, unsigned number) { return path == Path::BACK ? MANY : number; }
    static constexpr unsigned LANES = MANY + 1;
};

enum Phase : std::uint32_t { WARM, MEASURE, STOP, LEAVE };

/// What a part has measured.
struct Result {
    std::uint64_t messages, samples;
    double seconds, p50_ns, p99_ns;
};

/// `Shared`: what the launcher made for the parts: descriptors, names.
template <class Shared>
struct Board {
    static_assert(std::is_trivially_copyable_v<Shared>);
    Plan plan;
    Shared shared;
    alignas(LINE) std::atomic<std::uint32_t> phase;  ///< written by the launcher alone
    double measure_ns;                               ///< when it became MEASURE
    alignas(LINE) std::atomic<std::uint32_t> ready;  ///< parts that can begin
    std::atomic<std::uint32_t> begun;     // of those that measure: that have had a message
    std::atomic<std::uint32_t> measured;  // and that have had some that count
    std::atomic<std::uint32_t> done;      ///< parts that have sent and received all
    Result results[PARTS];
};

}  // namespace aep::bench::ipc
