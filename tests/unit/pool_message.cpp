// Purpose: unit tests of shim/sys/message.hpp.
// Who calls it: ctest.
// Crash rule: children are waited for.
#include <gtest/gtest.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>

#include "shim/sys/message.hpp"
#include "tests/unit/in_child.hpp"

namespace aep {
namespace {

template <class... Parts>
std::string line_of(Parts... parts) {
    MessageLine line;
    (line.add(parts), ...);
    return {line.text(), line.length()};
}

TEST(Message, FormatsEveryKindOfPart) {
    EXPECT_EQ(line_of("x"), "aep: x");
    EXPECT_EQ(line_of(0, ' ', 7u, ' ', -5, ' ', ULONG_MAX), "aep: 0 7 -5 18446744073709551615");
    EXPECT_EQ(line_of(LONG_MIN), "aep: -9223372036854775808");
    EXPECT_EQ(line_of(Hex{0}, ' ', Hex{0x1200'0000'0000}, ' ', Hex{~0ull}),
              "aep: 0x0 0x120000000000 0xffffffffffffffff");
    EXPECT_EQ(line_of(Errno{-ENOENT}), "aep: ENOENT (no such file or directory)");
    EXPECT_EQ(line_of(Errno{ENOSPC}), "aep: ENOSPC (no space left on the file system: free some)");
    EXPECT_EQ(line_of(Errno{-4000}), "aep: errno 4000");
    EXPECT_EQ(line_of(Bytes{0}, ' ', Bytes{1000}, ' ', Bytes{64 * KiB}, ' ', Bytes{3 * GiB}),
              "aep: 0 B 1000 B 64 KiB 3 GiB");
    EXPECT_EQ(line_of(true, ' ', false), "aep: true false");
}

TEST(Message, CutsWhatIsTooLong) {
    const std::string longer(5000, 'y');
    const std::string line = line_of(longer.c_str(), 123456);
    EXPECT_LT(line.size(), 1000u);
    EXPECT_EQ(line.find_first_not_of('y', 5), std::string::npos);
}

TEST(Message, IsOneLineOnFd2) {
    const test::Output out = test::stderr_of([] {
        message("a ", 1);
        MessageLine again;
        again.add("b");
        again.send();
        again.send();
    });
    EXPECT_EQ(out.text, "aep: a 1\naep: b\naep: b\n");
    EXPECT_EQ(out.status, 0);
}

TEST(Message, SurvivesAClosedFd2) {
    test::in_child([] {
        close(2);
        message("nobody hears this");
    });
}

TEST(Fatal, AbortsEvenWhenTheSignalIsBlockedAndHandled) {
    const test::Output out = test::stderr_of([] {
        const rlimit no_core{0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, [](int) { (void)!write(2, "handler\n", 8); });
        sigset_t set;
        sigfillset(&set);
        sigprocmask(SIG_BLOCK, &set, nullptr);
        fatal("stop: ", Hex{0x10});
    });
    EXPECT_EQ(out.text, "aep: stop: 0x10\nhandler\n");
    EXPECT_TRUE(WIFSIGNALED(out.status));
    EXPECT_EQ(WTERMSIG(out.status), SIGABRT);
}

}  // namespace
}  // namespace aep
