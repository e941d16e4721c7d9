// Purpose: see raw_thread.hpp.
// Who calls it: see raw_thread.hpp.
// Crash rule: see raw_thread.hpp.
#include "shim/sys/raw_thread.hpp"

#include <linux/sched.h>
#include <signal.h>
#include <sys/mman.h>

#include "dsm-core/base/layout.hpp"
#include "shim/sys/syscall.hpp"

#if defined(AEP_HOSTED)
#include <pthread.h>

namespace aep {

/// Sanitizers have to know of it, and need thread-local storage: here it is a thread of libc's.
long RawThread::start(void (*run)()) {
    pthread_t thread;
    const auto body = [](void* own) -> void* {
        reinterpret_cast<void (*)()>(own)();
        return nullptr;
    };
    const int error = pthread_create(&thread, nullptr, body, reinterpret_cast<void*>(run));
    return error != 0 ? -error : -pthread_detach(thread);
}
void RawThread::forget() {}

}  // namespace aep
#else

namespace aep {
namespace {

/// A page that faults, the stack, and on top what %fs points at.
constexpr usize THREAD_BYTES = 32 * KiB;
struct alignas(64) ThreadBlock {
    const void* self;  // the ABI: %fs:0 is its own address
    u64 rest[15];      // zero; among them the stack protector's canary
};

/// clone(2) of a thread that runs `run` on the stack that ends at `block`. Its number or -errno.
long clone_thread(const ThreadBlock* block, void (*run)()) {
    constexpr long FLAGS = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                           CLONE_SYSVSEM | CLONE_SETTLS;
    long result = __NR_clone;
    register long r10 asm("r10") = 0;
    register long r8 asm("r8") = sys::word(block);
    register void (*r9)() asm("r9") = run;
    asm volatile(
        "syscall\n\t"
        "testq %%rax, %%rax\n\t"
        "jnz 1f\n\t"
        "xorl %%ebp, %%ebp\n\t"
        "call *%%r9\n\t"
        "ud2\n"
        "1:"
        : "+a"(result)
        : "D"(FLAGS), "S"(block), "d"(0L), "r"(r10), "r"(r8), "r"(r9)
        : "rcx", "r11", "memory");
    return result;
}

/// It begins with the signals that its maker has blocked: all of them.
long clone_without_signals(const ThreadBlock* block, void (*run)()) {
    u64 before = 0;
    constexpr u64 ALL = ~u64{0};
    sys::call(__NR_rt_sigprocmask, SIG_SETMASK, sys::word(&ALL), sys::word(&before), 8);
    const long result = clone_thread(block, run);
    sys::call(__NR_rt_sigprocmask, SIG_SETMASK, sys::word(&before), 0, 8);
    return result;
}

}  // namespace

long RawThread::start(void (*run)()) {
    const long memory =
        sys::mmap(0, THREAD_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    if (sys::failed(memory)) return memory;
    const uptr base = static_cast<uptr>(memory);
    long result =
        sys::mprotect(base + OS_PAGE_SIZE, THREAD_BYTES - OS_PAGE_SIZE, PROT_READ | PROT_WRITE);
    if (!sys::failed(result)) {
        auto* block = reinterpret_cast<ThreadBlock*>(base + THREAD_BYTES - sizeof(ThreadBlock));
        block->self = block;
        result = clone_without_signals(block, run);
    }
    if (sys::failed(result)) {
        sys::munmap(base, THREAD_BYTES);
        return result;
    }
    memory_ = base;
    return 0;
}

void RawThread::forget() {
    if (memory_ != 0) sys::munmap(memory_, THREAD_BYTES);
    memory_ = 0;
}

}  // namespace aep
#endif
