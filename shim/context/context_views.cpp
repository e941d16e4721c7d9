// Purpose: see context_views.hpp.
// Who calls it: join.cpp, joined_backing.cpp.
// Crash rule: see context_views.hpp.
#include "shim/context/context_views.hpp"

#include <iterator>

#include "shim/backing/domain_memory.hpp"
#include "shim/backing/freeze.hpp"
#include "shim/backing/pool_attach.hpp"
#include "shim/sys/message.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

constexpr usize ARRAYS = std::size(SLICE_ARRAYS) + 1;

/// Array `i` as one of whole chunks.
constexpr MetaArray by_chunk(usize i) {
    return i < std::size(SLICE_ARRAYS)
               ? MetaArray{SLICE_ARRAYS[i].base, SLICE_ARRAYS[i].stride * SLICES_PER_CHUNK}
               : CHUNK_DESCS;
}
static_assert([] {
    for (usize i = 0; i < ARRAYS; ++i)
        if (by_chunk(i).base % OS_PAGE_SIZE != 0 || by_chunk(i).stride % OS_PAGE_SIZE != 0)
            return false;
    return true;
}());

uptr array_views[ARRAYS];  // 0: there is none
uptr domain_view = 0;
uptr domain_place = 0;
u32 mapped_chunks = 0;  // that have metadata in the context

/// One byte a chunk, one bit an array: that metadata is this process's own. In private memory.
u8* private_arrays = nullptr;
static_assert(ARRAYS <= 8);

/// The views are gone, and what was shared still is: close_gaps() has to follow.
bool gaps_open = false;
/// What of the domain is private already; a fork that was refused may have left a part.
usize domain_moved = 0;

bool is_private(usize array, u32 chunk) { return (private_arrays[chunk] >> array & 1) != 0; }
void set_private(usize array, u32 first, u32 count) {
    for (u32 c = first; c < first + count; ++c)
        private_arrays[c] = static_cast<u8>(private_arrays[c] | 1u << array);
}

long map_view(int fd, uptr address, usize bytes, uptr& view) {
    const long at = sys::mmap(0, bytes, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE, fd,
                              context_offset_of_meta(address));
    if (sys::failed(at)) return at;
    view = static_cast<uptr>(at);
    sys::keep_from_dumps(view, bytes);
    // A child that no fork hook saw would keep the client's frozen lock.
    sys::madvise(view, bytes, MADV_DONTFORK);
    return 0;
}

bool is_own(u32 chunk) {
    const ChunkView state = pool.state(chunk);
    return state == ChunkView::ours || state == ChunkView::pinned;
}

/// Calls f(array, i, first, count) for each array and each run of chunks in [from, end) whose part
/// of it is shared and for which `wanted` holds, while f returns true.
template <class Wanted, class F>
bool for_each_shared_run(u32 from, u32 end, Wanted wanted, F f) {
    for (usize i = 0; i < ARRAYS; ++i) {
        const auto fits = [&](u32 chunk) { return !is_private(i, chunk) && wanted(chunk); };
        for (u32 first = from; first < end;) {
            u32 stop = first;
            while (stop < end && fits(stop)) ++stop;
            if (stop != first && !f(by_chunk(i), i, first, stop - first)) return false;
            first = stop + 1;
        }
    }
    return true;
}
bool any_chunk(u32) { return true; }

/// Unmaps the views that are left.
void drop_context_views() {
    if (domain_view != 0) sys::munmap(domain_view, DOMAIN_STRIDE);
    domain_view = 0;
    // Only what is still there: where parts have moved out, something else may lie by now.
    for_each_shared_run(
        0, mapped_chunks, any_chunk, [](const MetaArray& array, usize i, u32 first, u32 count) {
            if (array_views[i] == 0) return true;
            sys::munmap(array_views[i] + array.stride * first, array.stride * count);
            return true;
        });
    for (uptr& view : array_views) view = 0;
}

bool say_refused(long error) {
    message("fork: cannot make the heap's metadata private: ", Errno{error});
    return false;
}

/// Metadata of chunks that are not ours reads as zero from now on, so that a wild pointer finds
/// something, here and in every child: the system's one zero page, as mlockall sees it.
bool close_gaps() {
    constexpr int FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    gaps_open = !for_each_shared_run(
        0, mapped_chunks, any_chunk, [](const MetaArray& array, usize, u32 first, u32 count) {
            const long mapped = sys::mmap(array.base + array.stride * first, array.stride * count,
                                          PROT_READ, FLAGS);
            return !sys::failed(mapped) || say_refused(mapped);
        });
    return !gaps_open;
}

/// What is not in use yet stays without access, as it was.
bool freeze_domain() {
    const Domain& dom = *reinterpret_cast<const Domain*>(domain_place);
    usize done = 0;
    const auto move = [&](usize end, int protection) {
        const usize begin = done > domain_moved ? done : domain_moved;
        done = end;
        if (end <= begin) return true;
        if (!make_private(domain_view + begin, domain_place + begin, end - begin, protection))
            return false;
        domain_moved = end;
        return true;
    };
    return for_each_domain_part(
               dom, pool.tables.chunk_count, dom.heaps_mapped.load(std::memory_order_relaxed),
               [&](uptr address, usize bytes) {
                   const usize begin = address - domain_place;
                   return move(begin, PROT_NONE) && move(begin + bytes, PROT_READ | PROT_WRITE);
               }) &&
           move(DOMAIN_STRIDE, PROT_NONE);
}

}  // namespace

long make_context_views(int fd, const ContextConstants& header, u32 index) {
    mapped_chunks = static_cast<u32>(round_up(header.chunk_count, CHUNKS_PER_META_GROUP));
    domain_place = reinterpret_cast<uptr>(&domain_at(index));
    const long bytes = sys::mmap(0, mapped_chunks, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    if (sys::failed(bytes)) return bytes;
    private_arrays = reinterpret_cast<u8*>(bytes);
    long result = map_view(fd, domain_place, DOMAIN_STRIDE, domain_view);
    for (usize i = 0; i < ARRAYS && !sys::failed(result); ++i) {
        const MetaArray array = by_chunk(i);
        result = map_view(fd, array.base, array.stride * mapped_chunks, array_views[i]);
    }
    if (sys::failed(result)) forget_context_views();
    return result;
}

void forget_context_views() {
    if (private_arrays == nullptr) return;
    drop_context_views();
    sys::munmap(reinterpret_cast<uptr>(private_arrays), mapped_chunks);
    private_arrays = nullptr;
}

bool freeze_context_metadata() {
    if (array_views[0] == 0) return !gaps_open || close_gaps();
    const auto freeze = [](const MetaArray& array, usize i, u32 first, u32 count) {
        const usize offset = array.stride * first;
        const usize bytes = array.stride * count;
        const uptr view = array_views[i] + offset;
        const long inherited = sys::madvise(view, bytes, MADV_DOFORK);
        if (sys::failed(inherited)) return say_refused(inherited);
        if (!make_private(view, array.base + offset, bytes, PROT_READ | PROT_WRITE)) return false;
        set_private(i, first, count);
        return true;
    };
    if (!for_each_shared_run(0, pool.tables.chunk_count, is_own, freeze)) return false;
    if (domain_view != 0) {
        const long inherited =
            sys::madvise(domain_view + domain_moved, DOMAIN_STRIDE - domain_moved, MADV_DOFORK);
        if (sys::failed(inherited)) return say_refused(inherited);
        if (!freeze_domain()) return false;
        domain_view = 0;  // moved
    }
    // What is taken from now on has metadata of its own.
    drop_context_views();
    return close_gaps();
}

bool metadata_is_shared() { return array_views[0] != 0; }

bool map_private_metadata(u32 first, u32 count) {
    if (gaps_open && !close_gaps()) return false;
    constexpr int FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    return for_each_shared_run(
        first, first + count, any_chunk,
        [](const MetaArray& array, usize i, u32 begin, u32 chunks) {
            const uptr address = array.base + array.stride * begin;
            const usize bytes = array.stride * chunks;
            if (sys::failed(sys::mmap(address, bytes, PROT_READ | PROT_WRITE, FLAGS))) return false;
            sys::madvise(address, bytes, MADV_NOHUGEPAGE);  // sparse
            set_private(i, begin, chunks);
            return true;
        });
}

bool metadata_is_private(u32 chunk) { return is_private(ARRAYS - 1, chunk); }

}  // namespace aep
