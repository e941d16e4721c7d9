// Purpose: a client that shares, doing what it is told line by line: the other end of sharing.py.
// Who calls it: tests/sharing/sharing.py, under the preload.
// Crash rule: it is there to be killed.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "include/aep/dsm.h"
#include "tests/sharing/call_commands.hpp"
#include "tests/sharing/event_commands.hpp"
#include "tests/sharing/group_commands.hpp"
#include "tests/sharing/label_commands.hpp"
#include "tests/sharing/mailbox_commands.hpp"
#include "tests/sharing/many_commands.hpp"
#include "tests/sharing/odd_commands.hpp"
#include "tests/sharing/topic_commands.hpp"

namespace {

using namespace aep::test;

/// Sends and receives to itself and to `peer` for ever, with objects of all sizes.
void churn(dsm_id peer, unsigned seed) {
    std::vector<void*> mine;
    for (unsigned n = seed;; n = n * 1664525 + 1013904223) {
        const unsigned choice = n >> 24;
        const size_t size = size_t{1} << (n >> 8) % 20;
        if (choice < 60) {
            if (void* p = dsm_malloc(size)) {
                std::memset(p, 0x5a, 1);
                mine.push_back(p);
            }
        } else if (choice < 120 && !mine.empty()) {
            dsm_send(choice % 2 == 0 ? peer : dsm_self(), mine[n % mine.size()]);
        } else if (choice < 190) {
            if (void* p = dsm_recv(DSM_ANY, 0, nullptr)) mine.push_back(p);
        } else if (choice < 200 && !mine.empty()) {
            if (dsm_ref(mine[n % mine.size()]) == 0) mine.push_back(mine[n % mine.size()]);
        } else if (!mine.empty()) {
            std::swap(mine[n % mine.size()], mine.back());
            dsm_free(mine.back());
            mine.pop_back();
        }
        if (mine.size() > 200) {
            for (void* p : mine) dsm_free(p);
            mine.clear();
        }
    }
}

/// Whether the descriptor is readable within the time: "up", "down" or "gone".
std::string polled(int fd, int timeout_ms) {
    pollfd one{fd, POLLIN, 0};
    if (poll(&one, 1, timeout_ms) == 0) return "down";
    return (one.revents & POLLIN) != 0 ? "up" : "gone";
}

/// An event loop: takes and drops `wanted` messages, sleeping in epoll alone. How often it woke.
std::string looped(unsigned long wanted, bool edge) {
    const int loop = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{};
    event.events = EPOLLIN | (edge ? EPOLLET : 0u);
    epoll_ctl(loop, EPOLL_CTL_ADD, dsm_fd(), &event);
    unsigned long wakes = 0;
    while (wanted != 0) {
        if (epoll_wait(loop, &event, 1, -1) != 1) continue;
        ++wakes;
        void* p = nullptr;
        while (wanted != 0 && (p = dsm_recv(DSM_ANY, 0, nullptr)) != nullptr) {
            dsm_free(p);
            --wanted;
        }
        if (p == nullptr && errno != EAGAIN) return strerrorname_np(errno);
    }
    close(loop);
    return std::to_string(wakes);
}

/// Waits for a message, in dsm_recv or (`by_descriptor`) in poll, at most 10 s.
void* awaited(bool by_descriptor) {
    if (!by_descriptor) return dsm_recv(DSM_ANY, 10'000, nullptr);
    void* p = nullptr;
    while ((p = dsm_recv(DSM_ANY, 0, nullptr)) == nullptr && errno == EAGAIN) {
        if (polled(dsm_fd(), 10'000) != "up") {
            errno = ETIMEDOUT;
            return nullptr;
        }
    }
    return p;
}

/// Sends an object to and fro, each time after a pause of a length around that of the spin before a
/// receiver sleeps: the other end is just going to sleep.
std::string volley(dsm_id peer, unsigned rounds, bool serves, bool by_descriptor) {
    void* p = serves ? dsm_malloc(64) : nullptr;
    unsigned random = serves ? 1 : 2;
    for (unsigned n = 0; n < rounds; ++n) {
        if (p == nullptr && (p = awaited(by_descriptor)) == nullptr)
            return std::string(strerrorname_np(errno)) + " in round " + std::to_string(n);
        random = random * 1664525 + 1013904223;
        for (unsigned pause = (random >> 8) % 4096; pause != 0; --pause) __builtin_ia32_pause();
        if (dsm_send(peer, p) != 0 || dsm_free(p) != 0) return strerrorname_np(errno);
        p = nullptr;
    }
    return "ok";
}

/// dsm_fd when no descriptor can be made, and then one.
std::string fd_without_files() {
    rlimit before{};
    getrlimit(RLIMIT_NOFILE, &before);
    const rlimit none{0, before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    const std::string first = dsm_fd() < 0 ? strerrorname_np(errno) : "made";
    setrlimit(RLIMIT_NOFILE, &before);
    return first + " " + (dsm_fd() < 0 ? strerrorname_np(errno) : "made");
}

/// A fork that is refused halfway: no more than `room` bytes of the heap can be made private.
std::string forked_without_room(long room) {
    rlimit before{};
    getrlimit(RLIMIT_DATA, &before);
    std::ifstream status("/proc/self/status");
    std::string word;
    while (status >> word && word != "VmData:") {
    }
    long data = 0;
    status >> data;
    const rlimit close{static_cast<rlim_t>(data * 1024 + room), before.rlim_max};
    setrlimit(RLIMIT_DATA, &close);
    const pid_t child = fork();
    const int error = errno;
    setrlimit(RLIMIT_DATA, &before);
    if (child == 0) _exit(0);
    if (child > 0) {
        waitpid(child, nullptr, 0);
        return "forked";
    }
    return strerrorname_np(error);
}

/// A fork of a process that has a descriptor: what the child finds, and after it attached anew.
std::string forked_with_fd() {
    const int parents = dsm_fd();
    const pid_t child = fork();
    if (child == 0) {
        if (fcntl(parents, F_GETFD) != -1 || errno != EBADF) _exit(1);
        if (dsm_fd() != -1 || errno != ENOTCONN) _exit(2);
        void* fresh = std::malloc(5'000'000);  // becomes a client
        if (fresh == nullptr || dsm_attach(nullptr) != 0) _exit(3);
        const int own = dsm_fd();
        if (own < 0 || polled(own, 0) != "down") _exit(4);
        if (dsm_send(dsm_self(), fresh) != 0 || polled(own, -1) != "up") _exit(5);
        if (dsm_recv(DSM_ANY, 0, nullptr) != fresh) _exit(6);
        if (dsm_recv(DSM_ANY, 0, nullptr) != nullptr || polled(own, 0) != "down") _exit(7);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return std::to_string(status);
}

/// A fork whose child takes part at once, with nothing allocated before, as a program does that
/// goes into the background: 0 if its first objects can be sent.
std::string forked_and_attached() {
    const pid_t child = fork();
    if (child == 0) {
        if (dsm_attach(nullptr) != 0) _exit(1);
        for (const size_t size : {10, 100, 65536, 200000, 9'000'000}) {
            void* first = dsm_calloc(1, size);
            if (first == nullptr || dsm_send(dsm_self(), first) != 0) _exit(2);
            if (dsm_recv(DSM_ANY, 0, nullptr) != first) _exit(3);
        }
        void* grown = dsm_malloc(40);
        std::strcpy(static_cast<char*>(grown), "kept");
        grown = dsm_realloc(grown, 300'000);
        if (std::strcmp(static_cast<char*>(grown), "kept") != 0) _exit(4);
        if (dsm_send(dsm_self(), grown) != 0) _exit(5);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return std::to_string(status);
}

/// A child that takes part, and shares until it has a slot of its own, if it ever gets one; then it waits for its end.
std::string forked_and_staying() {
    int told[2];
    if (pipe(told) != 0) return "no pipe";
    const pid_t child = fork();
    if (child == 0) {
        if (dsm_attach(nullptr) != 0) _exit(1);
        void* object = dsm_malloc(64);
        for (int i = 0; i < 100; ++i) {
            if (dsm_send(dsm_self(), object) != 0 || dsm_recv(DSM_ANY, 0, nullptr) != object)
                _exit(2);
            if (dsm_free(object) != 0) _exit(3);
        }
        if (write(told[1], "s", 1) != 1) _exit(4);
        for (;;) pause();
    }
    close(told[1]);
    char byte;
    const bool shared = read(told[0], &byte, 1) == 1;
    close(told[0]);
    return shared ? std::to_string(child) : "it does not share";
}

/// The program's threads end one by one, main first: so does the process, although the thread
/// behind the descriptor does not.
[[noreturn]] void end_by_threads() {
    std::thread([] {}).detach();
    pthread_exit(nullptr);
}

/// As many threads receive at once, each what it points at, too.
std::string gather(unsigned threads) {
    std::vector<std::thread> running;
    std::vector<int> errors(threads, 0);
    for (unsigned i = 0; i < threads; ++i) {
        running.emplace_back([&error = errors[i]] {
            void* object = dsm_recv(DSM_ANY, -1, nullptr);
            if (object == nullptr) {
                error = errno;
                return;
            }
            static_cast<void>(*static_cast<volatile char*>(object));
            static_cast<void>(**static_cast<volatile char* volatile*>(object));
        });
    }
    for (std::thread& thread : running) thread.join();
    for (const int error : errors)
        if (error != 0) return strerrorname_np(error);
    return "ok";
}

/// Many small objects, as fast as they are taken.
std::string flood(dsm_id peer, unsigned long objects) {
    for (; objects != 0; --objects) {
        void* p = dsm_malloc(16);
        if (p == nullptr || dsm_send_wait(peer, p, -1) != 0) return strerrorname_np(errno);
        dsm_free(p);
    }
    return "ok";
}

/// "address size sender group".
std::string received(dsm_id sender, int timeout_ms) {
    dsm_info info{};
    void* p = dsm_recv(sender, timeout_ms, &info);
    if (p == nullptr) return strerrorname_np(errno);
    return address_text(p) + " " + std::to_string(info.size) + " " + std::to_string(info.sender) +
           " " + (info.group == nullptr ? "-" : address_text(info.group));
}

std::string referenced(void* p, unsigned times) {
    for (; times != 0; --times)
        if (dsm_ref(p) != 0) return strerrorname_np(errno);
    return "ok";
}

/// A fork whose child frees its copies of the objects, and is no client.
std::string forked(void* first, void* second) {
    const pid_t child = fork();
    if (child == 0) {
        std::free(first);
        std::free(second);
        void* fresh = std::malloc(5'000'000);
        const bool alone = dsm_self() == 0 && dsm_send(dsm_self(), fresh) != 0;
        std::free(fresh);
        _exit(alone ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return std::to_string(status);
}

const Commands COMMANDS = {
    // Taking part.
    {"attach",
     [](const Words& w) { return ok_or_error(dsm_attach(w[0].empty() ? nullptr : w[0].c_str())); }},
    {"self", [](const Words&) { return std::to_string(dsm_self()); }},
    {"lookup", [](const Words& w) { return number_or_error(dsm_lookup(w[0].c_str())); }},
    {"meaning", [](const Words& w) { return std::string(dsm_strerror(w.number<int>(0))); }},
    // Objects and references.
    {"new", [](const Words& w) { return address_text(dsm_malloc(w.number(0))); }},
    {"malloc", [](const Words& w) { return address_text(std::malloc(w.number(0))); }},
    {"realloc",
     [](const Words& w) { return address_text(dsm_realloc(w.pointer(0), w.number(1))); }},
    {"drop", [](const Words& w) { return ok_or_error(dsm_free(w.pointer(0))); }},
    {"free",
     [](const Words& w) {
         std::free(w.pointer(0));
         return std::string("ok");
     }},
    {"ref", [](const Words& w) { return ok_or_error(dsm_ref(w.pointer(0))); }},
    {"refmany", [](const Words& w) { return referenced(w.pointer(0), w.number<unsigned>(1)); }},
    {"refs", [](const Words& w) { return std::to_string(dsm_references(w.pointer(0))); }},
    {"size", [](const Words& w) { return std::to_string(dsm_usable_size(w.pointer(0))); }},
    // Their contents.
    {"write",
     [](const Words& w) { return std::string(std::strcpy(w.pointer<char>(0), w[1].c_str())); }},
    {"read", [](const Words& w) { return std::string(w.pointer<char>(0)); }},
    {"fill",
     [](const Words& w) {
         std::memset(w.pointer(0), w.number<int>(2), w.number(1));
         return std::string("ok");
     }},
    {"link",
     [](const Words& w) {
         *w.pointer<void*>(0) = w.pointer(1);
         return std::string("ok");
     }},
    {"follow", [](const Words& w) { return std::string(*w.pointer<char*>(0)); }},
    {"readonly",  // the OS page at the address
     [](const Words& w) { return ok_or_error(mprotect(w.pointer(0), 4096, PROT_READ)); }},
    // Messages.
    {"send", [](const Words& w) { return ok_or_error(dsm_send(w.number(0), w.pointer(1))); }},
    {"sendwait",
     [](const Words& w) {
         return ok_or_error(dsm_send_wait(w.number(0), w.pointer(1), w.number<int>(2)));
     }},
    {"flood", [](const Words& w) { return flood(w.number(0), w.number(1)); }},
    {"recv", [](const Words& w) { return received(w.number(0), w.number<int>(1)); }},
    {"receivers", [](const Words& w) { return gather(w.number<unsigned>(0)); }},
    {"volley",
     [](const Words& w) {
         return volley(w.number(0), w.number<unsigned>(1), w[2] == "serves", w[3] == "fd");
     }},
    {"churn",
     [](const Words& w) {
         std::thread(churn, w.number(0), w.number<unsigned>(1)).detach();
         return std::string("going");
     }},
    // The descriptor.
    {"fd",
     [](const Words&) {
         const int fd = dsm_fd();
         return fd < 0 ? strerrorname_np(errno) : std::to_string(fd);
     }},
    {"poll", [](const Words& w) { return polled(dsm_fd(), w.number<int>(0)); }},
    {"loop", [](const Words& w) { return looped(w.number(0), w[1] == "edge"); }},
    {"fdlimit", [](const Words&) { return fd_without_files(); }},
    // Children, and the end.
    {"fork", [](const Words& w) { return forked(w.pointer(0), w.pointer(1)); }},
    {"forkroom", [](const Words& w) { return forked_without_room(w.number<long>(0)); }},
    {"forkfd", [](const Words&) { return forked_with_fd(); }},
    {"forkattach", [](const Words&) { return forked_and_attached(); }},
    {"forkstay", [](const Words&) { return forked_and_staying(); }},
    {"endbythreads", [](const Words&) -> std::string { end_by_threads(); }},
};

std::string obey(const std::string& command, const Words& words) {
    for (const Commands* commands :
         {&COMMANDS, &GROUP_COMMANDS, &LABEL_COMMANDS, &MANY_COMMANDS, &TOPIC_COMMANDS,
          &MAILBOX_COMMANDS, &CALL_COMMANDS, &EVENT_COMMANDS, &ODD_COMMANDS})
        if (const auto found = commands->find(command); found != commands->end())
            return found->second(words);
    return "what?";
}

}  // namespace

int main() {
    std::string line;
    while (std::getline(std::cin, line)) {
        std::istringstream words(line);
        std::string command;
        words >> command;
        std::cout << obey(command, Words(words)) << std::endl;
    }
}
