// Purpose: the operations of topics: how something is published, and taken by those who have subscribed.
// Who calls it: share_operations.hpp, whose list they are in; the client side of sharing, through the image.
// Crash rule: see sharing/topic_ops.hpp.
#pragma once

#include "dsm-core/base/label.hpp"
#include "dsm-core/op/operation.hpp"
#include "dsm-core/op/share_words.hpp"

namespace aep {

/// What happens when a subscriber is as far behind as it may be.
enum class Behind : u32 {
    none,         // it has not subscribed
    block,        // nothing is published until it has taken something
    drop_oldest,  // it misses what it has not taken
    fail          // as block, and who wants to publish is told so at once
};

/// A topic that a client has open: number and generation of the record of that.
struct TopicUse {
    u64 bits;
    u32 user() const { return static_cast<u32>(bits); }
    u32 generation() const { return static_cast<u32>(bits >> 32); }
    static constexpr TopicUse make(u32 user, u32 generation) {
        return {u64{generation} << 32 | user};
    }
    friend constexpr bool operator==(TopicUse, TopicUse) = default;
};

}  // namespace aep

namespace aep::op {

/// The caller has the topic of that name open; if there is none, the one with that number becomes it, whose ring is present.
struct OpenTopic {
    static constexpr const char* NAME = "open_topic";
    ShareName name{};
    u32 topic = 0;
    u32 most_messages = 0, most_kib = 0;  // that a new one keeps
    struct Reply {
        Status status = Status::ok;  // exists: it is not that one, or that one is another; gone;
                                     // limit: too many have topics open
        u32 reserved = 0;
        TopicUse use{};
    };
};

/// The caller takes what is published from here on, and the last ones before that; or (none) it does no more.
struct Subscribe {
    static constexpr const char* NAME = "subscribe";
    TopicUse use{};
    Behind behind = Behind::none;
    u32 history = 0;                      // publications before it, if there are so many
    u32 most_messages = 0, most_kib = 0;  // that it may be behind; 0: as much as is kept
    using Reply = Done;  // gone: that is not the caller's, or has not subscribed; exists: it has
};

/// One publication for all who have subscribed, and for history: one reference, or the caller's own.
struct Publish {
    static constexpr const char* NAME = "publish";
    TopicUse use{};
    uptr object = 0;
    u64 bytes = 0;  // as Send's
    Label label{};
    bool drop = false;  // as Send's
    struct Reply {
        Status status = Status::ok;  // as Send's; full: somebody who blocks is behind; busy: one
                                     // for whom it fails; gone: that is not the caller's
        u32 reserved = 0;
        uptr left_group = 0;  // as Drop's
    };
};

/// The next publication, with a reference of the caller's.
struct TakePublication {
    static constexpr const char* NAME = "take_publication";
    TopicUse use{};
    struct Reply {
        Status status = Status::ok;  // miss: there is none; gone: as Subscribe's; need_records
        ObjectKind kind = ObjectKind::object;
        uptr object = 0;
        u64 bytes = 0;  // of an object
        ShareId sender{};
        Label label{};
        u64 missed = 0;  // so many before it are there no more
    };
};

/// The caller has it open no more. With the last one go the topic and what is in it, so much at a time.
struct CloseTopic {
    static constexpr const char* NAME = "close_topic";
    TopicUse use{};
    using Reply = Done;  // ok: again; miss: done; gone: that is not the caller's
};

}  // namespace aep::op
