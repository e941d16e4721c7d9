// Purpose: see world.hpp.
// Who calls it: see world.hpp.
// Crash rule: see world.hpp.
#include "aep-lib/completer/world.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <image_identity.hpp>

#include <cstdio>
#include <cstring>

#include "dsm-core/pool/superblock.hpp"
#include "shim/sys/range_lock.hpp"

namespace aep {

long map_pool_tables(int fd, const ContextConstants& header) {
    // Looked at where it is mapped: a device cannot be read.
    if (header.pool_address >= HEAP_BASE) return -EINVAL;
    void* wanted = reinterpret_cast<void*>(header.pool_address);
    const usize bytes = HEAP_BASE - header.pool_address;
    void* at = mmap(wanted, bytes, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE, fd, 0);
    if (at == MAP_FAILED) return -errno;
    const Superblock superblock = *static_cast<const Superblock*>(at);  // read once
    const bool sound = at == wanted && superblock.magic == POOL_MAGIC &&
                       superblock.layout_hash == POOL_LAYOUT_HASH &&
                       superblock.chunks_offset == bytes && shape_of(superblock) == header.pool &&
                       memcmp(superblock.uuid, header.pool_uuid, sizeof superblock.uuid) == 0;
    if (!sound) munmap(at, bytes);
    return sound ? 0 : -EINVAL;
}

long become_only_completer(int context_fd) {
    // A description of its own: the lock must end with this process, whoever shares the other one.
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", context_fd);
    const int own = open(path, O_RDWR | O_CLOEXEC);
    if (own < 0) return -errno;
    struct flock byte = range_lock(F_WRLCK, COMPLETER_LOCK_OFFSET);
    while (fcntl(own, F_OFD_SETLKW, &byte) != 0)
        if (errno != EINTR) return -errno;
    return 0;  // `own` stays open
}

namespace {

/// What is outside of the context's own range.
const char* map_heap(int context_fd, int pool_fd, const ContextConstants& header, long& error) {
    if (error = map_heap_metadata(context_fd, header); error < 0)
        return "mapping the heap's metadata";
    for (u32 i = 1; i <= header.max_clients; ++i)
        if (error = map_domain(context_fd, i); error < 0) return "mapping the domains";
    error = map_pool_tables(pool_fd, header);
    return error < 0 ? "mapping the pool's tables" : nullptr;
}

/// What a kernel maps for the members of its context.
const char* map_context(int context_fd, int image_fd, const ContextConstants& header, ImageUse use,
                        long& error) {
    // A completer's workers go on on any client's stack, and may protect nothing any more by then.
    const bool all_stacks = use == ImageUse::complete;
    if (error = map_control(context_fd, header); error < 0) return "mapping the control area";
    if (error = map_stacks(context_fd, header, all_stacks); error < 0) return "mapping the stacks";
    error = header.image_hash != BUILT_IMAGE_HASH
                ? -ENOEXEC
                : check_image_hash(image_fd, BUILT_IMAGE_HASH, BUILT_IMAGE_BYTES);
    if (error == 0) error = map_image(image_fd, BUILT_IMAGE_BYTES, use);
    return error < 0 ? "mapping the image" : nullptr;
}

}  // namespace

const char* map_world(const CompleterFds& fds, const ContextConstants& header, long& error) {
    const ImageUse use = ImageUse::complete;
    if (const char* what = map_context(fds.context, fds.image, header, use, error)) return what;
    return map_heap(fds.context, fds.pool, header, error);
}

const char* map_world_to_perform(const CompleterFds& fds, const ContextConstants& header,
                                 long& error) {
    const u32 own_slot = header.max_slots - 1;
    error = check_membership(header);
    const bool is_member = error != -ENOMEM;  // else nothing is mapped there
    if (!is_member) {
        const ImageUse use = ImageUse::enter;
        if (const char* what = map_context(fds.context, fds.image, header, use, error)) return what;
    } else if (error < 0) {
        return "what the kernel has mapped";
    }
    error = is_member ? commit_stack(own_slot) : open_stack(own_slot);
    if (error < 0) return "memory for its stack";
    return map_heap(fds.context, fds.pool, header, error);
}

}  // namespace aep
