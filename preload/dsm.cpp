// Purpose: the C API of sharing, aep/dsm.h: argument checks and errno, on shim/sharing.
// Who calls it: programs that link this library or run under its preload.
// Crash rule: that of the sharing operations; nothing is kept here.
#include <errno.h>

#include "dsm-core/base/fnv1a.hpp"
#include "include/aep/dsm.h"
#include "preload/errno_result.hpp"
#include "preload/export.hpp"
#include "preload/fill_info.hpp"
#include "preload/messages.hpp"
#include "shim/context/join.hpp"
#include "shim/driver/allocator.hpp"
#include "shim/sharing/sendable.hpp"
#include "shim/sharing/share_fd.hpp"
#include "shim/sharing/sharing.hpp"

namespace {

using namespace aep;

/// What allocate_it() gives, of that size and alignment, where it can be sent; its first `used`
/// bytes matter.
template <class F>
void* for_client(usize size, usize alignment, usize used, F&& allocate_it) {
    if (AEP_UNLIKELY(!this_client.attached) && (!process_start() || !this_client.attached)) {
        errno = ENOTCONN;
        return nullptr;
    }
    void* p = allocate_it();
    if (AEP_UNLIKELY(p == nullptr)) {
        errno = ENOMEM;
        return nullptr;
    }
    return make_sendable(p, size, alignment, used);
}

/// Not: a block of its own heap to which it has dropped its references, and others have some.
bool may_use(const void* object) {
    if (!may_be_shared(object)) return true;
    const ShareFacts facts = share_query(object);
    return facts.references == 0 || facts.own != 0;
}

}  // namespace

AEP_EXPORT int dsm_attach(const char* name) noexcept { return errno_result(share_attach(name)); }

AEP_EXPORT int dsm_detach(void) noexcept { return errno_result(share_detach()); }

AEP_EXPORT dsm_id dsm_self(void) noexcept {
    const u64 self = share_self().bits;
    if (self == 0) errno = ENOTCONN;
    return self;
}

AEP_EXPORT dsm_id dsm_lookup(const char* name) noexcept {
    const u64 found = share_lookup(name).bits;
    if (found == 0) errno = this_client.attached ? ENOENT : ENOTCONN;
    return found;
}

AEP_EXPORT dsm_id dsm_lookup_wait(const char* name, int timeout_ms) noexcept {
    ShareId found{};
    return errno_result(share_lookup_wait(name, timeout_ms, found)) == 0 ? found.bits : 0;
}

AEP_EXPORT void* dsm_malloc(size_t size) noexcept {
    return for_client(
        size, MIN_ALIGNMENT, 0,
        [size] {
            void* p;
            return AEP_LIKELY(allocate_fast(size, p)) ? p : allocate_slow(size);
        });
}

AEP_EXPORT void* dsm_calloc(size_t count, size_t size) noexcept {
    usize total;
    if (__builtin_mul_overflow(count, size, &total)) {
        errno = ENOMEM;
        return nullptr;
    }
    return for_client(total, MIN_ALIGNMENT, total, [total] { return allocate_zeroed(total); });
}

AEP_EXPORT void* dsm_realloc(void* object, size_t size) noexcept {
    if (object == nullptr) return dsm_malloc(size);
    if (usable_size(object) == 0 || !may_use(object)) {
        errno = EINVAL;
        return nullptr;
    }
    const size_t bytes = size == 0 ? 1 : size;
    return for_client(bytes, MIN_ALIGNMENT, bytes, [&] { return reallocate(object, bytes); });
}

AEP_EXPORT void* dsm_aligned_alloc(size_t alignment, size_t size) noexcept {
    if (!is_power_of_two(alignment)) {
        errno = EINVAL;
        return nullptr;
    }
    return for_client(size, alignment, 0, [&] { return allocate_aligned(alignment, size); });
}

AEP_EXPORT int dsm_free(void* object) noexcept {
    PageDesc* d = nullptr;
    if (AEP_LIKELY(deallocate_fast(object, d) == FastFree::done) || object == nullptr) return 0;
    if (may_be_shared(object)) {
        const Dropped dropped = share_drop(object);
        share_collect_at_times(0);
        if (dropped == Dropped::kept) return 0;
        if (dropped == Dropped::not_held) return errno_result(-EINVAL);
        if (dropped == Dropped::last) {
            deallocate_unshared(object);
            return 0;
        }
    }
    if (usable_size(object) == 0) return errno_result(-EINVAL);
    deallocate(object);
    return 0;
}

AEP_EXPORT int dsm_unref(void* object) noexcept { return dsm_free(object); }

AEP_EXPORT int dsm_ref(void* object) noexcept {
    return with_object(
        object, [&](usize bytes) { return share_reference(object, bytes); });
}

AEP_EXPORT size_t dsm_usable_size(void* object) noexcept { return usable_size(object); }

AEP_EXPORT size_t dsm_references(void* object) noexcept {
    return share_query(object, true).references;
}

AEP_EXPORT int dsm_send(dsm_id to, void* object) noexcept { return dsm_send_wait(to, object, 0); }

AEP_EXPORT int dsm_send_wait(dsm_id to, void* object, int timeout_ms) noexcept {
    return with_object(
        object, [&](usize bytes) { return share_send(ShareId{to}, object, bytes, timeout_ms); });
}

AEP_EXPORT int dsm_send_message(dsm_id to, void* object, const struct dsm_label* label,
                                int timeout_ms, unsigned flags) noexcept {
    return send_as({}, {to}, object, label, timeout_ms, flags);
}

AEP_EXPORT void* dsm_recv(dsm_id from, int timeout_ms, struct dsm_info* info) noexcept {
    Received received;
    if (errno_result(share_receive({.from = {from}}, timeout_ms, received)) != 0) return nullptr;
    if (info != nullptr) {
        *info = {.sender = received.sender.bits,
                 .size = received.bytes,
                 .group = static_cast<dsm_group*>(received.group)};
    }
    return received.object;
}

AEP_EXPORT void* dsm_recv_message(dsm_id from, int timeout_ms, struct dsm_message* message,
                                  size_t size) noexcept {
    return receive_at({}, {from}, timeout_ms, message, size);
}

AEP_EXPORT int dsm_expect(const struct dsm_message* message, uint64_t type, uint32_t version,
                          size_t bytes) noexcept {
    if (message == nullptr) return errno_result(-EINVAL);
    if (message->type != 0 && (message->type != type || message->version != version))
        return errno_result(-EPROTOTYPE);
    return message->size < bytes ? errno_result(-EMSGSIZE) : 0;
}

AEP_EXPORT uint64_t dsm_type(const char* name) noexcept {
    if (name == nullptr) return 0;
    const u64 hash = fnv1a(name, __builtin_strlen(name));  // as aep/dsm_label.hpp
    return hash == 0 ? 1 : hash;
}

AEP_EXPORT int dsm_fd(void) noexcept {
    const long fd = share_fd();
    return fd < 0 ? errno_result(fd) : static_cast<int>(fd);
}
