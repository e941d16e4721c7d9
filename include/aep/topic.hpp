// Purpose: topics of aep/dsm.h for C++20: what is published once for any number of subscribers. Header only.
// Who calls it: programs that link libaepmalloc.so.
// Crash rule: that of dsm.h: a killed process's topics are closed, whatever its handles say.
//
//     aep::dsm::Topic<Price> prices("prices");
//     prices.publish(aep::dsm::make<Price>(42));
//     ...
//     aep::dsm::Subscription<Price> prices("prices", {.history = 10});
//     for (;;) use(*prices.take());
//
// Functions throw std::system_error with dsm.h's errno. Like Ref, handles are not thread-safe in themselves, but any number of threads may publish and
// take by one.
#pragma once

#include <aep/dsm.hpp>

namespace aep::dsm {

/// How much of what is published is kept, and for whom who publishes waits; 0: as much as can be.
struct Keep {
    unsigned messages = 0;
    std::size_t bytes = 0;
};

/// What happens when a subscriber is as far behind as it may be.
enum class Behind : std::uint32_t {
    block = DSM_BLOCK,              // who publishes waits for it
    drop_oldest = DSM_DROP_OLDEST,  // it misses some
    fail = DSM_FAIL                 // who publishes is told EAGAIN at once
};
struct Subscribe {
    Behind behind = Behind::block;
    std::uint32_t history = 0;   // so many of what is kept are taken first
    std::uint32_t messages = 0;  // that it may be behind; 0: as many as are kept
    std::uint64_t bytes = 0;     // of memory that they are about
};

namespace detail {

/// A topic that is open; move-only.
class OpenTopic {
  public:
    OpenTopic(const std::string& name, Keep keep)
        : topic_(dsm_topic_open(name.c_str(), keep.messages, keep.bytes)) {
        if (topic_ == 0) fail("dsm_topic_open");
    }
    OpenTopic(OpenTopic&& other) noexcept : topic_(std::exchange(other.topic_, 0)) {}
    OpenTopic& operator=(OpenTopic&& other) noexcept {
        std::swap(topic_, other.topic_);
        return *this;
    }
    OpenTopic(const OpenTopic&) = delete;
    OpenTopic& operator=(const OpenTopic&) = delete;
    ~OpenTopic() {
        if (topic_ != 0) dsm_topic_close(topic_);
    }
    dsm_topic get() const { return topic_; }

  private:
    dsm_topic topic_;
};

inline void publish(dsm_topic topic, void* object, const dsm_label& label, Timeout timeout,
                    unsigned flags) {
    const Limit limit(timeout);
    int result = dsm_topic_publish(topic, object, &label, limit.left(), flags);
    while (result != 0 && errno == EINTR)
        result = dsm_topic_publish(topic, object, &label, limit.left(), flags);
    expect(result, "dsm_topic_publish");
}

}  // namespace detail

/// A topic to publish in; closed with it. Of one that is there already what was said to be kept first counts. ENOTCONN, EINVAL, ENOSPC.
template <Sharable T>
class Topic {
  public:
    explicit Topic(const std::string& name, Keep keep = {}) : open_(name, keep) {}

    /// A reference goes to all who have subscribed; the caller's stays. EAGAIN, ETIMEDOUT: somebody is too far behind (all the time).
    void publish(const Ref<T>& object, Timeout timeout = AT_ONCE, std::uint64_t tag = 0) const {
        detail::publish(open_.get(), object.get(), detail::label_of<T>(tag), timeout, 0);
    }
    /// The caller's only one: it is empty once that is done, and kept if it throws.
    void publish(Ref<T>&& object, Timeout timeout = AT_ONCE, std::uint64_t tag = 0) const {
        detail::publish(open_.get(), object.get(), detail::label_of<T>(tag), timeout, DSM_DROP);
        object.release();
    }

  private:
    detail::OpenTopic open_;
};

/// What is published in a topic, for one who takes it; left and closed with it. Errors as of Topic.
template <Sharable T>
class Subscription {
  public:
    explicit Subscription(const std::string& name, const Subscribe& how = {}, Keep keep = {})
        : open_(name, keep) {
        const dsm_subscription said{.behind = static_cast<std::uint32_t>(how.behind),
                                    .history = how.history,
                                    .messages = how.messages,
                                    .reserved = 0,
                                    .bytes = how.bytes};
        detail::expect(dsm_topic_subscribe(open_.get(), &said), "dsm_topic_subscribe");
    }

    /// Waits for the next publication; an empty Ref: none came in time. `missed`: so many before it were missed. EPROTOTYPE, EMSGSIZE: as of
    /// receive; that one has been taken.
    Ref<T> take(Timeout timeout = FOREVER, std::uint64_t* missed = nullptr) const {
        const detail::Limit limit(timeout);
        dsm_message message{};
        void* object = nullptr;
        do {
            object = dsm_topic_take(open_.get(), limit.left(), &message, sizeof message, missed);
        } while (object == nullptr && errno == EINTR);
        if (object == nullptr && errno != ETIMEDOUT && errno != EAGAIN)
            detail::fail("dsm_topic_take");
        if (object == nullptr) return {};
        detail::expect_type<T>(object, message);
        return Ref<T>(static_cast<T*>(object), message.sender, message.tag);
    }

  private:
    detail::OpenTopic open_;
};

}  // namespace aep::dsm
