// Purpose: what the client tests share: a context with its host in a directory of its own, and
//          bodies that run in a fresh process joined to it.
// Who calls it: tests/client/*.cpp.
// Crash rule: the host ends with the test; its directory goes with it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "dsm-core/heap/check.hpp"
#include "shim/context/context_file.hpp"
#include "shim/context/door.hpp"
#include "shim/context/join.hpp"
#include "shim/driver/allocator.hpp"
#include "shim/driver/report.hpp"
#include "tests/unit/in_child.hpp"
#include "tests/unit/pool_fixture.hpp"

namespace aep::test {

/// A context and the process that serves it.
class Host {
  public:
    explicit Host(std::vector<std::string> options = {}, const char* parent = "/dev/shm")
        : directory_(parent) {
        int ready[2];
        EXPECT_EQ(pipe(ready), 0);
        pid_ = fork();
        if (pid_ == 0) {
            dup2(ready[1], 1);
            close(ready[0]);
            std::vector<char*> arguments;
            options.insert(options.begin(), {AEP_CLIENT_HOST, directory_.path(), AEP_IMAGE});
            for (std::string& option : options) arguments.push_back(option.data());
            arguments.push_back(nullptr);
            execv(AEP_CLIENT_HOST, arguments.data());
            _exit(127);
        }
        close(ready[1]);
        char line[6];
        EXPECT_EQ(read(ready[0], line, sizeof line), 6) << "the host does not start";
        close(ready[0]);
    }
    ~Host() { stop(); }
    Host(const Host&) = delete;
    Host& operator=(const Host&) = delete;

    void stop() {
        if (pid_ <= 0) return;
        kill(pid_, SIGTERM);
        wait_for(pid_);
        pid_ = -1;
    }
    std::string socket() const { return directory_.file("socket"); }
    std::string file(const char* name) const { return directory_.file(name); }
    const std::string& path() const { return directory_.path(); }

    /// How many processes have attached so far.
    u64 attached() const {
        u64 count = 0;
        const int fd = open(file("context").c_str(), O_RDONLY);
        EXPECT_EQ(pread(fd, &count, sizeof count,
                        CONTEXT_CONSTANTS_BYTES + offsetof(ContextWords, attached)),
                  static_cast<ssize_t>(sizeof count));
        close(fd);
        return count;
    }

    /// Makes this process one that will join at its first allocation.
    void configure(Settings settings = {}) const {
        static std::string path;
        path = socket();
        settings.socket = path.c_str();
        settings.join = true;
        process_configure(nullptr, settings);
    }

    /// Runs `body` in a process of its own that has joined.
    template <class Body>
    void in_client(Body body, Settings settings = {}) const {
        in_child([&] {
            configure(settings);
            ASSERT_TRUE(process_start());
            ASSERT_TRUE(this_client.attached);
            body();
        });
    }

  private:
    Directory directory_;
    pid_t pid_ = -1;
};

/// The domain is whole; only this thread uses it.
inline void expect_sound() {
    CheckReport report;
    EXPECT_TRUE(check_domain(domain(), report))
        << report.broken << "; " << report.kind << " " << std::hex << report.object << " found "
        << report.found << " expected " << report.expected;
}

inline u64 next_random(u64& state) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

}  // namespace aep::test
