// Purpose: topics of the C API, aep/dsm.h: argument checks and errno, on shim/sharing/topics.hpp.
// Who calls it: programs that link this library or run under its preload.
// Crash rule: that of the sharing operations; nothing is kept here.
#include "shim/sharing/topics.hpp"

#include "preload/export.hpp"
#include "preload/fill_info.hpp"
#include "preload/messages.hpp"

using namespace aep;

namespace {

/// What a program asks for; Behind::none: that there is not.
Behind behind_of(uint32_t said) {
    switch (said) {
        case DSM_BLOCK:
            return Behind::block;
        case DSM_DROP_OLDEST:
            return Behind::drop_oldest;
        case DSM_FAIL:
            return Behind::fail;
        default:
            return Behind::none;
    }
}

}  // namespace

AEP_EXPORT dsm_topic dsm_topic_open(const char* name, unsigned messages, size_t bytes) noexcept {
    TopicUse use{};
    return errno_result(open_topic(name, {messages, bytes}, use)) == 0 ? use.bits : 0;
}

AEP_EXPORT int dsm_topic_subscribe(dsm_topic topic, const struct dsm_subscription* how) noexcept {
    struct dsm_subscription said {};
    if (how != nullptr) said = *how;
    const Behind behind = behind_of(said.behind);
    if (behind == Behind::none || said.reserved != 0) return errno_result(-EINVAL);
    if (!takes_part()) return errno_result(-ENOTCONN);
    return errno_result(
        subscribe({topic}, {.behind = behind,
                            .history = said.history,
                            .most = {said.messages, static_cast<usize>(said.bytes)}}));
}

AEP_EXPORT int dsm_topic_publish(dsm_topic topic, void* object, const struct dsm_label* label,
                                 int timeout_ms, unsigned flags) noexcept {
    Label said;
    if (!read_label(label, flags, said)) return errno_result(-EINVAL);
    return with_object(object, [&](usize bytes) {
        return publish({topic}, object, bytes, timeout_ms,
                       {.label = said, .drop = (flags & DSM_DROP) != 0});
    });
}

AEP_EXPORT void* dsm_topic_take(dsm_topic topic, int timeout_ms, struct dsm_message* message,
                                size_t size, uint64_t* missed) noexcept {
    if (size > MOST_INFO_BYTES) {
        errno = EINVAL;
        return nullptr;
    }
    Received received;
    u64 before = 0;
    if (errno_result(take_publication({topic}, timeout_ms, received, before)) != 0) return nullptr;
    tell(received, message, size);
    if (missed != nullptr) *missed = before;
    return received.object;
}

AEP_EXPORT int dsm_topic_leave(dsm_topic topic) noexcept {
    return errno_result(takes_part() ? leave_topic({topic}) : -ENOTCONN);
}

AEP_EXPORT int dsm_topic_close(dsm_topic topic) noexcept {
    return errno_result(takes_part() ? close_topic({topic}) : -ENOTCONN);
}
