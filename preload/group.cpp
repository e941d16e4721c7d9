// Purpose: the C API of groups, aep/dsm.h: argument checks and errno, on shim/group.
// Who calls it: programs that link this library or run under its preload.
// Crash rule: that of the sharing operations; nothing is kept here.
#include "shim/sharing/group.hpp"

#include <errno.h>

#include "include/aep/dsm.h"
#include "preload/errno_result.hpp"
#include "preload/export.hpp"
#include "preload/fill_info.hpp"

namespace {

using namespace aep;

/// Calls f(pointer), which gives 0 or -errno: the pointer, or null.
template <class F>
void* pointer_from(F&& f) {
    void* p = nullptr;
    return errno_result(f(p)) == 0 ? p : nullptr;
}

}  // namespace

AEP_EXPORT dsm_group* dsm_group_create(size_t hint) noexcept {
    void* group = pointer_from([hint](void*& p) { return group_create(hint, p); });
    return static_cast<dsm_group*>(group);
}

AEP_EXPORT void* dsm_group_alloc(dsm_group* group, size_t size) noexcept {
    return pointer_from([=](void*& p) { return group_allocate(group, size, 1, p); });
}

AEP_EXPORT void* dsm_group_aligned_alloc(dsm_group* group, size_t alignment, size_t size) noexcept {
    if (!is_power_of_two(alignment)) {
        errno = EINVAL;
        return nullptr;
    }
    return pointer_from([=](void*& p) { return group_allocate(group, size, alignment, p); });
}

AEP_EXPORT int dsm_group_free(dsm_group* group, void* object) noexcept {
    return object == nullptr ? 0 : errno_result(group_free(group, object));
}

AEP_EXPORT int dsm_group_set_root(dsm_group* group, void* object) noexcept {
    return errno_result(group_set_root(group, object));
}

AEP_EXPORT void* dsm_group_root(dsm_group* group) noexcept {
    return pointer_from([=](void*& p) { return group_root(group, p); });
}

AEP_EXPORT dsm_group* dsm_group_of(void* root) noexcept {
    return static_cast<dsm_group*>(pointer_from([=](void*& p) { return group_of(root, p); }));
}

AEP_EXPORT size_t dsm_group_bytes(dsm_group* group) noexcept {
    usize bytes = 0;
    errno_result(group_bytes(group, bytes));
    return bytes;
}

AEP_EXPORT int dsm_group_quiesce(dsm_group* group) noexcept {
    return errno_result(group_quiesce(group));
}

AEP_EXPORT int dsm_group_inspect(dsm_group* group, struct dsm_group_info* info,
                                 size_t size) noexcept {
    if (size > MOST_INFO_BYTES) return errno_result(-EINVAL);
    GroupFacts facts{};
    const int result = errno_result(group_inspect(group, facts));
    if (result != 0) return result;
    const struct dsm_group_info all {
        .bytes = facts.bytes, .deferred = facts.deferred, .references = facts.references,
        .writer = facts.writer.bits
    };
    fill_info(info, size, all);
    return 0;
}

AEP_EXPORT int dsm_group_take_over(dsm_group* group) noexcept {
    return errno_result(group_take_over(group));
}

AEP_EXPORT int dsm_group_hand_over(dsm_group* group, dsm_id to) noexcept {
    return errno_result(group_hand_over(group, ShareId{to}));
}

AEP_EXPORT int dsm_group_close(dsm_group* group) noexcept {
    return errno_result(group_close(group));
}
