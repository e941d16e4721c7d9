// Purpose: how the C API's messages come, aep/dsm.h: further mailboxes, calls, read-only receipt: argument checks and errno, on shim/sharing.
// Who calls it: programs that link this library or run under its preload.
// Crash rule: that of the sharing operations; nothing is kept here.
#include "shim/sharing/mailboxes.hpp"

#include "preload/export.hpp"
#include "preload/fill_info.hpp"
#include "preload/messages.hpp"
#include "shim/sharing/call.hpp"

using namespace aep;

AEP_EXPORT dsm_id dsm_mailbox_open(void) noexcept {
    ShareId id{};
    return errno_result(open_mailbox(id)) == 0 ? id.bits : 0;
}

AEP_EXPORT int dsm_mailbox_close(dsm_id mailbox) noexcept {
    const u32 inbox = own_mailbox({mailbox});
    if (inbox == 0) return -1;
    // The main one is the process itself: dsm_detach.
    return errno_result(is_further(inbox) ? close_inbox(inbox) : -EINVAL);
}

AEP_EXPORT int dsm_mailbox_limit(dsm_id mailbox, size_t bytes) noexcept {
    const u32 inbox = own_mailbox({mailbox});
    return inbox == 0 ? -1 : errno_result(limit_inbox(inbox, bytes));
}

AEP_EXPORT int dsm_read_only(int yes) noexcept {
    if (!takes_part()) return errno_result(-ENOTCONN);
    return errno_result(make_guests_read_only(yes != 0));
}

AEP_EXPORT int dsm_send_as(dsm_id mailbox, dsm_id to, void* object, const struct dsm_label* label,
                           int timeout_ms, unsigned flags) noexcept {
    return send_as({mailbox}, {to}, object, label, timeout_ms, flags);
}

AEP_EXPORT void* dsm_recv_at(dsm_id mailbox, dsm_id from, int timeout_ms,
                             struct dsm_message* message, size_t size) noexcept {
    return receive_at({mailbox}, {from}, timeout_ms, message, size);
}

AEP_EXPORT void* dsm_call(dsm_id to, void* object, const struct dsm_label* label, int timeout_ms,
                          unsigned flags, struct dsm_message* answer, size_t size) noexcept {
    Label said;
    if (size > MOST_INFO_BYTES || !read_label(label, flags, said)) {
        errno = EINVAL;
        return nullptr;
    }
    Received received;
    const int result = with_object(object, [&](usize bytes) {
        return share_call({to}, object, bytes, timeout_ms,
                          {.label = said, .drop = (flags & DSM_DROP) != 0}, received);
    });
    if (result != 0) return nullptr;
    tell(received, answer, size);
    return received.object;
}

AEP_EXPORT int dsm_answer(const struct dsm_message* call, void* object,
                          const struct dsm_label* label, int timeout_ms, unsigned flags) noexcept {
    if (call == nullptr) return errno_result(-EINVAL);
    struct dsm_label said {};
    if (label != nullptr) said = *label;
    if (said.tag == 0) said.tag = call->tag;
    return send_as({}, {call->sender}, object, &said, timeout_ms, flags);
}

AEP_EXPORT int dsm_serve(dsm_id mailbox, dsm_handler handler, void* context,
                         int timeout_ms) noexcept {
    if (handler == nullptr) return errno_result(-EINVAL);
    struct dsm_message call {};
    void* const object = receive_at({mailbox}, {}, timeout_ms, &call, sizeof call);
    if (object == nullptr) return -1;
    void* const answer = handler(&call, object, context);
    // Who called may have given up meanwhile, and then nobody needs it; else there is room, for a call has one answer.
    if (answer != nullptr && dsm_answer(&call, answer, nullptr, 0, DSM_DROP) != 0) dsm_free(answer);
    if (object != answer) dsm_free(object);
    return 0;
}
