// Purpose: fork for an unmodified program: whatever way it forks, the child gets a heap of its own
// and the parent's stays
//          its own. fork(3) comes through pthread_atfork; _Fork, clone without CLONE_VM and
//          syscall(2) are interposed. vfork, posix_spawn and threads share the address space and
//          need nothing.
// Who calls it: libc's fork, the program.
// Crash rule: private to the process; docs/design/fork.md says what a kill during it leaves.
#include "preload/fork.hpp"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>

#include "dsm-core/base/lock.hpp"
#include "preload/export.hpp"
#include "shim/driver/forking.hpp"
#include "shim/sys/syscall.hpp"

namespace {

using namespace aep;

/// One thread forks at a time. `depth` counts the thread's own nesting.
Lock fork_lock;
__thread int depth __attribute__((tls_model("initial-exec"))) = 0;
__thread int refusal __attribute__((tls_model("initial-exec"))) = 0;  // errno of this prepare
__thread int refused __attribute__((tls_model("initial-exec"))) = 0;  // of the last prepare

void on_prepare() { aep_before_fork(); }
void on_parent() { aep_after_fork_parent(); }
void on_child() { aep_after_fork_child(); }

/// The next definition of a libc function that we interpose; found at first use, by whichever
/// thread.
template <class F>
class Next {
  public:
    explicit constexpr Next(const char* name) : name_(name) {}
    F* get() {
        F* f = found_.load(std::memory_order_relaxed);
        if (f == nullptr) {
            f = reinterpret_cast<F*>(dlsym(RTLD_NEXT, name_));
            found_.store(f, std::memory_order_relaxed);
        }
        return f;
    }

  private:
    const char* name_;
    std::atomic<F*> found_{nullptr};
};

using CloneFunction = int(int (*)(void*), void*, int, void*, ...);
constinit Next<pid_t()> next_fork{"fork"};
constinit Next<pid_t()> next_Fork{"_Fork"};
constinit Next<CloneFunction> next_clone{"clone"};

/// Registered before every other library's handlers (we are initialised first), so that our prepare
/// runs last and our parent and child steps first: other handlers may allocate.
__attribute__((constructor)) void register_handlers() {
    pthread_atfork(on_prepare, on_parent, on_child);
}

struct CloneStart {
    int (*run)(void*);
    void* argument;
};

/// First function of a child made by clone(3) on a new stack. `start` lies in the parent's frame,
/// which the child has a copy of.
int run_clone_child(void* argument) {
    const CloneStart start = *static_cast<CloneStart*>(argument);
    aep_after_fork_child();
    return start.run(start.argument);
}

/// Before a child that libc makes without its handlers. False: refused, errno says why.
bool before_child() {
    const int error = aep_before_fork();
    if (error == 0) return true;
    aep_after_fork_parent();
    refused = 0;
    errno = error;
    return false;
}

/// After it, in the parent: what made the child has said `pid`, or errno.
pid_t after_child(pid_t pid) {
    const int saved = errno;
    aep_after_fork_parent();
    errno = saved;
    return pid;
}

}  // namespace

int aep_before_fork() {
    if (depth++ != 0) return refusal;
    fork_lock.lock();
    refusal = fork_prepare();
    refused = refusal;
    return refusal;
}

void aep_after_fork_parent() {
    if (--depth != 0) return;
    if (refusal == 0) fork_parent();
    refusal = 0;
    fork_lock.unlock();
}

void aep_after_fork_child() {
    if (--depth != 0) return;
    fork_lock.reset();
    // libc's fork does not ask its handlers: the parent's fork() reports the error in our place.
    if (refusal != 0) sys::call(__NR_exit_group, 127);
    fork_child();
}

AEP_EXPORT pid_t fork() noexcept {
    const pid_t pid = next_fork.get()();  // runs the atfork handlers, ours among them
    if (pid > 0 && refused != 0) {
        // The child ended at once, before any code of the program: as if it had never been.
        const int error = refused;
        refused = 0;
        long r;
        do {
            r = sys::call(__NR_wait4, pid, 0, 0, 0);
        } while (r == -EINTR);
        errno = error;
        return -1;
    }
    return pid;
}

AEP_EXPORT pid_t _Fork() noexcept {
    auto* const next = next_Fork.get();
    if (!before_child()) return -1;
    const pid_t pid = next();
    if (pid != 0) return after_child(pid);
    aep_after_fork_child();
    return 0;
}

AEP_EXPORT int clone(int (*run)(void*), void* stack, int flags, void* argument, ...) noexcept {
    auto* const next = next_clone.get();
    va_list rest;
    va_start(rest, argument);
    void* const parent_tid = va_arg(rest, void*);
    void* const tls = va_arg(rest, void*);
    void* const child_tid = va_arg(rest, void*);
    va_end(rest);
    if ((flags & CLONE_VM) != 0 || run == nullptr || stack == nullptr)
        return next(run, stack, flags, argument, parent_tid, tls, child_tid);
    if (!before_child()) return -1;
    CloneStart start{run, argument};
    return after_child(next(run_clone_child, stack, flags, &start, parent_tid, tls, child_tid));
}

/// syscall(2) ends here with -errno of a failed call (raw_clone.S).
extern "C" long aep_syscall_failed(long result) {
    errno = static_cast<int>(-result);
    return -1;
}
