// Purpose: see topics.hpp.
// Who calls it: see topics.hpp.
// Crash rule: see topics.hpp.
#include "shim/sharing/topics.hpp"

#include <errno.h>

#include "dsm-core/sharing/inbox.hpp"
#include "dsm-core/sharing/topics.hpp"
#include "shim/driver/allocator.hpp"
#include "shim/sharing/group_view.hpp"
#include "shim/sharing/guests.hpp"
#include "shim/sharing/held_lock.hpp"
#include "shim/sharing/mailboxes.hpp"
#include "shim/sharing/wait_for.hpp"

namespace aep {
namespace {

Patience for_publications;
Patience for_subscribers;

/// As error_of, of an operation on a topic.
long topic_error(Status status) {
    if (status == Status::gone) return takes_part() ? -EINVAL : -ENOTCONN;
    return status == Status::busy ? -EAGAIN : error_of(status);
}

/// The number of the topic that the process has open so; 0: none. It may have been closed meanwhile.
u32 topic_of(TopicUse use) {
    if (!is_topic_user(use.user())) return 0;
    const TopicUser& user = topic_user_at(use.user());
    const u32 topic = user.topic.load();
    const bool own =
        user.client.load() == this_client.index && user.generation.load() == use.generation();
    return own && is_topic(topic) ? topic : 0;
}

/// The number of the topic with that name, or one that nobody has; 0: there is none.
u32 topic_named(const ShareName& name) {
    u32 free = 0;
    for (u32 i = MOST_TOPICS; i-- != 0;) {
        const Topic& topic = topic_at(first_topic() + i);
        if (topic.first_user.load() == 0)
            free = first_topic() + i;
        else if (same_name(topic.name().text, name.text))
            return first_topic() + i;
    }
    return free;
}

u32 kib_that_bound(usize bytes) { return bytes != 0 && bytes < KiB ? 1 : kib_of(bytes); }

/// Whether a look is enough to say that nothing has been published: see sharing.cpp.
bool nothing_is_new(TopicUse use, u32 topic) {
    const u32 state = context().state.load(std::memory_order_relaxed);
    return state == static_cast<u32>(ContextState::live) &&
           topic_user_at(use.user()).behind.load() != Behind::none &&
           topic_user_at(use.user()).next.load() == topic_at(topic).head.load();
}

/// A process's first makes the pool accessible, before it is taken.
op::TakePublication::Reply take(TopicUse use, u32 topic) {
    if (AEP_UNLIKELY(!pool_is_accessible()) && !nothing_is_new(use, topic) &&
        !make_pool_accessible())
        return {.status = Status::limit};
    return share_with_records(op::TakePublication{use});
}

}  // namespace

long open_topic(const char* name, const Keeping& keeping, TopicUse& use) {
    if (!takes_part()) return -ENOTCONN;
    op::OpenTopic request{.most_messages = keeping.messages,
                          .most_kib = kib_that_bound(keeping.bytes)};
    usize length = 0;
    while (name != nullptr && length < sizeof request.name.text && name[length] != '\0') ++length;
    if (length == 0 || length == sizeof request.name.text) return -EINVAL;
    __builtin_memcpy(request.name.text, name, length);
    for (;;) {
        request.topic = topic_named(request.name);
        if (request.topic == 0) return -ENOSPC;
        if (!make_ring_present(request.topic)) return -ENOMEM;
        const auto reply = share_operation(request);
        if (reply.status == Status::exists) continue;  // somebody else was faster
        use = reply.use;
        return reply.status == Status::limit ? -ENOSPC : topic_error(reply.status);
    }
}

long close_topic(TopicUse use) {
    Status status = Status::ok;
    while (status == Status::ok) status = share_operation(op::CloseTopic{use}).status;
    return status == Status::miss ? 0 : topic_error(status);
}

long subscribe(TopicUse use, const Subscribing& how) {
    const op::Subscribe request{.use = use,
                                .behind = how.behind,
                                .history = how.history,
                                .most_messages = how.most.messages,
                                .most_kib = kib_that_bound(how.most.bytes)};
    return topic_error(share_operation(request).status);
}

long leave_topic(TopicUse use) {
    return topic_error(share_operation(op::Subscribe{.use = use}).status);
}

long publish(TopicUse use, void* p, usize bytes, int timeout_ms, const Sending& how) {
    if (!takes_part()) return -ENOTCONN;
    const u32 topic = topic_of(use);
    if (topic == 0) return -EINVAL;
    share_collect_at_times(bytes);
    const op::Publish request{.use = use,
                              .object = reinterpret_cast<uptr>(p),
                              .bytes = bytes,
                              .label = how.label,
                              .drop = how.drop};
    auto reply = share_with_records(request);
    long result = topic_error(reply.status);
    if (AEP_UNLIKELY(reply.status == Status::full || reply.status == Status::busy)) {
        if (!can_be_sent(p, bytes)) return -EINVAL;
        if (reply.status == Status::full && timeout_ms != 0) {
            Inbox& ring = inbox_at(topic);
            reply =
                wait_for({ring.departures, ring.departure_waiters, Status::full, for_subscribers},
                         timeout_ms, result, [&] { return share_with_records(request); });
            if (result != -ETIMEDOUT && result != -EINTR) result = topic_error(reply.status);
        }
    }
    if (AEP_UNLIKELY(result == 0 && reply.left_group != 0)) group_dropped(reply.left_group);
    return result;
}

long take_publication(TopicUse use, int timeout_ms, Received& received, u64& missed) {
    if (!takes_part()) return -ENOTCONN;
    if (held_kinds != 0) return -EDEADLK;  // before one is taken that could not be opened
    const u32 topic = topic_of(use);
    if (topic == 0) return -EINVAL;
    share_collect_at_times(0);
    auto reply = nothing_is_new(use, topic) ? op::TakePublication::Reply{.status = Status::miss}
                                            : take(use, topic);
    long result = topic_error(reply.status);
    if (reply.status == Status::miss && timeout_ms != 0) {
        share_collect();  // there is time for it
        Inbox& ring = inbox_at(topic);
        reply = wait_for({ring.arrivals, ring.arrival_waiters, Status::miss, for_publications},
                         timeout_ms, result, [&] { return take(use, topic); });
        if (result != -ETIMEDOUT && result != -EINTR) result = topic_error(reply.status);
    }
    if (result != 0) return result;
    missed = reply.missed;
    return hand_over(reply, received);
}

}  // namespace aep
