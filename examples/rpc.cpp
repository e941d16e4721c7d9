// Purpose: a server and its callers: a request and its reply are objects that are read where they
//          are. The server sleeps in epoll, as it would beside sockets and timers.
// Who calls it: people who begin, and the tests:
//     aep run -- rpc serve & aep run -- rpc call 1000 & aep run -- rpc call 1000
// Crash rule: a caller may be killed at any moment: what is for it goes with it, and the server
// goes
//             on. Without the server a call fails.
#include <aep/dsm.hpp>

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace {

namespace dsm = aep::dsm;

// Which call it is goes with the message, as its tag.
struct Request {
    static constexpr const char* dsm_type_name = "rpc.Request";
    static constexpr std::uint32_t dsm_version = 1;
    std::array<std::uint32_t, 256> numbers{};
};

struct Reply {
    static constexpr const char* dsm_type_name = "rpc.Reply";
    static constexpr std::uint32_t dsm_version = 1;
    std::uint64_t sum = 0;
    std::uint32_t greatest = 0;
};

// ---- the server

dsm::Ref<Reply> answer(const Request& request) {
    auto reply = dsm::make<Reply>();
    for (const std::uint32_t number : request.numbers) {
        reply->sum += number;
        if (number > reply->greatest) reply->greatest = number;
    }
    return reply;
}

/// Answers all that waits. How many were answered.
unsigned long answer_all() {
    const dsm::Channel<Request> everybody(DSM_ANY);
    unsigned long answered = 0;
    for (;;) {
        try {
            const auto request = everybody.try_receive();
            if (!request) return answered;
            const dsm::Channel<Reply> caller(request.sender());
            if (caller.try_send(answer(*request), request.tag())) ++answered;
            // Else its mailbox is full: it does not read its replies, so it gets no more.
        } catch (const std::system_error& error) {
            const int code = error.code().value();
            // The caller has died meanwhile; or it is another program, or of another version.
            if (code != ESRCH && code != EPROTOTYPE && code != EMSGSIZE) throw;
        }
    }
}

/// SIGTERM as a descriptor.
int termination() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

int serve() {
    const int ended = termination();
    dsm::attach("rpc");
    const int loop = epoll_create1(EPOLL_CLOEXEC);
    for (const int fd : {ended, dsm::fd()}) {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.fd = fd;
        if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) != 0) {
            std::perror("rpc");
            return 1;
        }
    }
    std::puts("waiting");
    std::fflush(stdout);
    unsigned long answered = 0;
    for (;;) {
        epoll_event event{};
        if (epoll_wait(loop, &event, 1, -1) != 1) continue;
        if (event.data.fd == ended) break;
        answered += answer_all();
    }
    std::printf("%lu answered\n", answered);
    return 0;
}

// ---- a caller

int call(unsigned long calls) {
    dsm::attach();
    const auto server = dsm::Channel<Request>::to("rpc");
    const dsm::Channel<Reply> replies(server.peer());
    auto request = dsm::make<Request>();  // one for all: the server only reads it, until it replies
    for (unsigned long i = 0; i < calls; ++i) {
        std::uint64_t sum = 0;
        for (std::uint32_t n = 0; n < request->numbers.size(); ++n) {
            request->numbers[n] = static_cast<std::uint32_t>(i) + n;
            sum += request->numbers[n];
        }
        server.send(request, dsm::FOREVER, i);
        const auto reply = replies.receive();
        if (reply.tag() != i || reply->sum != sum || reply->greatest != i + 255) {
            std::fputs("rpc: a wrong reply\n", stderr);
            return 1;
        }
    }
    std::printf("%lu calls\n", calls);
    return 0;
}

}  // namespace

int main(int count, char** words) {
    try {
        if (count == 2 && std::string_view(words[1]) == "serve") return serve();
        if (count == 3 && std::string_view(words[1]) == "call")
            return call(std::strtoul(words[2], nullptr, 10));
    } catch (const std::system_error& error) {
        std::fprintf(stderr, "rpc: %s: %s\n", error.what(), dsm_strerror(error.code().value()));
        return 1;
    }
    std::fputs("usage: rpc serve | rpc call N\n", stderr);
    return 2;
}
