// Purpose: a daemon that is stopped is found to be so at the first look, 200 ms after the question, and not waited
//          for as long as one that is slow, which is 25 of them.
// Who calls it: ctest.
// Crash rule: the daemon is a child that ends with its test; its socket is in a folder of the test's own.
#include "shim/context/daemon_link.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "tests/unit/pool_fixture.hpp"

namespace aep {
namespace {

/// Listens, and stops itself.
[[noreturn]] void listen_and_stop(const sockaddr_un& at) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0 || listen(fd, 8) != 0)
        _exit(1);
    raise(SIGSTOP);
    for (;;) pause();
}

/// How often this thread has gone to sleep.
long sleeps() {
    rusage usage{};
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nvcsw;
}

class DaemonThatIsStopped : public ::testing::Test {
  protected:
    void SetUp() override {
        const std::string path = directory_.file("socket");
        sockaddr_un at{};
        at.sun_family = AF_UNIX;
        path.copy(at.sun_path, sizeof at.sun_path - 1);
        daemon_ = fork();
        if (daemon_ == 0) listen_and_stop(at);
        int status = 0;
        ASSERT_EQ(waitpid(daemon_, &status, WUNTRACED), daemon_);
        ASSERT_TRUE(WIFSTOPPED(status));
        std::strcpy(link_.path, path.c_str());
        ASSERT_EQ(connect_daemon(link_), 0);
    }
    void TearDown() override {
        close_link(link_);
        kill(daemon_, SIGKILL);
        test::wait_for(daemon_);
    }
    /// How often it sleeps until it gives up.
    long ask() {
        AnswerMessage answer{};
        int fds[ATTACH_FDS];
        const long before = sleeps();
        EXPECT_EQ(ask_daemon(link_, AskMessage{}, answer, fds, ATTACH_FDS), -ETIMEDOUT);
        return sleeps() - before;
    }

    test::Directory directory_;
    DaemonLink link_;
    pid_t daemon_ = 0;
};

// Counted, not timed: once for the first look, and perhaps for a lock of the kernel's or a page.
TEST_F(DaemonThatIsStopped, IsLookedAtOnce) { EXPECT_LT(ask(), 10); }

}  // namespace
}  // namespace aep
