// Purpose: see hostile_backing.hpp.
// Who calls it: the property tests, the fuzz target.
// Crash rule: its memory dies with the process.
#include "tests/property/hostile_backing.hpp"

#include <mutex>

#include "shim/sys/syscall.hpp"

namespace aep::test {

Hostility hostility;
HostileCounts hostile_counts;

namespace {

constexpr u32 PLACES = 1024;  // chunk indices in use: the window's first 4 GiB
bool held[PLACES];
std::mutex one_at_a_time;

u64 next_random() {
    u64 x = hostility.seed;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    hostility.seed = x;
    return x * 0x2545'f491'4f6c'dd1d >> 32;
}

bool chance(u32 of_256) { return next_random() % 256 < of_256; }

bool all_free(u32 first, u32 count) {
    for (u32 c = first; c < first + count; ++c)
        if (held[c]) return false;
    return true;
}

/// The first place for the run, after a hole if one is wanted.
u32 find_place(u32 count, u32 align) {
    u32 skip = chance(hostility.holes) ? 1 + static_cast<u32>(next_random() % 3) : 0;
    for (u32 first = 0; first + count <= PLACES; first += align)
        if (all_free(first, count) && skip-- == 0) return first;
    return PLACES;
}

ChunkRun provide(u32 count, u32 align, ChunkIndex at) {
    const std::scoped_lock lock(one_at_a_time);
    const bool fixed = at != NO_CHUNK;
    const u32 first = fixed ? raw(at) : find_place(count, align);
    const bool possible = count <= PLACES && first <= PLACES - count && first % align == 0 &&
                          all_free(first, count) &&
                          hostile_counts.chunks_held + count <= hostility.max_chunks_held;
    if (!possible || chance(hostility.refuse_chunks) || !map_metadata(ChunkIndex{first}, count)) {
        ++hostile_counts.refused;
        return {};
    }
    const uptr address = chunk_address(ChunkIndex{first});
    const usize bytes = usize{count} * CHUNK_SIZE;
    constexpr int FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    if (sys::failed(sys::mmap(address, bytes, PROT_READ | PROT_WRITE, FLAGS))) return {};
    const bool dirty = chance(hostility.dirty_chunks);
    if (dirty)  // one word a slice's OS page is enough to be noticed
        for (uptr p = address; p < address + bytes; p += OS_PAGE_SIZE)
            *reinterpret_cast<u64*>(p) = 0xdead'beef'dead'beef;
    sys::mprotect(address, bytes, PROT_NONE);
    for (u32 c = first; c < first + count; ++c) held[c] = true;
    hostile_counts.chunks_held += count;
    ++hostile_counts.provided;
    return {.first = ChunkIndex{first},
            .count = count,
            .zero = !dirty,
            .coarse = chance(hostility.coarse_chunks)};
}

bool commit(uptr address, usize bytes) {
    const std::scoped_lock lock(one_at_a_time);
    if (chance(hostility.refuse_commit)) {
        ++hostile_counts.commits_refused;
        return false;
    }
    ++hostile_counts.committed;
    return !sys::failed(sys::mprotect(address, bytes, PROT_READ | PROT_WRITE));
}

bool purge(uptr address, usize bytes) {
    const std::scoped_lock lock(one_at_a_time);
    const bool fails = chance(hostility.fail_purge);
    // A purge that fails may have done its work in part.
    const usize done = fails ? round_down(next_random() % (bytes + 1), SLICE_SIZE) : bytes;
    if (done != 0) {
        sys::madvise(address, done, MADV_DONTNEED);
        sys::mprotect(address, done, PROT_NONE);
    }
    ++(fails ? hostile_counts.purges_failed : hostile_counts.purged);
    return !fails;
}

bool release(ChunkIndex first, u32 count) {
    const std::scoped_lock lock(one_at_a_time);
    if (chance(hostility.fail_release)) {
        ++hostile_counts.releases_failed;
        return false;
    }
    sys::munmap(chunk_address(first), usize{count} * CHUNK_SIZE);
    for (u32 c = raw(first); c < raw(first) + count; ++c) held[c] = false;
    hostile_counts.chunks_held -= count;
    ++hostile_counts.released;
    return true;
}

bool fork_prepare() { return true; }
void nothing() {}

constexpr Backing HOSTILE = {
    .provide = provide,
    .commit = commit,
    .purge = purge,
    .release = release,
    .fork_prepare = fork_prepare,
    .fork_parent = nothing,
    .fork_child = nothing,
    .max_chunks = PLACES,
};

}  // namespace

const Backing* hostile_backing() { return &HOSTILE; }

}  // namespace aep::test
