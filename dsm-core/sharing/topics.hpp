// Purpose: where topics are, and the records of who has them open.
// Who calls it: the sharing operations, the client side, recovery, check.
// Crash rule: see topic_format.hpp.
#pragma once

#include "dsm-core/sharing/format.hpp"

namespace aep {

/// The number of a context's first topic: they come after its inboxes.
inline u32 first_topic() { return FIRST_FURTHER + further_inboxes(context().max_clients); }
inline bool is_topic(u32 number) { return number - first_topic() < MOST_TOPICS; }
/// By its number.
inline Topic& topic_at(u32 number) {
    return share_part<Topic>(share_layout().topics)[number - first_topic()];
}
/// 1 .. most_topic_users().
inline bool is_topic_user(u32 index) {
    return index != 0 && index <= most_topic_users(context().max_clients);
}
inline TopicUser& topic_user_at(u32 index) {
    return share_part<TopicUser>(share_layout().topic_users)[index];
}

}  // namespace aep
