// Purpose: see mailbox_commands.hpp.
// Who calls it: see mailbox_commands.hpp.
// Crash rule: see mailbox_commands.hpp.
#include "tests/sharing/mailbox_commands.hpp"

#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "include/aep/dsm.h"

namespace aep::test {
namespace {

/// "address sender tag", or errno's name.
std::string told(const void* object, const dsm_message& message) {
    if (object == nullptr) return strerrorname_np(errno);
    return address_text(object) + " " + std::to_string(message.sender) + " " +
           std::to_string(message.tag);
}

dsm_message last{};

std::string hear_at(const Words& w) {
    void* p = dsm_recv_at(w.number(0), w.number(1), w.number<int>(2), &last, sizeof last);
    return told(p, last);
}

std::string send_as(const Words& w) {
    const dsm_label label{.tag = w.number(3), .type = 0, .version = 0, .reserved = 0};
    return ok_or_error(dsm_send_as(w.number(0), w.number(1), w.pointer(2), &label, w.number<int>(4),
                                   w.number<unsigned>(5)));
}

std::string call(const Words& w) {
    const dsm_label label{.tag = w.number(2), .type = 0, .version = 0, .reserved = 0};
    dsm_message answer{};
    void* p = dsm_call(w.number(0), w.pointer(1), &label, w.number<int>(3), w.number<unsigned>(4),
                       &answer, sizeof answer);
    return told(p, answer);
}

/// Two numbers, of which an answer has the second one more.
struct Sum {
    std::uint64_t who, value;
};

/// Answers with a new object, with the question itself, or (of 0) with nothing.
void* add_one(const dsm_message*, void* object, void*) {
    Sum* question = static_cast<Sum*>(object);
    if (question->value == 0) return nullptr;
    if (question->value % 2 == 0) {
        ++question->value;
        return question;
    }
    Sum* answer = static_cast<Sum*>(dsm_malloc(sizeof(Sum)));
    *answer = {question->who, question->value + 1};
    return answer;
}

/// In so many threads, until all are asked for: "ok" or an errno's name.
std::string serve(const Words& w) {
    std::atomic<long> left{w.number<long>(0)};
    std::atomic<int> error{0};
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < w.number<unsigned>(1); ++i)
        threads.emplace_back([&] {
            while (left.fetch_sub(1) > 0)
                if (dsm_serve(DSM_ANY, add_one, nullptr, -1) != 0) error = errno;
        });
    for (std::thread& thread : threads) thread.join();
    return error == 0 ? "ok" : strerrorname_np(error);
}

/// So many threads call so often each: how many got an answer that was another's, or none.
std::string callers(const Words& w) {
    const dsm_id to = w.number(0);
    std::atomic<unsigned> wrong{0};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < w.number<unsigned>(1); ++t)
        threads.emplace_back([&, t] {
            for (std::uint64_t i = 1; i <= w.number(2); ++i) {
                Sum* question = static_cast<Sum*>(dsm_malloc(sizeof(Sum)));
                *question = {t, i};
                const dsm_label label{
                    .tag = t * 1'000'000 + i, .type = 0, .version = 0, .reserved = 0};
                dsm_message answer{};
                const Sum* sum = static_cast<Sum*>(
                    dsm_call(to, question, &label, -1, DSM_DROP, &answer, sizeof answer));
                if (sum == nullptr || sum->who != t || sum->value != i + 1 ||
                    answer.tag != label.tag)
                    ++wrong;
                dsm_free(const_cast<Sum*>(sum));
            }
        });
    for (std::thread& thread : threads) thread.join();
    return std::to_string(wrong);
}

/// Answers the last message with an object of its own.
std::string answer(const Words&) {
    void* p = dsm_malloc(24);
    const std::string said = ok_or_error(dsm_answer(&last, p, nullptr, 0, DSM_DROP));
    if (said != "ok") dsm_free(p);
    return said;
}

/// One thread waits for a message for ever, and another takes part no more: what the first one is told.
std::string detach_beside_a_receive(const Words&) {
    std::atomic<int> tid{0}, error{0};
    std::thread receiver([&] {
        tid = gettid();
        if (dsm_recv(DSM_ANY, -1, nullptr) == nullptr) error = errno;
    });
    while (tid == 0) std::this_thread::yield();
    const std::string call = "/proc/self/task/" + std::to_string(tid) + "/syscall";
    for (std::string number; number != "202";)
        std::ifstream(call) >> number;  // it sleeps on a futex
    const int detached = dsm_detach();
    receiver.join();
    return detached == 0 ? strerrorname_np(error) : "not detached";
}

/// Opens mailboxes until there are no more: how many, and why not.
std::string open_all(const Words&) {
    unsigned count = 0;
    while (dsm_mailbox_open() != 0) ++count;
    return std::to_string(count) + " " + strerrorname_np(errno);
}

}  // namespace

const Commands MAILBOX_COMMANDS = {
    {"rdonly", [](const Words& w) { return ok_or_error(dsm_read_only(w.number<int>(0))); }},
    {"detachbeside", detach_beside_a_receive},
    {"detach", [](const Words&) { return ok_or_error(dsm_detach()); }},
    {"lookupwait",
     [](const Words& w) {
         return number_or_error(dsm_lookup_wait(w[0].c_str(), w.number<int>(1)));
     }},
    {"mopen", [](const Words&) { return number_or_error(dsm_mailbox_open()); }},
    {"mopenall", open_all},
    {"mclose", [](const Words& w) { return ok_or_error(dsm_mailbox_close(w.number(0))); }},
    {"mlimit",
     [](const Words& w) { return ok_or_error(dsm_mailbox_limit(w.number(0), w.number(1))); }},
    {"sendas", send_as},
    {"hearat", hear_at},
    {"call", call},
    {"callers", callers},
    {"serve", serve},
    {"answer", answer},
};

}  // namespace aep::test
