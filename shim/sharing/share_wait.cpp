// Purpose: see share_wait.hpp.
// Who calls it: see share_wait.hpp.
// Crash rule: see share_wait.hpp.
#include "shim/sharing/share_wait.hpp"

#include <errno.h>
#include <linux/futex.h>
#include <sys/prctl.h>
#include <time.h>

#include "shim/sys/syscall.hpp"

namespace aep {

u64 now_ns() {
    timespec now{};
    sys::call(__NR_clock_gettime, CLOCK_MONOTONIC, sys::word(&now));
    return static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec);
}

Naps::~Naps() {
    if (slack_ > 0) sys::call(__NR_prctl, PR_SET_TIMERSLACK, slack_);
}

u64 Naps::next(u64 now) {
    if (began_ == 0) {
        began_ = now;
        // 50 us usually, twice as long as such a nap.
        const long usual = sys::call(__NR_prctl, PR_GET_TIMERSLACK);
        if (usual > 1 && !sys::failed(sys::call(__NR_prctl, PR_SET_TIMERSLACK, 1))) slack_ = usual;
    }
    const u64 nap = (now - began_) / PART;
    return nap < SHORTEST_NS ? SHORTEST_NS : nap > LONGEST_NS ? LONGEST_NS : nap;
}

long sleep_while(const std::atomic<u32>& word, u32 value, u64 deadline) {
    const timespec end{static_cast<time_t>(deadline / 1'000'000'000),
                       static_cast<long>(deadline % 1'000'000'000)};
    // FUTEX_WAIT_BITSET: its time is absolute.
    const long result = sys::call(__NR_futex, sys::word(&word), FUTEX_WAIT_BITSET,
                                  static_cast<long>(value), deadline == 0 ? 0 : sys::word(&end), 0,
                                  static_cast<long>(FUTEX_BITSET_MATCH_ANY));
    return result == -ETIMEDOUT || result == -EINTR ? result : 0;
}

}  // namespace aep
