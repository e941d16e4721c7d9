// Purpose: see pool_attach.hpp.
// Who calls it: pool_backing.cpp, joined_backing.cpp.
// Crash rule: mappings die with the process.
#include "shim/backing/pool_attach.hpp"

#include <errno.h>

#include "shim/backing/anonymous_backing.hpp"
#include "shim/backing/headroom.hpp"
#include "shim/sys/message.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {

constinit PoolHere pool{};

namespace {

std::atomic<u8>* mark = nullptr;  // 1 here, 0 in a child that no fork hook saw (MADV_WIPEONFORK)

/// Where the dormant private view is put if the range is free; any other place will do.
constexpr uptr PRIVATE_VIEW_HINT = 0x2200'0000'0000;

/// Private zero memory wherever there is room. 0 if there is none.
uptr map_private(usize bytes) {
    const long at =
        sys::mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    return sys::failed(at) ? 0 : static_cast<uptr>(at);
}

bool say_unmapped(const char* what, long error) {
    const usize bytes = pool.file.superblock.room_bytes;
    message("pool ", pool.file.path, ": cannot map ", what, " (", Bytes{bytes}, " at ",
            Hex{HEAP_BASE}, "): ", Errno{error},
            error == -ENOMEM ? ": raise ulimit -v or use a smaller pool" : "",
            error == -EEXIST ? ": another mapping of this process is in the way" : "",
            error == -ENOSPC ? ": no memory for its tables on the file system" : "");
    return false;
}

/// Maps everything a process with a pool needs. False after a message.
bool map_everything(int fd) {
    const Superblock& s = pool.file.superblock;
    const usize heap_bytes = usize{s.chunk_count} * CHUNK_SIZE;
    const usize table_bytes = round_up(s.chunk_count, OS_PAGE_SIZE);
    const uptr local = map_private(table_bytes + OS_PAGE_SIZE);
    if (local == 0) return say_unmapped("its local tables", -ENOMEM);
    pool.here = reinterpret_cast<u8*>(local);
    mark = reinterpret_cast<std::atomic<u8>*>(local + table_bytes);
    const long wiped = sys::madvise(local + table_bytes, OS_PAGE_SIZE, MADV_WIPEONFORK);
    if (sys::failed(wiped) && wiped != -EINVAL)  // kernels before 4.14 do not know it
        return say_unmapped("its local tables", wiped);
    const long mapped = map_pool_file(pool.file, fd, nullptr);
    if (sys::failed(mapped)) return say_unmapped("it", mapped);
    pool.attached = true;
    if (!pool.file.is_copied_by_fork()) {
        // Without access until freeze moves parts of it: costs neither memory nor a promise of
        // memory.
        const long view = sys::mmap(PRIVATE_VIEW_HINT, heap_bytes, PROT_NONE,
                                    MAP_PRIVATE | MAP_NORESERVE, fd, s.chunks_offset);
        if (sys::failed(view)) return say_unmapped("a second view of it", view);
        pool.private_view = static_cast<uptr>(view);
        sys::keep_from_dumps(pool.private_view, heap_bytes);
    }
    return true;
}

/// The words of a freshly mapped pool. False after a message.
bool tables_are_sound() {
    const Superblock& s = pool.file.superblock;
    pool.tables = tables_of(reinterpret_cast<void*>(pool_mapping_base(pool.file)), shape_of(s));
    const PoolFault fault = verify_words(pool.tables, s);
    if (fault) {
        message("pool ", pool.file.path, ": ", fault.field, " at offset ", fault.offset, " is ",
                Hex{fault.found}, ", expected for example ", Hex{fault.expected}, ": ",
                fault.advice);
    }
    return !fault;
}

}  // namespace

bool map_whole_pool(int fd) {
    if (!map_everything(fd) || !tables_are_sound()) {
        unmap_whole_pool();
        return false;
    }
    mark->store(1, std::memory_order_relaxed);
    anonymous_begin_at(
        ChunkIndex{static_cast<u32>(round_up(pool.tables.chunk_count, CHUNKS_PER_META_GROUP))});
    return true;
}

long map_pool_again(int fd) {
    const long mapped = map_pool_file(pool.file, fd, pool.here);
    if (!sys::failed(mapped)) pool.attached = true;
    return mapped;
}

void unmap_whole_pool() {
    const Superblock& s = pool.file.superblock;
    if (pool.attached) unmap_pool_file(pool.file, nullptr, pool_mapping_end(pool.file));
    if (pool.here != nullptr) {
        sys::munmap(reinterpret_cast<uptr>(pool.here),
                    round_up(s.chunk_count, OS_PAGE_SIZE) + OS_PAGE_SIZE);
    }
    if (pool.private_view != 0) sys::munmap(pool.private_view, usize{s.chunk_count} * CHUNK_SIZE);
    pool.attached = false;
    pool.here = nullptr;
    pool.private_view = 0;
    mark = nullptr;
}

long open_chunks_here(u32 first, u32 count) {
    const uptr address = chunk_address(ChunkIndex{first});
    const usize bytes = usize{count} * CHUNK_SIZE;
    const long opened = sys::mprotect(address, bytes, PROT_READ | PROT_WRITE);
    if (!sys::failed(opened)) sys::madvise(address, bytes, MADV_DODUMP);
    pool.bytes_open.fetch_add(bytes, std::memory_order_relaxed);
    return opened;
}

void close_chunks_here(u32 first, u32 count, bool accessible) {
    const uptr address = chunk_address(ChunkIndex{first});
    const usize bytes = usize{count} * CHUNK_SIZE;
    pool.bytes_open.fetch_sub(bytes, std::memory_order_relaxed);
    sys::keep_from_dumps(address, bytes);
    const bool writable = accessible && !pool.guests_read_only.load(std::memory_order_relaxed);
    if (!writable) sys::mprotect(address, bytes, accessible ? PROT_READ : PROT_NONE);
}

bool pool_is_scarce() {
    if (!pool.attached) return false;  // a child that cannot reach it any more
    constexpr u32 LOOKS = 64;
    const u32 chunks = pool.tables.chunks_there();
    const u32 looks = chunks < LOOKS ? chunks : LOOKS;
    u32 taken = 0;
    for (u32 i = 0; i < looks; ++i) {
        const u32 chunk = static_cast<u32>(u64{chunks} * i / looks);
        taken += pool.tables.chunk(chunk).state() == ChunkState::free ? 0 : 1;
    }
    return taken * 2 > looks;
}

void pool_in_child() {
    mark->store(1, std::memory_order_relaxed);
    forget_cgroup_rooms();
    // Not inherited: the shared mapping with the tables, and the token of a node that froze
    // nothing.
    pool.attached = false;
    pool.has_node = false;
}

bool in_attached_process() { return mark == nullptr || mark->load(std::memory_order_relaxed) != 0; }

const PoolHere& pool_here() { return pool; }

}  // namespace aep
