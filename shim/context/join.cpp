// Purpose: see join.hpp.
// Who calls it: process.cpp, joined_backing.cpp.
// Crash rule: see join.hpp.
#include "shim/context/join.hpp"

#include <errno.h>
#include <sys/prctl.h>

#include "dsm-core/heap/domain.hpp"
#include "shim/backing/pool_attach.hpp"
#include "shim/backing/pool_file.hpp"
#include "shim/context/context_file.hpp"
#include "shim/context/context_views.hpp"
#include "shim/context/failed_memory.hpp"
#include "shim/context/slots.hpp"
#include "shim/sys/message.hpp"
#include "shim/sys/signals_blocked.hpp"
#include "shim/sys/syscall.hpp"

#if __has_include(<image_identity.hpp>)
#include <image_identity.hpp>
#endif

namespace aep {

namespace {

#if __has_include(<image_identity.hpp>)
constexpr u64 IMAGE_HASH = BUILT_IMAGE_HASH;
constexpr u64 IMAGE_BYTES = BUILT_IMAGE_BYTES;
#else  // sanitizer builds have none
constexpr u64 IMAGE_HASH = 0;
constexpr u64 IMAGE_BYTES = 0;
#endif

/// The descriptors of an answer, closed at the end whatever happens.
struct Descriptors {
    int fds[ATTACH_FDS] = {-1, -1, -1, -1};
    int operator[](AttachFd which) const { return fds[which]; }
    bool complete() const {
        for (const int fd : fds)
            if (fd < 0) return false;
        return true;
    }
    Descriptors() = default;
    ~Descriptors() {
        for (const int fd : fds)
            if (fd >= 0) sys::close(fd);
    }
    Descriptors(const Descriptors&) = delete;
    Descriptors& operator=(const Descriptors&) = delete;
};

/// What was mapped so far, unmapped again unless kept.
class Mapped {
  public:
    Mapped() = default;
    ~Mapped() {
        while (count_ != 0) {
            --count_;
            sys::munmap(ranges_[count_].address, ranges_[count_].bytes);
        }
    }
    Mapped(const Mapped&) = delete;
    Mapped& operator=(const Mapped&) = delete;
    /// Remembers a range if `result` says that it was mapped.
    bool add(long result, uptr address, usize bytes) {
        if (sys::failed(result)) return false;
        ranges_[count_++] = {address, bytes};
        return true;
    }
    void keep() { count_ = 0; }

  private:
    struct Range {
        uptr address;
        usize bytes;
    };
    Range ranges_[20];
    u32 count_ = 0;
};

bool quiet = false;  // a child that tries again and again: who asked says it, once

bool refuse(const char* what, long error) {
    if (!quiet) message("context ", this_client.name, ": ", what, ": ", Errno{error});
    return false;
}

/// Connects and asks to become a client. 0 with the answer and its descriptors, or -errno; the
/// daemon's own refusal is in the answer.
long attach(bool private_heap, AnswerMessage& answer, Descriptors& got) {
    const long connected = connect_daemon(this_client.link);
    if (sys::failed(connected)) return connected;
    AskMessage ask = asking(Ask::attach, CONTEXT_LAYOUT_HASH);
    ask.image_hash = IMAGE_HASH;
    ask.private_heap = private_heap ? 1 : 0;
    sys::call(__NR_prctl, PR_GET_NAME, sys::word(&ask.name));
    const long asked = ask_daemon(this_client.link, ask, answer, got.fds, ATTACH_FDS);
    if (sys::failed(asked)) {
        close_link(this_client.link);
        return asked;
    }
    answer.text[sizeof answer.text - 1] = '\0';
    return 0;
}

/// A mapping without access that keeps the locks of a description, and that no child has. 0 after a
/// message.
uptr map_token(int fd, Mapped& mapped) {
    const long at = sys::mmap(0, OS_PAGE_SIZE, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (!mapped.add(at, static_cast<uptr>(at), OS_PAGE_SIZE)) return refuse("token", at), uptr{0};
    const long advised = sys::madvise(static_cast<uptr>(at), OS_PAGE_SIZE, MADV_DONTFORK);
    if (sys::failed(advised)) return refuse("token", advised), uptr{0};
    return static_cast<uptr>(at);
}

/// The life token, and the one of our chunks: freeze hands that one on to children.
bool map_tokens(const Descriptors& got, Mapped& mapped) {
    if (map_token(got[FD_LIFE], mapped) == 0) return false;
    const uptr of_chunks = map_token(got[FD_CONTEXT], mapped);
    if (of_chunks != 0) pool.token = of_chunks;
    return of_chunks != 0;
}

/// The tables and the stacks; as a member, the image too.
bool map_shared_parts(int fd, const ContextConstants& h, Mapped& mapped) {
    if (this_client.is_member()) {
        const long result = check_membership(h);
        return !sys::failed(result) || refuse("what the kernel has mapped of it", result);
    }
    long result = map_control(fd, h);
    if (!mapped.add(result, control_base(), h.window_bytes)) return refuse("its tables", result);
    protect_records(false);  // until it shares: see share_attach()
    close_logs(h);           // until a slot is its own: see open_stack()
    result = map_stacks(fd, h, false);
    return mapped.add(result, stacks_base(), usize{h.max_slots} * STACK_STRIDE) ||
           refuse("its stacks", result);
}

/// The image, where a member has it.
bool map_own_image(const Descriptors& got, Mapped& mapped) {
    if (this_client.is_member()) return true;
    const long result = map_image(got[FD_IMAGE], IMAGE_BYTES, ImageUse::enter);
    if (sys::failed(result))
        return refuse(result == -ENOEXEC ? "its image is another build's" : "its image", result);
    mapped.add(0, SHADOW_ENTRY, OS_PAGE_SIZE);
    mapped.add(0, CONTEXT_BASE, round_up(IMAGE_BYTES, OS_PAGE_SIZE));
    return true;
}

/// What only a client whose heap is in the context has.
bool map_heap_parts(const Descriptors& got, const ContextConstants& h, u32 index, Mapped& mapped) {
    long result = map_heap_metadata(got[FD_CONTEXT], h, false);
    if (sys::failed(result)) return refuse("the heap's metadata", result);
    const usize chunks = round_up(h.chunk_count, CHUNKS_PER_META_GROUP);
    for (const MetaArray& array : SLICE_ARRAYS)
        mapped.add(0, array.base, array.stride * SLICES_PER_CHUNK * chunks);
    mapped.add(0, CHUNK_DESCS.base, CHUNK_DESCS.stride * chunks);
    result = map_domain(got[FD_CONTEXT], index, false);
    if (!mapped.add(result, reinterpret_cast<uptr>(&domain_at(index)), DOMAIN_STRIDE))
        return refuse("its domain", result);
    result = make_context_views(got[FD_CONTEXT], h, index);
    return !sys::failed(result) || refuse("private views", result);
}

/// The pool, as `pool`, from the daemon's descriptor.
bool map_pool(int fd, const ContextConstants& h) {
    PoolFile& file = pool.file;
    __builtin_memcpy(file.path, "of context ", 11);
    __builtin_memcpy(file.path + 11, this_client.name, sizeof this_client.name);
    if (!examine_pool_file(file, fd)) return false;
    if (file.superblock.chunk_count != h.chunk_count ||
        __builtin_memcmp(file.superblock.uuid, h.pool_uuid, sizeof h.pool_uuid) != 0 ||
        pool_mapping_base(file) != h.pool_address)
        return refuse("its pool is another one", -ESTALE);
    if (!map_whole_pool(fd)) return false;
    if (h.era_node == era::NO_NODE) return true;
    const long opened = open_era_region(file);
    return !sys::failed(opened) || refuse("what nodes share in its pool", opened);
}

/// The first read of an OS page of the file makes fifteen others around it this process's, too, and a write that page
/// alone. So the words that each operation of the node reads are written to once, without a change.
void touch_shared_words() {
    context().attached.fetch_add(0, std::memory_order_relaxed);
    for (u32 chunk = 0; chunk < context().chunk_count; chunk += OS_PAGE_SIZE / sizeof(u32))
        chunk_owner(chunk).fetch_or(0, std::memory_order_relaxed);
}

void become(const AnswerMessage& answer) {
    this_client.index = answer.client;
    this_client.generation = answer.generation;
    this_client.joined = this_client.attached = true;
    close_link(this_client.link);  // programs look at, count and close what descriptors they find
}

/// Everything after the daemon's consent.
bool map_context(const AnswerMessage& answer, const Descriptors& got) {
    if (!got.complete()) return refuse("the daemon's answer", -EPROTO);
    ContextConstants h;
    if (const ContextFault fault = verify_context(got[FD_CONTEXT], h)) {
        message("context ", this_client.name, ": ", fault.field, " is ", Hex{fault.found},
                ", expected ", Hex{fault.expected}, ": ", fault.advice);
        return false;
    }
    if (answer.client == 0 || answer.client > h.max_clients || h.image_hash != IMAGE_HASH)
        return refuse("the daemon's answer", -EPROTO);
    this_client.provider = answer.provider;
    Mapped mapped;
    if (!map_tokens(got, mapped) || !map_shared_parts(got[FD_CONTEXT], h, mapped) ||
        !map_own_image(got, mapped) || !map_heap_parts(got, h, answer.client, mapped)) {
        forget_context_views();
        return false;
    }
    if (!map_pool(got[FD_POOL], h)) {
        forget_context_views();
        return false;
    }
    if (const long opened = open_domain(answer.client); sys::failed(opened)) {
        forget_context_views();
        unmap_whole_pool();
        return refuse("memory for its domain", opened);
    }
    become(answer);
    touch_shared_words();
    if (!reserve_spare_slot()) {
        this_client.joined = this_client.attached = false;
        forget_context_views();
        unmap_whole_pool();
        return refuse("a slot", -ENOSPC);
    }
    mapped.keep();
    tell_of_failed_memory();
    return true;
}

void set_name(const Settings& settings) {
    const char* name = settings.context != nullptr  ? settings.context
                       : settings.socket != nullptr ? settings.socket
                                                    : DEFAULT_CONTEXT;
    usize i = 0;
    for (; name[i] != '\0' && i < sizeof this_client.name - 1; ++i) this_client.name[i] = name[i];
    this_client.name[i] = '\0';
}

}  // namespace

Join join_context(const Settings& settings) {
    if (!settings.join || IMAGE_BYTES == 0) return Join::absent;
    set_name(settings);
    if (!find_daemon(this_client.link, settings)) return Join::failed;
    AnswerMessage answer{};
    Descriptors got;
    const long asked = attach(false, answer, got);
    if (sys::failed(asked)) {
        const bool nobody = asked == -ENOENT || asked == -ECONNREFUSED || asked == -ENOTDIR;
        if (nobody && !settings.names_context()) return Join::absent;
        no_answer(this_client.link, this_client.name, asked).send();
        return Join::failed;
    }
    if (answer.error != 0)
        message("context ", this_client.name, ": refused: ", answer.text);
    else if (map_context(answer, got))
        return Join::joined;
    close_link(this_client.link);
    return Join::failed;
}

long join_again() {
    const SignalsBlocked undisturbed;  // as at the start: nobody would know what is there already
    quiet = true;
    AnswerMessage answer{};
    Descriptors got;
    const long asked = attach(true, answer, got);
    if (sys::failed(asked)) return asked;
    const auto give_up = [](long error) {
        close_link(this_client.link);
        return error;
    };
    if (answer.error != 0) return give_up(-static_cast<long>(answer.error));
    ContextConstants h;
    if (!got.complete() || verify_context(got[FD_CONTEXT], h) || h.image_hash != IMAGE_HASH ||
        answer.client == 0 || answer.client > h.max_clients)
        return give_up(-EPROTO);
    // The same pool: our frozen chunks are part of it. The image is inherited.
    if (h.chunk_count != pool.file.superblock.chunk_count ||
        __builtin_memcmp(pool.file.superblock.uuid, h.pool_uuid, sizeof h.pool_uuid) != 0)
        return give_up(-ESTALE);
    this_client.provider = answer.provider;
    Mapped mapped;
    if (!map_tokens(got, mapped) || !map_shared_parts(got[FD_CONTEXT], h, mapped))
        return give_up(-ENOMEM);
    if (const long result = map_pool_again(got[FD_POOL]); sys::failed(result))
        return give_up(result);
    if (h.era_node != era::NO_NODE) open_era_region(pool.file);
    mapped.keep();
    become(answer);
    client_at(this_client.index).private_heap.store(1, std::memory_order_relaxed);
    return 0;
}

}  // namespace aep
