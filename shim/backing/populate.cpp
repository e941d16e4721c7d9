// Purpose: see populate.hpp.
// Who calls it: pool_backing.cpp, pool_file.cpp, pool_create.cpp.
// Crash rule: no state but a remembered property of the kernel.
#include "shim/backing/populate.hpp"

#include <errno.h>
#include <linux/futex.h>

#include <atomic>

#include "dsm-core/base/layout.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

constexpr int POPULATE_WRITE = 23;  // MADV_POPULATE_WRITE, which older headers lack

std::atomic<bool> kernel_is_old{false};

}  // namespace

bool populate_by_futex(uptr address, usize bytes) {
    // A futex operation that adds 0 to a word of each page: atomic, so contents stay as they are
    // even under other threads' stores, and a page that cannot be had gives EFAULT where a store
    // gives SIGBUS.
    constexpr long ADD_ZERO = static_cast<long>(FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_LT, 0));
    u32 nobody_waits_here = 0;
    for (uptr page = address; page < address + bytes; page += OS_PAGE_SIZE) {
        const long woken =
            sys::call(__NR_futex, sys::word(&nobody_waits_here), FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG,
                      0, 0, static_cast<long>(page), ADD_ZERO);
        if (sys::failed(woken)) return false;
    }
    return true;
}

bool populate(uptr address, usize bytes) {
    while (!kernel_is_old.load(std::memory_order_relaxed)) {
        const long result = sys::madvise(address, bytes, POPULATE_WRITE);
        if (!sys::failed(result)) return true;
        if (result == -EINTR || result == -EAGAIN) continue;
        if (result != -EINVAL) return false;
        kernel_is_old.store(true, std::memory_order_relaxed);
    }
    return populate_by_futex(address, bytes);
}

}  // namespace aep
