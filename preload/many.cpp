// Purpose: several messages in one call, aep/dsm.h: argument checks and errno, on shim/sharing/many.hpp.
// Who calls it: programs that link this library or run under its preload.
// Crash rule: that of the sharing operations; nothing is kept here.
#include "shim/sharing/many.hpp"

#include <errno.h>
#include <limits.h>

#include "preload/export.hpp"
#include "preload/fill_info.hpp"
#include "preload/messages.hpp"
#include "shim/driver/allocator.hpp"

using namespace aep;

namespace {

/// What is on the stack at a time.
constexpr u32 AT_ONCE = 32;

/// How many of the first AT_ONCE were sent; -errno: not even one.
long send_first(dsm_id to, void* const* objects, size_t count, int timeout_ms, const Sending& how) {
    Parcel parcels[AT_ONCE];
    u32 sound = 0;
    for (; sound < count && sound < AT_ONCE; ++sound) {
        parcels[sound].object = objects[sound];
        const long wrong = prepare_to_send(objects[sound], parcels[sound].bytes);
        if (wrong == 0) continue;
        if (sound == 0) return wrong;
        break;
    }
    return share_send_many({to}, parcels, sound, timeout_ms, how);
}

/// Drops in one operation what comes first and may be shared, as much as goes into it. How many; those that were the last are freed.
u32 drop_first(void* const* objects, usize count) {
    u32 shared = 0;
    while (shared < count && shared < MOST_DROPPED && may_be_shared(objects[shared])) ++shared;
    if (shared == 0) return 0;
    u32 last = 0;
    const u32 dropped = share_drop_many(objects, shared, last);
    for (u32 i = 0; i < dropped; ++i)
        if ((last >> i & 1) != 0) deallocate_unshared(objects[i]);
    share_collect_at_times(0);
    return dropped;
}

/// Tells of the `at`th message of the caller's array, whose elements have `size` bytes.
void tell_at(const Received& received, struct dsm_message* messages, size_t size, usize at) {
    if (messages == nullptr) return;
    tell(received,
         reinterpret_cast<struct dsm_message*>(reinterpret_cast<char*>(messages) + at * size),
         size);
}

}  // namespace

AEP_EXPORT int dsm_send_many(dsm_id to, void* const* objects, size_t count,
                             const struct dsm_label* label, int timeout_ms,
                             unsigned flags) noexcept {
    Label said;
    if (objects == nullptr || count == 0 || !read_label(label, flags, said))
        return errno_result(-EINVAL);
    if (!takes_part()) return errno_result(-ENOTCONN);
    const Sending how{.label = said, .drop = (flags & DSM_DROP) != 0};
    const usize most = count < INT_MAX ? count : INT_MAX;
    usize sent = 0;
    while (sent < most) {
        const long some =
            send_first(to, objects + sent, most - sent, sent == 0 ? timeout_ms : 0, how);
        if (some < 0 && sent == 0) return errno_result(some);
        if (some > 0) sent += static_cast<usize>(some);
        if (some < static_cast<long>(AT_ONCE)) break;
    }
    return static_cast<int>(sent);
}

AEP_EXPORT int dsm_recv_many(dsm_id from, int timeout_ms, void** objects,
                             struct dsm_message* messages, size_t size, size_t count) noexcept {
    if (objects == nullptr || count == 0 || size > MOST_INFO_BYTES) return errno_result(-EINVAL);
    const usize most = count < INT_MAX ? count : INT_MAX;
    Received received[AT_ONCE];
    usize taken = 0;
    while (taken < most) {
        const u32 wanted = most - taken < AT_ONCE ? static_cast<u32>(most - taken) : AT_ONCE;
        const long some =
            share_receive_many({.from = {from}}, taken == 0 ? timeout_ms : 0, received, wanted);
        if (some < 0 && taken == 0) return errno_result(some);
        for (long i = 0; i < some; ++i, ++taken) {
            objects[taken] = received[i].object;
            tell_at(received[i], messages, size, taken);
        }
        if (some < static_cast<long>(wanted)) break;
    }
    return static_cast<int>(taken);
}

AEP_EXPORT int dsm_free_many(void* const* objects, size_t count) noexcept {
    if (objects == nullptr || count == 0) return errno_result(-EINVAL);
    const usize most = count < INT_MAX ? count : INT_MAX;
    usize freed = 0;
    while (freed < most) {
        const u32 some = drop_first(objects + freed, most - freed);
        freed += some;
        if (some == MOST_DROPPED || freed == most) continue;
        // Not shared, or not as simple: alone.
        if (dsm_free(objects[freed]) != 0) return freed != 0 ? static_cast<int>(freed) : -1;
        ++freed;
    }
    return static_cast<int>(freed);
}
