// Purpose: topics: what is published once for any number of subscribers.
// Who calls it: format.hpp, which says where they are.
// Crash rule: all of it changes inside operations, under the locks of turn.hpp (topic_ops.hpp).
//
// A topic has a number behind those of inboxes, a lock and a ring as one of them, and belongs to no client. Its places hold a reference each. What
// waits for a subscriber is a difference, of what was published and what it has taken: publishing changes no word of a subscriber's, and taking
// none of another one's.
#pragma once

#include "dsm-core/base/layout.hpp"
#include "dsm-core/sharing/logged.hpp"

namespace aep {

/// Of a context.
inline constexpr u32 MOST_TOPICS = 128;

/// Beside its ring; under the lock of that.
struct alignas(CACHE_LINE) Topic {
    Logged<u32> most_messages;  // that it keeps
    u32 reserved;
    Logged<u64> head;      // publications ever
    Logged<u64> head_kib;  // KiB of the objects that they are about
    // As long as these are not reached nobody who may miss nothing is as far behind as he may be.
    Logged<u64> room_until, room_until_kib;
    // Under the lock of names, too: all that is looked at of other topics.
    alignas(CACHE_LINE) Logged<u64> name_words[SHARE_NAME_BYTES / sizeof(u64)];
    Logged<u32> first_user;  // 0: there is no such topic

    /// Unique among topics. Without the lock of names it may be of two moments.
    ShareName name() const { return copied(reinterpret_cast<const ShareName&>(name_words)); }
};
static_assert(sizeof(Topic) == 2 * CACHE_LINE);

/// A client that has a topic open, once or several times; and where it is if it takes what is published there. Whose it is, of which topic and on
/// which lists changes under the locks of names, of its client and of its topic; the rest under the last two.
struct alignas(CACHE_LINE) TopicUser {
    Logged<u32> client;                         // 0: nobody's
    Logged<u32> generation;                     // of all that had this record
    Logged<u32> topic;                          // number
    Logged<u32> next_of_topic, next_of_client;  // the latter of those that are nobody's, too
    Logged<Behind> behind;                      // none: it takes nothing
    Logged<u32> most_messages, most_kib;        // that it may be behind
    Logged<u64> next;                           // publication that it takes next
    Logged<u64> next_kib;                       // KiB before that one
};
static_assert(sizeof(TopicUser) == CACHE_LINE);

}  // namespace aep
