// Purpose: see context_file.hpp.
// Who calls it: the daemon and its tools, the completer, a client that joins.
// Crash rule: see context_file.hpp.
#include "shim/context/context_file.hpp"

#include <elf.h>
#include <errno.h>

#include <iterator>

#include "dsm-core/pool/superblock.hpp"
#include "dsm-core/sharing/format.hpp"
#include "shim/backing/domain_memory.hpp"
#include "shim/backing/populate.hpp"
#include "shim/sys/read_all.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

constexpr const char* FOREIGN = "it is no context: name another";
constexpr const char* OLD = "another version made it: end its clients and remove it";
constexpr const char* DAMAGED = "it is damaged: end its clients and remove it";

constexpr int SHARED_FLAGS = MAP_SHARED | MAP_NORESERVE;

long map_part(int fd, uptr address, usize bytes, u64 offset, int protection) {
    const long mapped = sys::map_exactly(address, bytes, protection, SHARED_FLAGS, fd, offset);
    if (sys::failed(mapped)) return mapped;
    sys::keep_from_dumps(address, bytes);
    const long advised = sys::madvise(address, bytes, MADV_DONTFORK);
    if (!sys::failed(advised)) return 0;
    sys::munmap(address, bytes);
    return advised;
}

u64 checksum_of(const ContextConstants& header) {
    return fnv1a(reinterpret_cast<const u8*>(&header), offsetof(ContextConstants, checksum));
}

void copy_text(char* to, usize room, const char* from) {
    usize i = 0;
    for (; from[i] != '\0' && i < room - 1; ++i) to[i] = from[i];
    to[i] = '\0';
}

long hash_file(int fd, u64 bytes, u64& hash) {
    u8 part[4096];
    hash = FNV_BASIS;
    for (u64 at = 0; at < bytes;) {
        const usize count = bytes - at < sizeof part ? bytes - at : sizeof part;
        if (!sys::read_all(fd, part, count, at)) return -ENOEXEC;
        hash = fnv1a(part, count, hash);
        at += count;
    }
    return 0;
}

/// An OS page that traps at every instruction, at the shadow entry's place.
long map_trap_page() {
    constexpr int FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    const long at = sys::mmap(SHADOW_ENTRY, OS_PAGE_SIZE, PROT_READ | PROT_WRITE, FLAGS);
    if (sys::failed(at)) return at;
    u8* page = reinterpret_cast<u8*>(SHADOW_ENTRY);
    for (usize i = 0; i < OS_PAGE_SIZE; i += 2) {  // ud2
        page[i] = 0x0f;
        page[i + 1] = 0x0b;
    }
    return sys::mprotect(SHADOW_ENTRY, OS_PAGE_SIZE, PROT_READ | PROT_EXEC);
}

/// Whether the limits are within what a context can have.
bool has_room(const ContextConstants& h) {
    return h.max_clients != 0 && h.max_clients < MAX_DOMAINS - 1 && h.max_slots > 1 &&
           usize{h.max_slots} <= (DESCS_OFFSET - STACKS_OFFSET) / STACK_STRIDE &&
           h.chunk_count != 0 && h.chunk_count <= MAX_CHUNKS && h.chunk_count == h.pool.chunk_count;
}

/// Lays the parts out behind each other, for the limits that are in it. False: no room.
bool lay_out(ContextConstants& h) {
    if (!has_room(h)) return false;
    const ShareLayout share =
        share_layout(h.max_clients, h.max_slots, h.chunk_count, h.era_objects);
    h.clients_offset = round_up(SHARE_OFFSET + share.present_bytes, OS_PAGE_SIZE);
    h.slots_offset =
        round_up(h.clients_offset + (usize{h.max_clients} + 1) * sizeof(ClientEntry), OS_PAGE_SIZE);
    h.owners_offset = round_up(h.slots_offset + usize{h.max_slots} * SLOT_STRIDE, OS_PAGE_SIZE);
    h.log_offset = round_up(h.owners_offset + usize{h.chunk_count} * sizeof(u32), OS_PAGE_SIZE);
    h.control_bytes = round_up(h.log_offset + sizeof(LogRing), 2 * MiB);
    h.window_bytes = LOGS_OFFSET + usize{h.max_slots} * LOG_STRIDE;
    return h.control_bytes <= RECORDS_OFFSET &&
           RECORDS_OFFSET + share.record_bytes <= LOGS_OFFSET && h.window_bytes <= CONTROL_WINDOW;
}

/// The first part that does not lie where the limits put it.
ContextFault misplaced_part(const ContextConstants& h, const char* advice) {
    ContextConstants sound = h;
    if (!lay_out(sound)) return {"number of clients, slots or chunks", h.max_clients, 0, advice};
    const struct {
        const char* name;
        u64 found, expected;
    } parts[] = {
        {"clients' offset", h.clients_offset, sound.clients_offset},
        {"slots' offset", h.slots_offset, sound.slots_offset},
        {"owners' offset", h.owners_offset, sound.owners_offset},
        {"log's offset", h.log_offset, sound.log_offset},
        {"control area's size", h.control_bytes, sound.control_bytes},
        {"window's size", h.window_bytes, sound.window_bytes},
    };
    for (const auto& part : parts)
        if (part.found != part.expected) return {part.name, part.found, part.expected, advice};
    return {};
}

/// A page of this process's own with a copy of the constants, which nobody writes.
long map_constants(const ContextConstants& constants) {
    const long mapped = sys::map_exactly(control_base(), CONTEXT_CONSTANTS_BYTES,
                                         PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    if (sys::failed(mapped)) return mapped;
    __builtin_memcpy(reinterpret_cast<void*>(control_base()), &constants, sizeof constants);
    const long advised = sys::madvise(control_base(), CONTEXT_CONSTANTS_BYTES, MADV_DONTFORK);
    if (sys::failed(advised)) return advised;
    return sys::mprotect(control_base(), CONTEXT_CONSTANTS_BYTES, PROT_READ);
}

bool image_is_right() {
    const ImageInfo& info = image_info();
    return info.magic == IMAGE_MAGIC && info.version == IMAGE_VERSION &&
           info.layout_hash == CONTEXT_LAYOUT_HASH;
}

}  // namespace

long format_context(int fd, const ContextPlan& plan) {
    ContextConstants h{};
    h.magic = CONTEXT_MAGIC;
    h.version = CONTEXT_VERSION;
    h.header_bytes = sizeof(ContextConstants);
    h.layout_hash = CONTEXT_LAYOUT_HASH;
    h.image_hash = plan.image_hash;
    if (const long got = sys::getrandom(h.uuid, sizeof h.uuid, 0); sys::failed(got)) return got;
    copy_text(h.name, sizeof h.name, plan.name);
    h.uid = plan.uid;
    h.max_clients = plan.max_clients;
    h.max_slots = plan.max_slots + 1;  // and the host's
    h.chunk_count = plan.pool.chunk_count;
    h.pool = plan.pool;
    h.pool_address = plan.pool_address;
    __builtin_memcpy(h.pool_uuid, plan.pool_uuid, sizeof h.pool_uuid);
    h.era_node = plan.era_node;
    h.era_objects = plan.era_objects;
    if (!lay_out(h)) return -EINVAL;
    h.checksum = checksum_of(h);

    if (const long cut = sys::ftruncate(fd, CONTEXT_FILE_BYTES); sys::failed(cut)) return cut;
    // The host's stack and log: recovery must be possible when there is no memory left.
    const uptr stack = stack_of_slot(plan.max_slots) + STACK_BYTES - STACK_COMMITTED;
    const struct {
        u64 at;
        usize bytes;
    } of_the_host[] = {{STACKS_OFFSET + (stack - stacks_base()), STACK_COMMITTED},
                       {log_of_slot(plan.max_slots) - control_base(), LOG_STRIDE}};
    for (const auto& part : of_the_host)
        if (const long kept = sys::fallocate(fd, 0, part.at, part.bytes); sys::failed(kept))
            return kept;
    const long at = sys::mmap(0, h.control_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (sys::failed(at)) return at;
    const uptr address = static_cast<uptr>(at);
    const bool present = populate(address, h.control_bytes);
    if (present) {
        ContextHeader& whole = *reinterpret_cast<ContextHeader*>(address);
        static_cast<ContextConstants&>(whole) = h;
        whole.state = static_cast<u32>(ContextState::live);
        whole.context_limit = plan.context_limit;
        whole.client_limit = plan.client_limit;
        for (u32 i = 0; i < h.max_slots; ++i) {
            Slot& slot =
                *reinterpret_cast<Slot*>(address + h.slots_offset + usize{i} * SLOT_STRIDE);
            slot.stack_top = stack_top_of(i);
        }
    }
    sys::munmap(address, h.control_bytes);
    return present ? 0 : -ENOSPC;
}

ContextFault verify_constants(const ContextConstants& h) {
    if (h.magic != CONTEXT_MAGIC) return {"magic", h.magic, CONTEXT_MAGIC, FOREIGN};
    if (h.version != CONTEXT_VERSION) return {"version", h.version, CONTEXT_VERSION, OLD};
    if (h.layout_hash != CONTEXT_LAYOUT_HASH)
        return {"layout hash", h.layout_hash, CONTEXT_LAYOUT_HASH, OLD};
    if (h.checksum != checksum_of(h)) return {"checksum", h.checksum, checksum_of(h), DAMAGED};
    return misplaced_part(h, DAMAGED);
}

ContextFault verify_context(int fd, ContextConstants& h) {
    struct stat status {};
    u32 state = 0;
    constexpr u64 STATE_OFFSET = CONTEXT_CONSTANTS_BYTES + offsetof(ContextWords, state);
    if (sys::failed(sys::fstat(fd, &status)) || !sys::read_all(fd, &h, sizeof h, 0) ||
        !sys::read_all(fd, &state, sizeof state, STATE_OFFSET))
        return {"header", static_cast<u64>(status.st_size), CONTEXT_FILE_BYTES, FOREIGN};
    if (const ContextFault fault = verify_constants(h)) return fault;
    if (static_cast<u64>(status.st_size) != CONTEXT_FILE_BYTES)
        return {"size", static_cast<u64>(status.st_size), CONTEXT_FILE_BYTES, DAMAGED};
    if (state < static_cast<u32>(ContextState::live) ||
        state > static_cast<u32>(ContextState::fenced))
        return {"state", state, static_cast<u64>(ContextState::live), DAMAGED};
    return {};
}

long map_control(int fd, const ContextConstants& h) {
    constexpr usize OWN = CONTEXT_CONSTANTS_BYTES;
    long result =
        map_part(fd, control_base() + OWN, h.window_bytes - OWN, OWN, PROT_READ | PROT_WRITE);
    if (sys::failed(result)) return result;
    // Nothing lies between the control area and the records.
    sys::mprotect(control_base() + h.control_bytes, RECORDS_OFFSET - h.control_bytes, PROT_NONE);
    result = map_constants(h);
    if (sys::failed(result)) sys::munmap(control_base(), h.window_bytes);
    return result;
}

long protect_records(bool accessible) {
    return sys::mprotect(control_base() + RECORDS_OFFSET, LOGS_OFFSET - RECORDS_OFFSET,
                         accessible ? PROT_READ | PROT_WRITE : PROT_NONE);
}

long close_logs(const ContextConstants& h) {
    return sys::mprotect(log_of_slot(0), usize{h.max_slots} * LOG_STRIDE, PROT_NONE);
}

long map_stacks(int fd, const ContextConstants& h, bool accessible) {
    const usize bytes = usize{h.max_slots} * STACK_STRIDE;
    const long result = map_part(fd, stacks_base(), bytes, STACKS_OFFSET,
                                 accessible ? PROT_READ | PROT_WRITE : PROT_NONE);
    return result;
}

long open_stack(u32 slot) {
    const uptr stack = stack_of_slot(slot);
    long opened = sys::mprotect(stack, STACK_BYTES, PROT_READ | PROT_WRITE);
    if (sys::failed(opened)) return opened;
    opened = sys::mprotect(log_of_slot(slot), LOG_STRIDE, PROT_READ | PROT_WRITE);
    return sys::failed(opened) ? opened : commit_stack(slot);
}

void close_stack(u32 slot) {
    sys::mprotect(stack_of_slot(slot), STACK_BYTES, PROT_NONE);
    sys::mprotect(log_of_slot(slot), LOG_STRIDE, PROT_NONE);
}

long commit_stack(u32 slot) {
    const uptr stack = stack_of_slot(slot);
    if (!populate(stack + STACK_BYTES - STACK_COMMITTED, STACK_COMMITTED) ||
        !populate(log_of_slot(slot), LOG_STRIDE))
        return -ENOMEM;
    // Computed, and said anew: what the slot says of its stack, clients can write.
    *reinterpret_cast<uptr*>(stack_top_of(slot)) = reinterpret_cast<uptr>(&slot_at(slot));
    slot_at(slot).stack_top = stack_top_of(slot);
    return 0;
}

long map_heap_metadata(int fd, const ContextConstants& h, bool accessible) {
    const int protection = accessible ? PROT_READ | PROT_WRITE : PROT_NONE;
    const usize chunks = round_up(h.chunk_count, CHUNKS_PER_META_GROUP);
    const auto bytes_of = [chunks](const MetaArray& array) {
        return array.stride * SLICES_PER_CHUNK * chunks;
    };
    long result = map_part(fd, CHUNK_DESCS.base, CHUNK_DESCS.stride * chunks,
                           context_offset_of_meta(CHUNK_DESCS.base), protection);
    if (sys::failed(result)) return result;
    for (usize i = 0; i < std::size(SLICE_ARRAYS); ++i) {
        const MetaArray& array = SLICE_ARRAYS[i];
        const usize bytes = bytes_of(array);
        result = map_part(fd, array.base, bytes, context_offset_of_meta(array.base), protection);
        if (sys::failed(result)) {  // all or nothing
            while (i-- != 0) sys::munmap(SLICE_ARRAYS[i].base, bytes_of(SLICE_ARRAYS[i]));
            sys::munmap(CHUNK_DESCS.base, CHUNK_DESCS.stride * chunks);
            return result;
        }
        sys::madvise(array.base, bytes, MADV_NOHUGEPAGE);  // sparse
    }
    return 0;
}

long map_domain(int fd, u32 index, bool all) {
    constexpr int BOTH = PROT_READ | PROT_WRITE;
    const Domain& dom = domain_at(index);
    const uptr domain = reinterpret_cast<uptr>(&dom);
    long result =
        map_part(fd, domain, DOMAIN_STRIDE, context_offset_of_meta(domain), all ? BOTH : PROT_NONE);
    if (sys::failed(result) || all) return result;
    for_each_domain_part(dom, context().chunk_count, 1, [&](uptr address, usize bytes) {
        result = sys::mprotect(address, bytes, BOTH);
        return !sys::failed(result);
    });
    if (sys::failed(result)) sys::munmap(domain, DOMAIN_STRIDE);
    return result;
}

long open_domain(u32 index) {
    Domain& dom = domain_at(index);
    if (!for_each_domain_part(dom, context().chunk_count, 1, populate)) return -ENOMEM;
    domain_init(dom, index);
    dom.heaps_mapped.store(1, std::memory_order_relaxed);
    return 0;
}

long check_membership(const ContextConstants& header) {
    u8 present;
    // Nothing is mapped there: asked of the kernel, a look would be the end.
    if (const long seen = sys::mincore(CONTEXT_BASE, OS_PAGE_SIZE, &present); sys::failed(seen))
        return seen;
    if (!image_is_right()) return -ENOEXEC;
    const bool same = __builtin_memcmp(context().uuid, header.uuid, sizeof header.uuid) == 0;
    return same ? 0 : -ESTALE;
}

long check_image_hash(int fd, u64 expected_hash, u64 expected_bytes) {
    u64 hash = 0;
    const long read = hash_file(fd, expected_bytes, hash);
    return !sys::failed(read) && hash == expected_hash ? 0 : -ENOEXEC;
}

long map_image(int fd, u64 expected_bytes, ImageUse use) {
    struct stat status {};
    if (const long result = sys::fstat(fd, &status); sys::failed(result)) return result;
    struct {
        Elf64_Ehdr elf;
        Elf64_Phdr segments[8];  // behind it, in what our linker makes
    } head;
    if (static_cast<u64>(status.st_size) != expected_bytes ||
        !sys::read_all(fd, &head, sizeof head, 0) || head.elf.e_phoff != sizeof head.elf ||
        head.elf.e_phentsize != sizeof *head.segments ||
        head.elf.e_phnum > std::size(head.segments))
        return -ENOEXEC;
    for (u32 i = 0; i < head.elf.e_phnum; ++i) {
        const Elf64_Phdr& segment = head.segments[i];
        if (segment.p_type != PT_LOAD) continue;
        const bool shadow = segment.p_vaddr == SHADOW_ENTRY;
        if ((!shadow && segment.p_vaddr != CONTEXT_BASE) || segment.p_flags != (PF_R | PF_X) ||
            segment.p_memsz != segment.p_filesz || segment.p_filesz > IMAGE_WINDOW)
            return -ENOEXEC;
        long at;
        if (shadow && use == ImageUse::complete) {
            at = map_trap_page();
        } else {
            // Private: text that other processes map is never written, here or there.
            at = sys::mmap(segment.p_vaddr, round_up(segment.p_filesz, OS_PAGE_SIZE),
                           PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd,
                           segment.p_offset);
        }
        if (sys::failed(at)) return at;
    }
    return image_is_right() ? 0 : -ENOEXEC;
}

}  // namespace aep
