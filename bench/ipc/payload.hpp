// Purpose: what messages hold: every byte is written by the sender and read by the receiver, with the same code whatever carries
//          it.
// Who calls it: part.hpp, raw.cpp.
// Crash rule: nothing outlives the process.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bench/dsm/timing.hpp"

namespace aep::bench::ipc {

/// A message is words that count upwards from its stamp: who sent it, and the how many-eth of that one it is, or, if it is the
/// last, how many came before.
struct Stamp {
    static constexpr unsigned SENDER_SHIFT = 48;
    static constexpr std::uint64_t LAST = std::uint64_t{1} << 47;

    std::uint64_t value;

    static Stamp of(unsigned sender, std::uint64_t number) {
        return {std::uint64_t{sender} << SENDER_SHIFT | number};
    }
    static Stamp last(unsigned sender, std::uint64_t count) {
        return {of(sender, count).value | LAST};
    }
    unsigned sender() const { return static_cast<unsigned>(value >> SENDER_SHIFT); }
    bool is_last() const { return (value & LAST) != 0; }
    std::uint64_t number() const { return value & (LAST - 1); }
};

/// Not everything that carries messages aligns them.
using Word [[gnu::aligned(1), gnu::may_alias]] = std::uint64_t;

/// `size`: a multiple of 8.
inline void fill(void* message, std::size_t size, Stamp stamp) {
    Word* const words = static_cast<Word*>(message);
    for (std::size_t i = 0; i < size / 8; ++i) words[i] = stamp.value + i;
}

/// Ends the process if any byte is not as it was written.
inline Stamp read(const void* message, std::size_t size) {
    const Word* const words = static_cast<const Word*>(message);
    const std::uint64_t count = size / 8;
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < count; ++i) sum += words[i];
    expect(sum == count * words[0] + count * (count - 1) / 2, "a message is not as it was sent");
    return {words[0]};
}

}  // namespace aep::bench::ipc
