// Purpose: the fundamental names every layer uses: fixed-width integers, strong index types, byte
// units. Who calls it: everyone. Crash rule: no state.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aep {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i32 = std::int32_t;
using i64 = std::int64_t;
using usize = std::size_t;
using uptr = std::uintptr_t;

inline constexpr usize KiB = 1024;
inline constexpr usize MiB = 1024 * KiB;
inline constexpr usize GiB = 1024 * MiB;
inline constexpr usize TiB = 1024 * GiB;

/// Index of a 4 MiB chunk in the heap window (and in the pool's chunk table).
enum class ChunkIndex : u32 {};
inline constexpr ChunkIndex NO_CHUNK{0xffff'ffff};

/// Index of a 64 KiB slice in the heap window: chunk index * 64 + position in the chunk.
enum class SliceIndex : u32 {};

constexpr u32 raw(ChunkIndex c) { return static_cast<u32>(c); }
constexpr u32 raw(SliceIndex s) { return static_cast<u32>(s); }

constexpr usize round_up(usize n, usize power_of_two) {
    return (n + power_of_two - 1) & ~(power_of_two - 1);
}
constexpr usize round_down(usize n, usize power_of_two) { return n & ~(power_of_two - 1); }
constexpr bool is_power_of_two(usize n) { return n != 0 && (n & (n - 1)) == 0; }

}  // namespace aep

#define AEP_LIKELY(x) __builtin_expect(!!(x), 1)
#define AEP_UNLIKELY(x) __builtin_expect(!!(x), 0)
