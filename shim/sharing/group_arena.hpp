// Purpose: the allocator inside a group's memory: blocks, bins of free ones, deferred frees.
// Who calls it: group.cpp, by the thread that has the group in its hands; tests.
// Crash rule: only the writer comes here. Whoever takes over from one that was killed makes the bins and the header anew
//             from the blocks' heads (take_over). Each head is one word, and they change in such an order that
//             the blocks tile their parts at any moment. Blocks in use are not moved or touched.
//
// The memory is given as *parts*: the group's first block, which begins with the GroupHeader, and
// its extents. Blocks tile a part from end to end, at multiples of 16, each after a head of 8 bytes
// that says its length and, in a *seal* of address, length, state and the group's key, whether it
// is in use: so a pointer that is no block of the group is found out.
//
// All of it can be overwritten by whoever maps the group. What is read here is therefore never
// followed out of the parts: a damaged list or block is left alone, and costs memory.
//
// Freed blocks lie in bins: one for each length up to 1 KiB, four a doubling above. They are joined
// by a *sweep* of all blocks, when an eighth of the group was freed since the last one: linear, and
// paid for by those frees. A block that is freed while others may read it is only marked (deferred),
// with the parity of the *period* it was freed in (group_readers.hpp). A sweep takes in those of the period before when
// all who look began in this one, and all of them when nobody looks.
#pragma once

#include <span>

#include "dsm-core/base/types.hpp"
#include "dsm-core/sharing/group_header.hpp"
#include "shim/sharing/group_readers.hpp"

namespace aep {

inline constexpr usize GROUP_UNIT = 16;
/// No block has more bytes, and no part four times as many: lengths are 32 bits of units.
inline constexpr usize GROUP_LARGEST = 16 * GiB;

/// Deferred blocks that nobody can read any more.
enum class Unread {
    none,
    older,  // of the period before this one
    all,
};

/// Memory of the group, [begin, end), without the header.
struct GroupPart {
    u64 begin, end;
};

/// What a fresh part must have for a block of `bytes`; 0: no part can have so much.
usize group_bytes_for(usize bytes, usize alignment);

class GroupArena {
  public:
    /// `parts`: newest first.
    GroupArena(GroupHeader& header, std::span<const GroupPart> parts) : h_(header), parts_(parts) {}

    /// A new group, of one part.
    void begin(u64 key);
    /// The newest part has just been added.
    void part_added();
    /// The former writer may have been killed anywhere: what it left half done is made whole. What it had allocated stays.
    void take_over();

    /// A block at a multiple of `alignment` (a power of two); 0: none in what there is.
    u64 allocate(usize bytes, usize alignment);
    /// Whether a live block begins there.
    bool is_live(u64 block) const;
    /// Bytes that may be used in a live block.
    usize usable(u64 block) const;
    /// Takes a block back, now or (`deferred`) at a sweep. False: it is none.
    bool free(u64 block, bool deferred);

    /// Whether enough was freed, with those deferred blocks, to make up for a sweep.
    bool worth_a_sweep(Unread unread) const;
    /// Joins free blocks, and those deferred ones with them.
    void sweep(Unread unread);

    u64 deferred() const { return h_.deferred[0] + h_.deferred[1]; }
    u64 period() const { return h_.period; }
    /// What was deferred so far is older than what will be: as soon as nothing is older yet, or that is taken in.
    void next_period();
    /// Bytes that were deferred in the period before this one.
    u64 older() const { return h_.deferred[(h_.period + 1) % 2]; }
    GroupReaders readers() const { return GroupReaders(h_.readers); }

  private:
    enum class State : u32;
    struct Block {
        u32 units;
        State state;
    };

    Block look(u64 block) const;
    void seal(u64 block, u32 units, State state);
    u64 end_of(u64 block) const;
    u64 total() const;
    void put(u64 block, u32 units);
    u64 take(u64 units, usize alignment);
    u64 take_from(u32 bin, u64 units, usize alignment, u32 looks);
    u64 bump(u64 units, usize alignment);
    void cut(u64 block, u64 have, u64 place, u64 units);
    u64 sweep_part(const GroupPart& part, u64 end, Unread unread);
    State deferred_state() const;
    bool is_unread(State state, Unread unread) const;

    GroupHeader& h_;
    std::span<const GroupPart> parts_;
};

}  // namespace aep
