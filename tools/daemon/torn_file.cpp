// Purpose: see torn_file.hpp.
// Who calls it: see torn_file.hpp.
// Crash rule: see torn_file.hpp.
#include "tools/daemon/torn_file.hpp"

#include <sys/mman.h>

#include <atomic>
#include <csignal>

#include "dsm-core/context/format.hpp"
#include "shim/sys/careful.hpp"

namespace aep {
namespace {

std::atomic<bool> torn = false;

/// The heap window and the context, the control area, stacks and metadata among them; and the
/// pool's tables, which lie below the heap window.
bool is_mapped_from_a_file(uptr address) {
    constexpr uptr LOWEST = HEAP_BASE - 4 * TiB;
    return address >= LOWEST && address < CONTEXT_BASE + 512 * GiB;
}

/// The same instruction again, if that is any use.
uptr put_zeros(const Fault& fault) {
    const uptr page = round_down(fault.address, OS_PAGE_SIZE);
    constexpr int FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    // A system call that is not on POSIX's list, but nothing more than a system call.
    if (!is_mapped_from_a_file(page) || mmap(reinterpret_cast<void*>(page), OS_PAGE_SIZE,
                                             PROT_READ | PROT_WRITE, FLAGS, -1, 0) == MAP_FAILED)
        return 0;
    torn.store(true, std::memory_order_relaxed);
    return fault.at;
}

uptr look(const Fault& fault) {
    const uptr way_out = way_out_of(fault);
    return way_out != 0 ? way_out : put_zeros(fault);
}

}  // namespace

void survive_torn_files() { keep_fault_signal(SIGBUS, look); }

bool found_torn_file() { return torn.load(std::memory_order_relaxed); }

}  // namespace aep
