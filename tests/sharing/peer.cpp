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
#include "tests/sharing/group_commands.hpp"

namespace {

void* pointer(const std::string& text) {
    return reinterpret_cast<void*>(std::strtoull(text.c_str(), nullptr, 16));
}

std::string said(int result) { return result == 0 ? "ok" : strerrorname_np(errno); }

std::string text_of(const void* p) {
    char text[32];
    std::snprintf(text, sizeof text, "%llx",
                  static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(p)));
    return text;
}

std::string allocated(void* p) { return p == nullptr ? strerrorname_np(errno) : text_of(p); }

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
        if (p == nullptr && (p = awaited(by_descriptor)) == nullptr) {
            return std::string(strerrorname_np(errno)) + " in round " + std::to_string(n);
        }
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
    for (const int error : errors) {
        if (error != 0) return strerrorname_np(error);
    }
    return "ok";
}

std::string obey(const std::string& command, std::istringstream& words) {
    std::string answer;
    if (aep::test::obey_group(command, words, answer)) return answer;
    std::string a, b, c;
    words >> a >> b >> c;
    if (command == "attach") return said(dsm_attach(a.empty() ? nullptr : a.c_str()));
    if (command == "self") return std::to_string(dsm_self());
    if (command == "lookup") {
        const dsm_id id = dsm_lookup(a.c_str());
        return id == 0 ? strerrorname_np(errno) : std::to_string(id);
    }
    if (command == "new") return allocated(dsm_malloc(std::stoull(a)));
    if (command == "malloc") return allocated(std::malloc(std::stoull(a)));
    if (command == "realloc") return allocated(dsm_realloc(pointer(a), std::stoull(b)));
    if (command == "write") return std::strcpy(static_cast<char*>(pointer(a)), b.c_str());
    if (command == "fill") {
        std::memset(pointer(a), std::stoi(c), std::stoull(b));
        return "ok";
    }
    if (command == "receivers") return gather(static_cast<unsigned>(std::stoul(a)));
    if (command == "link") {
        *static_cast<void**>(pointer(a)) = pointer(b);
        return "ok";
    }
    if (command == "follow") return *static_cast<char**>(pointer(a));
    if (command == "read") return static_cast<char*>(pointer(a));
    if (command == "send") return said(dsm_send(std::stoull(a), pointer(b)));
    if (command == "sendwait") return said(dsm_send_wait(std::stoull(a), pointer(b), std::stoi(c)));
    if (command == "flood") {  // many small objects, as fast as they are taken
        for (auto n = std::stoul(b); n != 0; --n) {
            void* p = dsm_malloc(16);
            if (p == nullptr || dsm_send_wait(std::stoull(a), p, -1) != 0) {
                return strerrorname_np(errno);
            }
            dsm_free(p);
        }
        return "ok";
    }
    if (command == "recv") {
        dsm_info info{};
        void* p = dsm_recv(std::stoull(a), std::stoi(b), &info);
        return p == nullptr ? strerrorname_np(errno)
                            : text_of(p) + " " + std::to_string(info.size) + " " +
                                  std::to_string(info.sender) + " " +
                                  (info.group == nullptr ? "-" : text_of(info.group));
    }
    if (command == "fd") {
        const int fd = dsm_fd();
        return fd < 0 ? strerrorname_np(errno) : std::to_string(fd);
    }
    if (command == "poll") return polled(dsm_fd(), std::stoi(a));
    if (command == "loop") return looped(std::stoul(a), b == "edge");
    if (command == "volley") {
        std::string d;
        words >> d;
        return volley(std::stoull(a), static_cast<unsigned>(std::stoul(b)), c == "serves",
                      d == "fd");
    }
    if (command == "fdlimit") return fd_without_files();
    if (command == "meaning") return dsm_strerror(std::stoi(a));
    if (command == "drop") return said(dsm_free(pointer(a)));
    if (command == "free") {
        std::free(pointer(a));
        return "ok";
    }
    if (command == "ref") return said(dsm_ref(pointer(a)));
    if (command == "refmany") {
        for (int n = std::stoi(b); n > 0; --n) {
            if (dsm_ref(pointer(a)) != 0) return strerrorname_np(errno);
        }
        return "ok";
    }
    if (command == "refs") return std::to_string(dsm_references(pointer(a)));
    if (command == "size") return std::to_string(dsm_usable_size(pointer(a)));
    if (command == "forkroom") return forked_without_room(std::stol(a));
    if (command == "readonly") {  // the OS page at the address
        return said(mprotect(pointer(a), 4096, PROT_READ));
    }
    if (command == "forkfd") return forked_with_fd();
    if (command == "forkattach") return forked_and_attached();
    if (command == "endbythreads") end_by_threads();
    if (command == "fork") {  // the child frees its copies of the objects a and b
        const pid_t child = fork();
        if (child == 0) {
            std::free(pointer(a));
            std::free(pointer(b));
            void* fresh = std::malloc(5'000'000);
            const bool alone = dsm_self() == 0 && dsm_send(dsm_self(), fresh) != 0;
            std::free(fresh);
            _exit(alone ? 0 : 1);
        }
        int status = 0;
        waitpid(child, &status, 0);
        return std::to_string(status);
    }
    if (command == "churn") {
        std::thread(churn, std::stoull(a), static_cast<unsigned>(std::stoul(b))).detach();
        return "going";
    }
    return "what?";
}

}  // namespace

int main() {
    std::string line;
    while (std::getline(std::cin, line)) {
        std::istringstream words(line);
        std::string command;
        words >> command;
        std::cout << obey(command, words) << std::endl;
    }
}
