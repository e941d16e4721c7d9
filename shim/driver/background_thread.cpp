// Purpose: see background_thread.hpp.
// Who calls it: see background_thread.hpp.
// Crash rule: see background_thread.hpp.
#include "shim/driver/background_thread.hpp"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>

#include "shim/driver/idle_heaps.hpp"
#include "shim/driver/process.hpp"
#include "shim/driver/purging.hpp"
#include "shim/sys/message.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {

namespace {

using namespace background;

/// With less than that a program is spared the thread.
constexpr u32 WORTH_A_THREAD = 1 * MiB / SLICE_SIZE;

/// The stack, unless the program's thread-local variables need more: they lie on it.
constexpr usize SMALL_STACK = 64 * KiB;
constexpr usize LARGEST_STACK = 64 * MiB;

struct Range {
    uptr begin, end;
};
constexpr u32 MAX_RANGES = 4;
Range avoided[MAX_RANGES];
u32 ranges = 0;

bool may_start_at(const void* caller) {
    const uptr at = reinterpret_cast<uptr>(caller);
    for (u32 i = 0; i < ranges; ++i)
        if (at - avoided[i].begin < avoided[i].end - avoided[i].begin) return false;
    return ranges != 0;
}

void sleep_until(u64 time) {
    const u64 now = now_ms();
    const u64 ms = time > now ? time - now : 1;
    const detail::Timespec wait{static_cast<long>(ms / 1000),
                                static_cast<long>(ms % 1000 * 1'000'000)};
    detail::futex(&state, detail::FUTEX_WAIT, AWAKE, &wait);
}

[[noreturn]] void* serve(void*) {
    sys::call(__NR_prctl, PR_SET_NAME, sys::word("aep-background"));
    // Looks since there was anything to purge: pages may become wholly free meanwhile.
    u32 quiet = 0;
    for (;;) {
        purge_due(now_ms());
        u64 next = domain().arena.next_purge();
        quiet = next == Decay::NEVER ? quiet + 1 : 0;
        if (next == Decay::NEVER && quiet <= Decay::EPOCHS && pages_wait())
            next = now_ms() + settings().decay_ms / Decay::EPOCHS;
        if (next == Decay::NEVER) {
            // The look after this takes the arena's lock: who gives memory before it is seen by it,
            // and who does after it sees that we sleep.
            state.store(ASLEEP, std::memory_order_relaxed);
            purge_due(now_ms());
            next = domain().arena.next_purge();
            if (next == Decay::NEVER) {
                quiet = 0;
                while (state.load(std::memory_order_relaxed) == ASLEEP)
                    detail::futex(&state, detail::FUTEX_WAIT, ASLEEP);
                continue;
            }
            state.store(AWAKE, std::memory_order_relaxed);
        }
        sleep_until(next);
    }
}

int create_thread() {
    pthread_attr_t attributes;
    if (const int error = pthread_attr_init(&attributes); error != 0) return error;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    // Blocked from its first instruction on: signals are the program's. Not those that libc keeps
    // for itself, which sigfillset leaves out.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = EINVAL;
    for (usize stack = SMALL_STACK; error == EINVAL && stack <= LARGEST_STACK; stack *= 2) {
        pthread_attr_setstacksize(&attributes, stack);
        pthread_t thread;
        error = pthread_create(&thread, &attributes, serve, nullptr);
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&attributes);
    return error;
}

}  // namespace

namespace background {

[[gnu::cold, gnu::noinline]] void start(const void* caller) {
    if (domain().arena.dirty_slices() < WORTH_A_THREAD || !may_start_at(caller)) return;
    // What pthread_create itself allocates finds that somebody is at it.
    u32 expected = WANTED;
    if (!state.compare_exchange_strong(expected, AWAKE, std::memory_order_relaxed)) return;
    const int saved = errno;
    if (const int error = create_thread(); error != 0) {
        state.store(OFF, std::memory_order_relaxed);
        message("AEP_BACKGROUND: no thread: ", Errno{error},
                "; memory goes back at calls of malloc and free only");
    }
    errno = saved;
}

}  // namespace background

void background_avoid(uptr begin, uptr end) {
    if (ranges < MAX_RANGES) avoided[ranges++] = {begin, end};
}

}  // namespace aep
