// Purpose: an input of a fuzz target as a row of values, and edits of memory made of them.
// Who calls it: tests/fuzz/fuzz_*.cpp.
// Crash rule: no state.
#pragma once

#include <cstring>

#include "dsm-core/base/types.hpp"

namespace aep::fuzz {

/// At its end every value is 0.
class Input {
  public:
    Input(const u8* data, usize bytes) : at_(data), end_(data + bytes) {}

    template <class T>
    T take() {
        T value{};
        const usize left = static_cast<usize>(end_ - at_);
        const usize bytes = left < sizeof value ? left : sizeof value;
        std::memcpy(&value, at_, bytes);
        at_ += bytes;
        return value;
    }
    bool empty() const { return at_ == end_; }
    const u8* at() const { return at_; }
    usize left() const { return static_cast<usize>(end_ - at_); }
    void skip(usize bytes) { at_ += bytes < left() ? bytes : left(); }

  private:
    const u8* at_;
    const u8* end_;
};

/// Values that lead somewhere: the ends of ranges, and small numbers.
inline u64 strange(Input& input) {
    constexpr u64 VALUES[] = {0,
                              1,
                              2,
                              7,
                              ~u64{0},
                              ~u64{0} - 1,
                              u64{1} << 63,
                              0xffff'ffff,
                              0xffff'fffe,
                              0x7fff'ffff,
                              0xff'ffff,
                              0xffff,
                              u64{1} << 32,
                              u64{1} << 40,
                              0x4000'0000'0000,
                              0x1200'0000'0000};
    return VALUES[input.take<u8>() % 16];
}

/// One edit inside of [to, to + bytes), 8 of them at least: an operation, a place, a value.
inline void edit(Input& input, u8* to, usize bytes) {
    const u8 operation = input.take<u8>();
    const usize place = input.take<u32>() % bytes;
    u8* const word = to + (place < bytes - 8 ? place : bytes - 8) / 8 * 8;
    u64 value;
    switch (operation % 6) {
        case 0:
            to[place] = input.take<u8>();
            return;
        case 1:
            value = strange(input);
            break;
        case 2:
            value = input.take<u64>();
            break;
        case 3:
            std::memcpy(&value, word, sizeof value);
            value ^= u64{1} << (input.take<u8>() % 64);
            break;
        case 4:
            value = input.take<u32>() | u64{input.take<u8>()} << 32;
            break;
        default: {  // half of a word
            const u32 half = static_cast<u32>(strange(input));
            std::memcpy(word + (operation >> 7) * 4, &half, sizeof half);
            return;
        }
    }
    std::memcpy(word, &value, sizeof value);
}

}  // namespace aep::fuzz
