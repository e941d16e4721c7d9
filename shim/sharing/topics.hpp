// Purpose: topics of this process: opened, subscribed to, published in, taken from, closed.
// Who calls it: the C API (preload/topics.cpp).
// Crash rule: each call is one operation, or several that may be asked for again, or waits between two; a process's uses go with it.
//
// Functions return 0 or -errno; -EINVAL of all that take one: it is no use of the process's.
#pragma once

#include "shim/sharing/sharing.hpp"

namespace aep {

/// How much of what is published is kept; 0: as much as there is room for in a ring, and a quarter of the pool.
struct Keeping {
    u32 messages = 0;
    usize bytes = 0;
};
/// -ENOTCONN; -EINVAL: the name is empty or too long; -ENOSPC: the context has no more of them; -ENOMEM. Cost: linear in the topics.
long open_topic(const char* name, const Keeping& keeping, TopicUse& use);
long close_topic(TopicUse use);

struct Subscribing {
    Behind behind = Behind::block;
    u32 history = 0;
    Keeping most;  // that it may be behind
};
/// -EEXIST: it has subscribed.
long subscribe(TopicUse use, const Subscribing& how);
/// -EINVAL, too: it has not subscribed.
long leave_topic(TopicUse use);

/// As share_send. -EAGAIN, whatever the time: a subscriber is behind for whom that fails.
long publish(TopicUse use, void* p, usize bytes, int timeout_ms, const Sending& how);
/// As share_receive. `missed`: so many before it.
long take_publication(TopicUse use, int timeout_ms, Received& received, u64& missed);

}  // namespace aep
