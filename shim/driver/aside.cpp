// Purpose: see aside.hpp.
// Who calls it: see aside.hpp.
// Crash rule: see aside.hpp.
#include "shim/driver/aside.hpp"

#include <errno.h>

#include "dsm-core/base/lock.hpp"
#include "shim/backing/domain_memory.hpp"
#include "shim/sys/environment.hpp"
#include "shim/sys/message.hpp"
#include "shim/sys/signals_blocked.hpp"
#include "shim/sys/syscall.hpp"

extern "C" {
/// Exported by programs that stay on libc's malloc: stay_private/.
[[gnu::weak, gnu::visibility("default")]] extern const char aep_stay_private;
/// Each copy has one; everybody who asks by name gets that of the first.
[[gnu::visibility("default")]] extern const char aep_copy;
const char aep_copy = 0;
[[gnu::visibility("hidden"), gnu::alias("aep_copy")]] extern const char aep_own_copy;
/// The sanitizers', whether they are linked into the program or libraries of their own.
[[gnu::weak, gnu::visibility("default")]] void __asan_init();
[[gnu::weak, gnu::visibility("default")]] void __msan_init();
[[gnu::weak, gnu::visibility("default")]] void __tsan_init();
}

namespace aep {

constinit std::atomic<Aside> aside{Aside::undecided};

namespace {

Lock decision_lock;  // a fork decides first, and so finds it free

template <class... Parts>
bool step_aside(Parts... why) {
    message(why..., ": process ", sys::getpid(), " runs without it");
    const Settings wanted = read_settings();
    if (wanted.require && (wanted.names_context() || wanted.pool != nullptr))
        fatal("AEP_REQUIRE=1 and the heap cannot be used: giving up");
    return true;
}

/// A sanitizer in this process that our code was not built with, and that has its shadow where the
/// heap or its metadata lie; null: none.
const char* foreign_sanitizer() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return nullptr;  // layout.hpp has other addresses
#else
    return &__asan_init != nullptr   ? "AddressSanitizer"
           : &__msan_init != nullptr ? "MemorySanitizer"
           : &__tsan_init != nullptr ? "ThreadSanitizer"
                                     : nullptr;
#endif
}

bool is_aside() {
    if (const char* sanitizer = foreign_sanitizer())
        return step_aside(sanitizer, " keeps addresses of the heap for itself");
    const Domain& own = domain_at(0);
    if (claim_own_domain(own, HEAPS_PER_STEP) != Place::taken) return false;
    return step_aside("the place of the heap's own data, ", Hex{reinterpret_cast<uptr>(&own)},
                      ", is taken: by another copy of this library, an emulator's or that of "
                      "another namespace, or by something else");
}

}  // namespace

bool is_first_copy() {
    const char* first = &aep_copy;
    const char* own = &aep_own_copy;
    asm("" : "+r"(first), "+r"(own));  // known to be the same only once all is loaded
    return first == own;
}

bool decide_aside() {
    // Without a system call: our own programs are in a sandbox by now, perhaps.
    if (&aep_stay_private != nullptr || !is_first_copy()) {
        aside.store(Aside::yes, std::memory_order_relaxed);
        return true;
    }
    const SignalsBlocked undisturbed;  // a handler that jumped out would leave the lock held
    LockScope scope(decision_lock);
    if (aside.load(std::memory_order_relaxed) == Aside::undecided)
        // release: who finds it decided finds the place of the domain taken.
        aside.store(is_aside() ? Aside::yes : Aside::no, std::memory_order_release);
    return aside.load(std::memory_order_relaxed) == Aside::yes;
}

}  // namespace aep
