// Purpose: private mode's backing: chunks of anonymous memory, mapped on demand at their window
//          addresses, upward from the window's start. Nothing is reserved ahead, so it works
//          under a small RLIMIT_AS.
// Who calls it: shim/driver/allocator.cpp through `Backing`; pool_backing.cpp when its pool cannot be
//               reached.
// Crash rule: the memory dies with the process. A fork copies it like any private memory.
#include "shim/backing/anonymous_backing.hpp"

#include <errno.h>

#include "shim/backing/huge_pages.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

constexpr u32 WORD_BITS = 64;

/// One bit a chunk. Untouched parts of it cost nothing.
struct ChunkBits {
    u64 words[MAX_CHUNKS / WORD_BITS];
    bool has(u32 chunk) const { return (words[chunk / WORD_BITS] >> (chunk % WORD_BITS) & 1) != 0; }
    void set(u32 first, u32 count) {
        for (u32 c = first; c < first + count; ++c)
            words[c / WORD_BITS] |= u64{1} << (c % WORD_BITS);
    }
    /// How many of them were set.
    u32 clear(u32 first, u32 count) {
        u32 were = 0;
        for (u32 c = first; c < first + count; ++c) {
            were += has(c) ? 1 : 0;
            words[c / WORD_BITS] &= ~(u64{1} << (c % WORD_BITS));
        }
        return were;
    }
};

ChunkBits taken;       // ours, or found occupied by somebody else's mapping
u32 window_first = 0;  // no chunk below it is ever taken
u32 lowest_free = 0;   // no chunk below it is free
u32 top = 0;           // no chunk at or above it is taken

void set_taken(u32 first, u32 count) {
    taken.set(first, count);
    if (first + count > top) top = first + count;
    if (first == lowest_free) lowest_free = first + count;
}

void set_free(u32 first, u32 count) {
    taken.clear(first, count);
    if (first < lowest_free) lowest_free = first;
}

/// The first chunk of [first, first+count) that is taken; MAX_CHUNKS if none is.
u32 first_taken(u32 first, u32 count) {
    for (u32 c = first; c < first + count && c < top; ++c)
        if (taken.has(c)) return c;
    return MAX_CHUNKS;
}

u32 held = 0;  // chunks

ChunkBits in_long_run;  // of huge pages, in runs of several chunks
u32 held_in_long_runs = 0;

/// Whether a fresh run of several chunks is made of huge pages. It is one object, of which the
/// program may use a few places only: a sparse table, or the stack of a coroutine. So not those
/// above 32 MiB, and not more than 64 MiB or half of what the heap has.
bool wants_long_run(u32 count) {
    constexpr u32 LONGEST = 32 * MiB / CHUNK_SIZE;
    constexpr u32 ALWAYS = 64 * MiB / CHUNK_SIZE;
    const u32 then = held_in_long_runs + count;
    return count <= LONGEST && (then <= ALWAYS || then <= held / 2);
}

/// Makes a fresh run one of huge pages, if it is to be.
bool make_huge(u32 first, u32 count) {
    if (!wants_huge_pages(held) || (count > 1 && !wants_long_run(count))) return false;
    const uptr address = chunk_address(ChunkIndex{first});
    if (sys::failed(sys::madvise(address, usize{count} * CHUNK_SIZE, MADV_HUGEPAGE))) return false;
    if (count > 1) {
        in_long_run.set(first, count);
        held_in_long_runs += count;
    }
    return true;
}

enum class Mapped { yes, occupied, no_memory };

/// Maps [first, first+count) and its metadata, or nothing.
Mapped map_run(u32 first, u32 count) {
    // Not NORESERVE: the system's overcommit rule refuses what can never be had, as it does to
    // libc's malloc.
    constexpr int FLAGS = MAP_PRIVATE | MAP_ANONYMOUS;
    const uptr address = chunk_address(ChunkIndex{first});
    const usize bytes = usize{count} * CHUNK_SIZE;
    const long mapped = sys::map_exactly(address, bytes, PROT_READ | PROT_WRITE, FLAGS);
    if (sys::failed(mapped)) return mapped == -EEXIST ? Mapped::occupied : Mapped::no_memory;
    if (!map_metadata(ChunkIndex{first}, count)) {
        sys::munmap(address, bytes);
        return Mapped::no_memory;
    }
    set_taken(first, count);
    held += count;
    return Mapped::yes;
}

ChunkRun run_at(u32 first, u32 count) {
    return {.first = ChunkIndex{first},
            .count = count,
            .zero = true,
            .coarse = make_huge(first, count)};
}

}  // namespace

void anonymous_begin_at(ChunkIndex first) {
    if (raw(first) > window_first) {
        window_first = raw(first);
        lowest_free = lowest_free < window_first ? window_first : lowest_free;
        top = top < window_first ? window_first : top;
    }
}

ChunkRun anonymous_provide(u32 count, u32 align, ChunkIndex at) {
    if (count == 0 || count > MAX_CHUNKS || !is_power_of_two(align)) return {};
    if (at != NO_CHUNK) {
        const u32 first = raw(at);
        const bool possible = first >= window_first && first <= MAX_CHUNKS - count &&
                              first % align == 0 && first_taken(first, count) == MAX_CHUNKS;
        return possible && map_run(first, count) == Mapped::yes ? run_at(first, count) : ChunkRun{};
    }
    u32 skip = align;  // doubles over a range that others occupy: it is crossed in few steps
    usize first = round_up(lowest_free, align);
    while (first <= MAX_CHUNKS - count) {
        const u32 candidate = static_cast<u32>(first);
        const u32 obstacle = first_taken(candidate, count);
        if (obstacle != MAX_CHUNKS) {
            first = round_up(usize{obstacle} + 1, align);
            continue;
        }
        switch (map_run(candidate, count)) {
            case Mapped::yes:
                return run_at(candidate, count);
            case Mapped::no_memory:
                return {};
            case Mapped::occupied:
                if (count == 1) set_taken(candidate, 1);  // known exactly: never asked for again
                first += skip;
                skip *= 2;
        }
    }
    return {};
}

bool anonymous_purge(uptr address, usize bytes) {
    return !sys::failed(sys::madvise(address, bytes, MADV_DONTNEED));
}

bool anonymous_release(ChunkIndex first, u32 count) {
    const uptr address = chunk_address(first);
    const usize bytes = usize{count} * CHUNK_SIZE;
    if (sys::failed(sys::munmap(address, bytes))) {
        anonymous_purge(address, bytes);  // too many mappings: keep the addresses
        return false;
    }
    set_free(raw(first), count);
    held -= count;
    held_in_long_runs -= in_long_run.clear(raw(first), count);
    return true;
}

namespace {

bool prepare_nothing() { return true; }
void do_nothing() {}

constexpr Backing ANONYMOUS = {
    .provide = anonymous_provide,
    .commit = nullptr,
    .purge = anonymous_purge,
    .release = anonymous_release,
    .fork_prepare = prepare_nothing,
    .fork_parent = do_nothing,
    .fork_child = do_nothing,
    .max_chunks = MAX_CHUNKS,
};

}  // namespace

const Backing* anonymous_backing() { return &ANONYMOUS; }

}  // namespace aep
