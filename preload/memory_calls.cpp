// Purpose: madvise(2) for programs that keep heap memory from their children (MADV_DONTFORK, as
//          drivers of network cards do): on a pool the range becomes private first, else the advice
//          would be lost when fork makes the heap private.
// Who calls it: the program.
// Crash rule: freeze.hpp's; everything else goes straight to the kernel.
#include <errno.h>
#include <sys/mman.h>

#include "preload/export.hpp"
#include "shim/backing/pool_backing.hpp"
#include "shim/sys/syscall.hpp"

AEP_EXPORT int madvise(void* address, size_t bytes, int advice) noexcept {
    using namespace aep;
    const uptr begin = reinterpret_cast<uptr>(address);
    if (advice == MADV_DONTFORK && in_heap_window(begin) && !before_fork_advice(begin, bytes)) {
        errno = ENOMEM;
        return -1;
    }
    const long result = sys::madvise(begin, bytes, advice);
    if (!sys::failed(result)) return 0;
    errno = static_cast<int>(-result);
    return -1;
}
