// Purpose: tests that need a right of root's say which; without it they cannot run. Root in a
//          container often has only some.
// Who calls it: tests that change owners, roots or mounts.
// Crash rule: reads only.
#pragma once

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace aep::test {

inline bool has_capability(unsigned number) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};
    return syscall(SYS_capget, &header, data) == 0 &&
           (data[CAP_TO_INDEX(number)].effective & CAP_TO_MASK(number)) != 0;
}
#define AEP_NEED_CAPABILITY(number) \
    if (!::aep::test::has_capability(number)) GTEST_SKIP() << "needs " #number

}  // namespace aep::test
