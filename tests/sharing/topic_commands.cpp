// Purpose: see topic_commands.hpp.
// Who calls it: see topic_commands.hpp.
// Crash rule: see topic_commands.hpp.
#include "tests/sharing/topic_commands.hpp"

#include <unistd.h>
#include <fstream>
#include <thread>

#include "include/aep/topic.hpp"

namespace aep::test {
namespace {

/// Name, messages, bytes.
std::string open_topic(const Words& w) {
    return number_or_error(dsm_topic_open(w[0].c_str(), w.number<unsigned>(1), w.number(2)));
}

/// Topic, behind, history, messages, bytes.
std::string subscribe(const Words& w) {
    const dsm_subscription how{.behind = w.number<std::uint32_t>(1),
                               .history = w.number<std::uint32_t>(2),
                               .messages = w.number<std::uint32_t>(3),
                               .reserved = 0,
                               .bytes = w.number(4)};
    return ok_or_error(dsm_topic_subscribe(w.number(0), &how));
}

/// Topic, object, tag, time, flags.
std::string publish(const Words& w) {
    const dsm_label label{.tag = w.number(2), .type = 0, .version = 0, .reserved = 0};
    return ok_or_error(dsm_topic_publish(w.number(0), w.pointer(1), &label, w.number<int>(3),
                                         w.number<unsigned>(4)));
}

/// Topic, time: "address sender tag missed".
std::string take(const Words& w) {
    dsm_message message{};
    std::uint64_t missed = 0;
    void* const object =
        dsm_topic_take(w.number(0), w.number<int>(1), &message, sizeof message, &missed);
    if (object == nullptr) return strerrorname_np(errno);
    return address_text(object) + " " + std::to_string(message.sender) + " " +
           std::to_string(message.tag) + " " + std::to_string(missed);
}

/// Topic, how many: published one after the other, each by its only reference, waiting for whoever is behind. Each is its number.
std::string publish_numbers(const Words& w) {
    for (long i = 0; i < w.number<long>(1); ++i) {
        long* const number = static_cast<long*>(dsm_malloc(sizeof(long)));
        *number = i;
        int result = 0;
        do result = dsm_topic_publish(w.number(0), number, nullptr, -1, DSM_DROP);
        while (result != 0 && errno == EINTR);
        if (result != 0) return strerrorname_np(errno);
    }
    return "ok";
}

/// Topic, how many in all: those that were taken, those that were missed, and whether they came in order.
std::string take_numbers(const Words& w) {
    std::uint64_t taken = 0, missed = 0;
    bool in_order = true;
    while (taken + missed < w.number(1)) {
        std::uint64_t before = 0;
        long* const number =
            static_cast<long*>(dsm_topic_take(w.number(0), -1, nullptr, 0, &before));
        if (number == nullptr && errno == EINTR) continue;
        if (number == nullptr) return strerrorname_np(errno);
        missed += before;
        in_order = in_order && static_cast<std::uint64_t>(*number) == taken + missed;
        ++taken;
        dsm_free(number);
    }
    return std::to_string(taken) + " " + std::to_string(missed) + (in_order ? " in order" : "");
}

/// One thread takes from a topic for ever; another one ends that by closing it, or by taking part no more: what the first one is told.
std::string end_a_take(const Words& w) {
    const dsm_topic topic = w.number(0);
    std::atomic<pid_t> tid{0};
    int error = 0;
    std::thread taker([&] {
        tid = gettid();
        error = dsm_topic_take(topic, -1, nullptr, 0, nullptr) == nullptr ? errno : 0;
    });
    while (tid == 0) std::this_thread::yield();
    const std::string call = "/proc/self/task/" + std::to_string(tid) + "/syscall";
    for (std::string number; number != "202";)
        std::ifstream(call) >> number;  // it sleeps on a futex
    int ended = 0;
    if (w[1] == "close") ended = dsm_topic_close(topic);
    if (w[1] == "leave") ended = dsm_topic_leave(topic);
    if (w[1] == "detach") ended = dsm_detach();
    taker.join();
    return ended == 0 ? strerrorname_np(error) : "not ended";
}

/// Opens topics until there are no more: how many, and why not.
std::string open_all(const Words& w) {
    unsigned count = 0;
    const auto name = [&] {
        std::string text = w[0];
        if (text != "same") text += std::to_string(count);
        return text;
    };
    while (dsm_topic_open(name().c_str(), 1, 0) != 0) ++count;
    return std::to_string(count) + " " + strerrorname_np(errno);
}

/// By the handles of C++: name, how many; the sum of what came, and what a publication of another type is told.
std::string publish_and_take(const Words& w) {
    const dsm::Subscription<long> numbers(w[0],
                                          {.behind = dsm::Behind::drop_oldest, .messages = 4});
    const dsm::Topic<long> topic(w[0]);
    for (long i = 0; i < w.number<long>(1); ++i) topic.publish(dsm::make<long>(i));
    long sum = 0;
    std::uint64_t missed = 0;
    while (const dsm::Ref<long> number = numbers.take(dsm::AT_ONCE, &missed)) sum += *number;
    dsm::Topic<char> other(w[0]);
    const dsm::Ref<char> letter = dsm::make<char>('a');
    other.publish(letter);
    std::string said = "taken";
    try {
        numbers.take(dsm::AT_ONCE);
    } catch (const std::system_error& error) {
        said = strerrorname_np(error.code().value());
    }
    const dsm::Topic<char> moved = std::move(other);
    return std::to_string(sum) + " " + said + " " + std::to_string(dsm_references(letter.get()));
}

std::string odd_topics(const Words&) {
    const auto is = [](bool failed, int error) { return failed && errno == error; };
    const dsm_topic topic = dsm_topic_open("odd", 0, 0);
    void* const one = dsm_malloc(10);
    dsm_subscription how{.behind = 3, .history = 0, .messages = 0, .reserved = 0, .bytes = 0};
    if (!is(dsm_topic_open(nullptr, 0, 0) == 0, EINVAL)) return "no name";
    if (!is(dsm_topic_open("", 0, 0) == 0, EINVAL)) return "an empty name";
    if (!is(dsm_topic_open("a name of more than thirty-one l", 0, 0) == 0, EINVAL)) return "length";
    if (!is(dsm_topic_subscribe(topic, &how) != 0, EINVAL)) return "behind";
    how = {.behind = DSM_FAIL, .history = 0, .messages = 0, .reserved = 1, .bytes = 0};
    if (!is(dsm_topic_subscribe(topic, &how) != 0, EINVAL)) return "reserved";
    if (!is(dsm_topic_take(topic, 0, nullptr, 0, nullptr) == nullptr, EINVAL)) return "take";
    if (!is(dsm_topic_take(topic, -1, nullptr, 0, nullptr) == nullptr, EINVAL)) return "wait";
    if (!is(dsm_topic_leave(topic) != 0, EINVAL)) return "leave";
    if (dsm_topic_subscribe(topic, nullptr) != 0) return "subscribe";
    if (!is(dsm_topic_subscribe(topic, nullptr) != 0, EEXIST)) return "subscribe again";
    if (!is(dsm_topic_take(topic, 0, nullptr, 0, nullptr) == nullptr, EAGAIN)) return "no take";
    if (!is(dsm_topic_take(topic, 1, nullptr, 0, nullptr) == nullptr, ETIMEDOUT)) return "time";
    dsm_message message;
    if (!is(dsm_topic_take(topic, 0, &message, 5000, nullptr) == nullptr, EINVAL)) return "size";
    if (!is(dsm_topic_publish(topic, nullptr, nullptr, 0, 0) != 0, EINVAL)) return "no object";
    if (!is(dsm_topic_publish(topic, one, nullptr, 0, 8) != 0, EINVAL)) return "flags";
    if (!is(dsm_topic_publish(topic, static_cast<char*>(one) + 1, nullptr, 0, 0) != 0, EINVAL))
        return "no start of an object";
    for (const dsm_topic none : {dsm_topic{0}, dsm_topic{1} << 32, topic + 1,
                                 topic + (dsm_topic{1} << 32), ~dsm_topic{0}}) {
        if (!is(dsm_topic_publish(none, one, nullptr, 0, 0) != 0, EINVAL)) return "publish in none";
        if (!is(dsm_topic_take(none, 0, nullptr, 0, nullptr) == nullptr, EINVAL))
            return "take none";
        if (!is(dsm_topic_subscribe(none, nullptr) != 0, EINVAL)) return "subscribe to none";
        if (!is(dsm_topic_leave(none) != 0, EINVAL)) return "leave none";
        if (!is(dsm_topic_close(none) != 0, EINVAL)) return "close none";
    }
    if (dsm_topic_close(topic) != 0) return "close";
    if (!is(dsm_topic_close(topic) != 0, EINVAL)) return "close again";
    return dsm_free(one) == 0 ? "ok" : "free";
}

}  // namespace

const Commands TOPIC_COMMANDS = {
    {"topen", open_topic},
    {"tsub", subscribe},
    {"tpub", publish},
    {"ttake", take},
    {"tleave", [](const Words& w) { return ok_or_error(dsm_topic_leave(w.number(0))); }},
    {"tclose", [](const Words& w) { return ok_or_error(dsm_topic_close(w.number(0))); }},
    {"tnumbers", publish_numbers},
    {"ttakenumbers", take_numbers},
    {"tendtake", end_a_take},
    {"topenall", open_all},
    {"tcxx", publish_and_take},
    {"oddtopics", odd_topics},
};

}  // namespace aep::test
