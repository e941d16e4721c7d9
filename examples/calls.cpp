// Purpose: questions and answers, many under way at once in one thread, by coroutines; without exceptions.
// Who calls it: people who begin, and the tests:
//     aep run -- calls serve & aep run -- calls ask 1000
// Crash rule: whoever dies is waited for no more: a caller of a dead server is told so, and the answer to a dead caller goes nowhere.
#include <aep/call.hpp>

#include <cstdint>
#include <cstdio>
#include <string_view>

namespace {

namespace dsm = aep::dsm;
using namespace std::chrono_literals;

struct Question {
    static constexpr const char* dsm_type_name = "calls.Question";
    std::uint64_t number;
};
struct Answer {
    static constexpr const char* dsm_type_name = "calls.Answer";
    std::uint64_t square;
};

int fail(const char* what, int error) {
    std::fprintf(stderr, "calls: %s: %s\n", what, dsm_strerror(error));
    return 1;
}

int serve() {
    if (dsm_attach("calls") != 0) return fail("dsm_attach", errno);
    std::puts("waiting");
    std::fflush(stdout);
    for (;;) {
        const auto served = dsm::serve<Question>(
            [](const Question& q) { return dsm::try_make<Answer>(Answer{q.number * q.number}); });
        if (!served) return fail("serve", served.error());
    }
}

/// One call after the other, in a coroutine: how many answers were right goes into `right`.
dsm::Job ask(dsm::Caller& caller, dsm::Id server, std::uint64_t first, std::uint64_t count,
             std::uint64_t& right) {
    for (std::uint64_t n = first; n < first + count; ++n) {
        auto question = dsm::try_make<Question>(Question{n});
        if (!question) co_return;
        const auto answer = co_await caller.ask<Answer>(server, std::move(*question), 10s);
        if (!answer) {
            fail("a call", answer.error());
            co_return;
        }
        if ((*answer)->square == n * n) ++right;
    }
}

int ask_all(unsigned long count) {
    if (dsm_attach(nullptr) != 0) return fail("dsm_attach", errno);
    const dsm::Id server = dsm_lookup_wait("calls", 10'000);
    if (server == 0) return fail("the server", errno);
    auto caller = dsm::Caller::open();
    if (!caller) return fail("a mailbox", caller.error());
    std::uint64_t right = 0;
    constexpr unsigned long JOBS = 8;
    for (unsigned long job = 0; job < JOBS; ++job)
        ask(*caller, server, job * count, count / JOBS, right);
    if (const int error = caller->run(); error != 0) return fail("run", error);
    std::printf("%lu right answers\n", static_cast<unsigned long>(right));
    return right == count / JOBS * JOBS ? 0 : 1;
}

}  // namespace

int main(int count, char** words) {
    if (count == 2 && std::string_view(words[1]) == "serve") return serve();
    if (count == 3 && std::string_view(words[1]) == "ask")
        return ask_all(std::strtoul(words[2], nullptr, 10));
    std::fputs("usage: calls serve | calls ask N\n", stderr);
    return 2;
}
