// Purpose: clients that have topics open, as the tests need them.
// Who calls it: tests/node/topics.cpp, topic_model.cpp.
// Crash rule: in children.
#pragma once

#include <cstring>

#include "dsm-core/sharing/topics.hpp"
#include "tests/node/sharing_tables.hpp"

namespace aep::test {

inline constexpr u32 CLIENTS = 4;

inline u32 topic(u32 index) { return first_topic() + index; }

inline op::OpenTopic named(const char* name, u32 index = 0, u32 messages = 0, u32 kib = 0) {
    op::OpenTopic open{.topic = topic(index), .most_messages = messages, .most_kib = kib};
    std::memcpy(open.name.text, name, std::strlen(name));
    return open;
}

/// Clients 1 to 4 take part; 1 and 2 have chunks. The address of those of 1.
inline u64 all_take_part() {
    for (u32 client = 1; client <= CLIENTS; ++client) {
        if (client <= 2) EXPECT_EQ(perform(client, op::ClaimChunks{.count = 4}).status, Status::ok);
        ++client_at(client).generation;
        EXPECT_EQ(ask(client, op::Open{}).status, Status::ok);
    }
    return chunk_address(ChunkIndex{first_chunk_of(1)});
}

inline TopicUse open(u32 client, const op::OpenTopic& o) {
    const auto reply = ask(client, o);
    EXPECT_EQ(reply.status, Status::ok);
    return reply.use;
}

inline TopicUse subscribed(u32 client, const op::OpenTopic& o, op::Subscribe how) {
    how.use = open(client, o);
    EXPECT_EQ(ask(client, how).status, Status::ok);
    return how.use;
}

inline Status close(u32 client, TopicUse use) {
    Status status = Status::ok;
    while (status == Status::ok) status = ask(client, op::CloseTopic{use}).status;
    return status;
}

inline void leave(u32 client) {
    while (ask(client, op::Leave{}).status == Status::ok) continue;
}

}  // namespace aep::test
