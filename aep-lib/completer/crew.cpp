// Purpose: see crew.hpp.
// Who calls it: see crew.hpp.
// Crash rule: see crew.hpp.
#include "aep-lib/completer/crew.hpp"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "aep-lib/completer/complete.hpp"

namespace aep {
namespace {

constexpr usize WORKER_STACK = 256 * KiB;
constexpr usize SIGNAL_STACK = 64 * KiB;
/// Longer than a waiter sleeps before it looks at its lock again.
constexpr timespec TURN{0, 2'000'000};

struct Worker {
    pid_t tid = 0;
    bool has_job = false;
    u32 slot = 0;   // its job
    u64 since = 0;  // the turn in which that began
    pthread_cond_t more = PTHREAD_COND_INITIALIZER;
};

/// Jobs that no worker has. Of a size that does not change.
class Queue {
  public:
    void resize(usize most) { slots_.resize(most); }
    bool empty() const { return count_ == 0; }
    usize size() const { return count_; }
    /// More than were said is nothing that the daemon asked for: the rest is left to it.
    void push(u32 slot) {
        if (count_ == slots_.size()) return;
        slots_[(first_ + count_++) % slots_.size()] = slot;
    }
    u32 pop() {
        const u32 slot = slots_[first_];
        first_ = (first_ + 1) % slots_.size();
        --count_;
        return slot;
    }

  private:
    std::vector<u32> slots_;
    usize first_ = 0, count_ = 0;
};

pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t crowded = PTHREAD_COND_INITIALIZER;  // jobs wait, and no worker is idle
pthread_cond_t changed = PTHREAD_COND_INITIALIZER;  // one more thread is ready
Queue waiting;
std::vector<Worker> workers;
std::vector<Worker*> idle;  // the last one has what it needs in its caches
u64 turn = 0;
u32 ready = 0;
pid_t process = 0;
Work work_on = nullptr;
Tell tell = nullptr;

void say_ready() {
    ++ready;
    pthread_cond_signal(&changed);
}

/// With the mutex, as all that follow.
void begin(Worker& worker, u32 slot) {
    worker.has_job = true;
    worker.slot = slot;
    worker.since = turn;
}

void push(u32 slot) {
    if (idle.empty()) {
        waiting.push(slot);
        pthread_cond_signal(&crowded);
        return;
    }
    Worker& worker = *idle.back();
    idle.pop_back();
    begin(worker, slot);
    pthread_cond_signal(&worker.more);
}

void take_next(Worker& self) {
    self.has_job = false;
    if (!waiting.empty()) return begin(self, waiting.pop());
    idle.push_back(&self);
    while (!self.has_job) pthread_cond_wait(&self.more, &mutex);
}

void* work(void* own) {
    Worker& self = *static_cast<Worker*>(own);
    alignas(64) char room[SIGNAL_STACK];
    become_worker(room, sizeof room);
    pthread_mutex_lock(&mutex);
    self.tid = static_cast<pid_t>(syscall(SYS_gettid));
    say_ready();
    for (;;) {
        take_next(self);
        const u32 slot = self.slot;
        pthread_mutex_unlock(&mutex);
        CompleterReport report;
        const bool over = work_on(slot, report);
        if (over) {
            release_slot(slot);
            tell(report);
        }
        pthread_mutex_lock(&mutex);
        if (!over) waiting.push(slot);  // behind the others
    }
}

/// All whose turn is over leave their operations, each after a whole one at least.
void end_turns() {
    for (const Worker& worker : workers) {
        if (!worker.has_job || worker.since + 1 >= turn) continue;
        syscall(SYS_tgkill, process, worker.tid, LEAVE_SIGNAL);
    }
}

void* keep_turns(void*) {
    pthread_mutex_lock(&mutex);
    say_ready();
    for (;;) {
        while (waiting.empty()) pthread_cond_wait(&crowded, &mutex);
        pthread_mutex_unlock(&mutex);
        clock_nanosleep(CLOCK_MONOTONIC, 0, &TURN, nullptr);
        pthread_mutex_lock(&mutex);
        ++turn;
        end_turns();
    }
}

long add_thread(void* (*body)(void*), void* argument) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, WORKER_STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    const int error = pthread_create(&thread, &attributes, body, argument);
    pthread_attr_destroy(&attributes);
    return -error;
}

}  // namespace

long start_crew(u32 count, u32 most_jobs, Work work_of_one, Tell tell_of_one) {
    process = getpid();
    work_on = work_of_one;
    tell = tell_of_one;
    // As many more: those that are given up come back.
    waiting.resize(std::max(most_jobs, u32{1}));
    workers = std::vector<Worker>(count);
    idle.reserve(count);  // nobody allocates once the filter is on
    long error = add_thread(keep_turns, nullptr);
    for (Worker& worker : workers)
        if (error == 0) error = add_thread(work, &worker);
    if (error != 0) return error;
    pthread_mutex_lock(&mutex);
    while (ready != count + 1) pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
    return 0;
}

void give_job(u32 slot) {
    pthread_mutex_lock(&mutex);
    push(slot);
    pthread_mutex_unlock(&mutex);
}

}  // namespace aep
