// Purpose: see torn_file.hpp.
// Who calls it: see torn_file.hpp.
// Crash rule: see torn_file.hpp.
#include "tools/daemon/torn_file.hpp"

#include <sys/mman.h>

#include <atomic>
#include <csignal>

#include "dsm-core/context/format.hpp"

namespace aep {
namespace {

std::atomic<bool> torn = false;

/// The heap window and the context, the control area, stacks and metadata among them; and the
/// pool's tables, which lie below the heap window.
bool is_mapped_from_a_file(uptr address) {
    constexpr uptr LOWEST = HEAP_BASE - 4 * TiB;
    return address >= LOWEST && address < CONTEXT_BASE + 512 * GiB;
}

void put_zeros(int signal, siginfo_t* info, void*) {
    const uptr page = round_down(reinterpret_cast<uptr>(info->si_addr), OS_PAGE_SIZE);
    constexpr int FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    // A system call that is not on POSIX's list, but nothing more than a system call.
    if (!is_mapped_from_a_file(page) || mmap(reinterpret_cast<void*>(page), OS_PAGE_SIZE,
                                             PROT_READ | PROT_WRITE, FLAGS, -1, 0) == MAP_FAILED) {
        std::signal(signal, SIG_DFL);  // at once again, and then for good
        return;
    }
    torn.store(true, std::memory_order_relaxed);
}

}  // namespace

void survive_torn_files() {
    struct sigaction action {};
    action.sa_sigaction = put_zeros;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGBUS, &action, nullptr);
}

bool found_torn_file() { return torn.load(std::memory_order_relaxed); }

}  // namespace aep
