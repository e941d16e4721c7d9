// Purpose: see group_arena.hpp.
// Who calls it: see group_arena.hpp.
// Crash rule: see group_arena.hpp.
#include "shim/sharing/group_arena.hpp"

#include <atomic>
#include <cstring>

#include "dsm-core/base/bits.hpp"
#include "dsm-core/base/layout.hpp"

namespace aep {

enum class GroupArena::State : u32 {
    none = 0,  // no block begins there
    live = 0x6c69'7665,
    free = 0x6672'6565,
    deferred_even = 0x6c61'7465,  // in a period of that parity
    deferred_odd = 0x6c61'746f,
};

namespace {

/// Before each block.
struct Head {
    u32 units;  // of 16 bytes, this head among them
    u32 seal;
};
static_assert(sizeof(Head) == 8);

constexpr u32 LOOKS = 8;  // at blocks of a bin whose blocks differ in length
constexpr u64 NO_BLOCK = 0;

u32 floor_log2(u64 n) { return 63 - static_cast<u32>(__builtin_clzll(n)); }

u32 bin_of(u64 units) {
    if (units < GROUP_EXACT_BINS) return static_cast<u32>(units);
    const u32 log = floor_log2(units);
    return GROUP_EXACT_BINS + (log - 6) * 4 + (static_cast<u32>(units >> (log - 2)) & 3);
}

u64 units_for(usize bytes) { return (bytes + sizeof(Head) + GROUP_UNIT - 1) / GROUP_UNIT; }

u32 seal_of(u64 block, u32 units, u64 key) {
    u64 x = (block + key * 0xa076'1d64'78bd'642f) * 0x9e37'79b9'7f4a'7c15;
    x = (x ^ x >> 32 ^ units) * 0xd6e8'feb8'6659'fd93;
    return static_cast<u32>(x >> 32);
}

u64 load(u64 at) {
    u64 word;
    std::memcpy(&word, reinterpret_cast<const void*>(at), sizeof word);
    return word;
}
void store(u64 at, u64 word) { std::memcpy(reinterpret_cast<void*>(at), &word, sizeof word); }

/// Where the first block of a part begins.
u64 first_of(const GroupPart& part) { return round_up(part.begin, GROUP_UNIT) + GROUP_UNIT; }
/// Where the last one ends.
u64 limit_of(const GroupPart& part) { return round_down(part.end, GROUP_UNIT); }

}  // namespace

usize group_bytes_for(usize bytes, usize alignment) {
    if (bytes > GROUP_LARGEST || alignment > GROUP_LARGEST) return 0;
    const usize slack = alignment <= GROUP_UNIT ? 0 : alignment;
    return (units_for(bytes) + 1) * GROUP_UNIT + slack;
}

// ---- blocks

GroupArena::Block GroupArena::look(u64 block) const {
    Head head;
    std::memcpy(&head, reinterpret_cast<const void*>(block - sizeof head), sizeof head);
    const auto state = static_cast<State>(seal_of(block, head.units, h_.key) ^ head.seal);
    const bool known = state == State::live || state == State::free ||
                       state == State::deferred_even || state == State::deferred_odd;
    return known && head.units != 0 ? Block{head.units, state} : Block{0, State::none};
}

void GroupArena::seal(u64 block, u32 units, State state) {
    const u32 sealed = seal_of(block, units, h_.key) ^ static_cast<u32>(state);
    // One store; release: the blocks that a longer one was cut into, or their contents, come before.
    std::atomic_ref<u64>(*reinterpret_cast<u64*>(block - sizeof(Head)))
        .store(u64{sealed} << 32 | units, std::memory_order_release);
}

GroupArena::State GroupArena::deferred_state() const {
    return h_.period % 2 == 0 ? State::deferred_even : State::deferred_odd;
}

bool GroupArena::is_unread(State state, Unread unread) const {
    if (state != State::deferred_even && state != State::deferred_odd) return false;
    return unread == Unread::all || (unread == Unread::older && state != deferred_state());
}

/// The end of the part in which a block may begin at that address; 0: none.
u64 GroupArena::end_of(u64 block) const {
    if (block % GROUP_UNIT != 0) return 0;
    for (const GroupPart& part : parts_)
        if (block >= first_of(part) && block < limit_of(part)) return limit_of(part);
    return 0;
}

u64 GroupArena::total() const {
    u64 bytes = 0;
    for (const GroupPart& part : parts_) bytes += part.end - part.begin;
    return bytes;
}

bool GroupArena::is_live(u64 block) const {
    const u64 end = end_of(block);
    if (end == 0) return false;
    const Block b = look(block);
    return b.state == State::live && u64{b.units} * GROUP_UNIT <= end - block;
}

usize GroupArena::usable(u64 block) const {
    const usize bytes = usize{look(block).units} * GROUP_UNIT;
    return bytes == 0 ? 0 : bytes - sizeof(Head);
}

// ---- bins

void GroupArena::put(u64 block, u32 units) {
    const u32 bin = bin_of(units);
    seal(block, units, State::free);
    store(block, h_.bins[bin]);
    h_.bins[bin] = block;
    h_.filled[bin / 64] |= u64{1} << bin % 64;
}

/// Makes `units` from `place` on a live block, and the rest of the free `have` units at `block`,
/// before and behind it, free ones: the first head last, which covers them all until then.
void GroupArena::cut(u64 block, u64 have, u64 place, u64 units) {
    const u64 before = (place - block) / GROUP_UNIT;
    const u64 behind = have - before - units;
    if (behind != 0) put(place + units * GROUP_UNIT, static_cast<u32>(behind));
    seal(place, static_cast<u32>(units), State::live);
    if (before != 0) put(block, static_cast<u32>(before));
}

/// From the first blocks of one bin; a block that is none ends the list.
u64 GroupArena::take_from(u32 bin, u64 units, usize alignment, u32 looks) {
    u64 previous = NO_BLOCK;
    for (u64 block = h_.bins[bin]; block != NO_BLOCK && looks != 0; --looks) {
        const u64 end = end_of(block);
        const Block b = end == 0 ? Block{} : look(block);
        const bool sound = b.state == State::free && u64{b.units} * GROUP_UNIT <= end - block;
        const u64 next = sound ? load(block) : NO_BLOCK;
        const u64 place = round_up(block, alignment);
        const bool fits = sound && (place - block) / GROUP_UNIT + units <= b.units;
        if (!sound || fits) {
            if (previous != NO_BLOCK)
                store(previous, next);
            else
                h_.bins[bin] = next;
            if (h_.bins[bin] == NO_BLOCK) h_.filled[bin / 64] &= ~(u64{1} << bin % 64);
        }
        if (fits) {
            cut(block, b.units, place, units);
            return place;
        }
        previous = block;
        block = next;
    }
    return NO_BLOCK;
}

u64 GroupArena::take(u64 units, usize alignment) {
    u32 bin = bin_of(units);
    while (bin < GROUP_BINS) {
        const u64 filled = h_.filled[bin / 64] >> bin % 64;
        if (filled == 0) {
            bin = (bin / 64 + 1) * 64;
            continue;
        }
        bin += lowest_bit(filled);
        if (bin >= GROUP_BINS) break;
        if (const u64 block = take_from(bin, units, alignment, LOOKS); block != NO_BLOCK)
            return block;
        ++bin;
    }
    return NO_BLOCK;
}

// ---- the untouched rest of the newest part

u64 GroupArena::bump(u64 units, usize alignment) {
    const GroupPart& part = parts_.front();
    const u64 at = h_.bump;
    if (at % GROUP_UNIT != 0 || at < first_of(part) || at >= limit_of(part)) return NO_BLOCK;
    const u64 place = round_up(at, alignment);
    if (place >= limit_of(part) || units > (limit_of(part) - place) / GROUP_UNIT) return NO_BLOCK;
    const u64 end = place + units * GROUP_UNIT;
    cut(at, (end - at) / GROUP_UNIT, place, units);
    std::atomic_ref<u64>(h_.bump).store(end,
                                        std::memory_order_release);  // after the heads before it
    return place;
}

void GroupArena::begin(u64 key) {
    h_ = {};
    h_.key = key;
    h_.period = 1;
    h_.bump = first_of(parts_.front());
}

void GroupArena::part_added() {
    if (parts_.size() > 1) {
        const GroupPart& former = parts_[1];
        const u64 at = h_.bump;
        if (at % GROUP_UNIT == 0 && at >= first_of(former) && at < limit_of(former))
            put(at, static_cast<u32>((limit_of(former) - at) / GROUP_UNIT));
    }
    // release: after that rest's head.
    std::atomic_ref<u64>(h_.bump).store(first_of(parts_.front()), std::memory_order_release);
}

void GroupArena::take_over() {
    // Killed between the part and part_added(): the untouched rest is the former part's.
    if (parts_.size() > 1 && h_.bump >= first_of(parts_[1]) && h_.bump <= limit_of(parts_[1]))
        part_added();
    if (h_.period == NOT_LOOKING || h_.period > LAST_PERIOD) h_.period = 1;
    sweep(Unread::none);
}

void GroupArena::next_period() {
    // release: a reader that notes it finds unlinked what was freed before.
    std::atomic_ref<u64>(h_.period).store(period_after(h_.period), std::memory_order_release);
}

// ---- blocks come and go

u64 GroupArena::allocate(usize bytes, usize alignment) {
    if (group_bytes_for(bytes, alignment) == 0 || parts_.empty()) return NO_BLOCK;
    const u64 units = units_for(bytes);
    const usize aligned = alignment < GROUP_UNIT ? GROUP_UNIT : alignment;
    const u64 block = take(units, aligned);
    return block != NO_BLOCK ? block : bump(units, aligned);
}

bool GroupArena::free(u64 block, bool deferred) {
    if (!is_live(block)) return false;
    const u32 units = look(block).units;
    const u64 bytes = u64{units} * GROUP_UNIT;
    if (deferred) {
        seal(block, units, deferred_state());
        h_.deferred[h_.period % 2] += bytes;
    } else {
        put(block, units);
        h_.freed += bytes;
    }
    return true;
}

// ---- sweep

bool GroupArena::worth_a_sweep(Unread unread) const {
    const u64 taken_in = unread == Unread::all ? deferred() : unread == Unread::older ? older() : 0;
    return h_.freed + taken_in >= total() / 8;
}

/// Walks the blocks of a part up to `end`; gives where the free space at its end begins.
u64 GroupArena::sweep_part(const GroupPart& part, u64 end, Unread unread) {
    u64 begin = NO_BLOCK;  // of the free space before `at`
    u64 at = first_of(part);
    const auto flush = [&] {
        if (begin != NO_BLOCK) put(begin, static_cast<u32>((at - begin) / GROUP_UNIT));
        begin = NO_BLOCK;
    };
    while (at < end) {
        const Block b = look(at);
        const u64 bytes = u64{b.units} * GROUP_UNIT;
        if (b.state == State::none || bytes > end - at) break;  // damaged: what follows is lost
        const bool usable_again = b.state == State::free || is_unread(b.state, unread);
        if (!usable_again) flush();
        if (!usable_again && b.state != State::live)
            h_.deferred[b.state == State::deferred_odd ? 1 : 0] += bytes;
        if (usable_again && begin == NO_BLOCK) begin = at;
        at += bytes;
    }
    if (at == end && begin != NO_BLOCK) return begin;
    flush();
    return end;
}

void GroupArena::sweep(Unread unread) {
    std::memset(h_.filled, 0, sizeof h_.filled);
    std::memset(h_.bins, 0, sizeof h_.bins);
    h_.freed = 0;
    h_.deferred[0] = h_.deferred[1] = 0;  // counted anew
    for (const GroupPart& part : parts_) {
        const bool newest = &part == &parts_.front();
        const u64 used = newest ? h_.bump : limit_of(part);
        if (used % GROUP_UNIT != 0 || used < first_of(part) || used > limit_of(part)) continue;
        const u64 rest = sweep_part(part, used, unread);
        if (newest)
            h_.bump = rest;
        else if (rest != used)
            put(rest, static_cast<u32>((used - rest) / GROUP_UNIT));
    }
}

}  // namespace aep
