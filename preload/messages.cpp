// Purpose: see messages.hpp.
// Who calls it: see messages.hpp.
// Crash rule: see messages.hpp.
#include "preload/messages.hpp"

#include "preload/fill_info.hpp"

namespace aep {

bool read_label(const struct dsm_label* label, unsigned flags, Label& said) {
    if ((flags & ~DSM_DROP) != 0 || (label != nullptr && label->reserved != 0)) return false;
    if (label != nullptr)
        said = {.tag = label->tag, .type = label->type, .version = label->version};
    return true;
}

u32 own_mailbox(ShareId mailbox) {
    const u32 inbox = takes_part() ? own_inbox(mailbox) : 0;
    if (inbox == 0) errno = takes_part() ? EINVAL : ENOTCONN;
    return inbox;
}

int send_as(ShareId mailbox, ShareId to, void* object, const struct dsm_label* label,
            int timeout_ms, unsigned flags) {
    Label said;
    if (!read_label(label, flags, said)) return errno_result(-EINVAL);
    return with_object(object, [&](usize bytes) -> long {
        const u32 as = own_inbox(mailbox);
        if (as == 0) return -EINVAL;
        return share_send(to, object, bytes, timeout_ms,
                          {.label = said, .as = as, .drop = (flags & DSM_DROP) != 0});
    });
}

void* receive_at(ShareId mailbox, ShareId from, int timeout_ms, struct dsm_message* message,
                 size_t size) {
    if (size > MOST_INFO_BYTES) {
        errno = EINVAL;
        return nullptr;
    }
    const Wanted wanted{.from = from, .at = own_mailbox(mailbox)};
    if (wanted.at == 0) return nullptr;
    Received received;
    if (errno_result(share_receive(wanted, timeout_ms, received)) != 0) return nullptr;
    tell(received, message, size);
    return received.object;
}

void tell(const Received& received, struct dsm_message* message, size_t size) {
    const struct dsm_message all {
        .sender = received.sender.bits, .size = received.bytes,
        .group = static_cast<dsm_group*>(received.group), .tag = received.label.tag,
        .type = received.label.type, .version = received.label.version, .reserved = 0
    };
    fill_info(message, size, all);
}

}  // namespace aep
