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
    u64 since = 0;  // the turn in which its job began; 0: it is idle
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
pthread_cond_t more = PTHREAD_COND_INITIALIZER;     // jobs, for workers
pthread_cond_t crowded = PTHREAD_COND_INITIALIZER;  // jobs wait, and no worker is idle
pthread_cond_t changed = PTHREAD_COND_INITIALIZER;  // one more thread is ready
Queue waiting;
std::vector<Worker> workers;
u64 turn = 1;
u32 idle = 0;
u32 ready = 0;
pid_t process = 0;
Work work_on = nullptr;
Tell tell = nullptr;

void say_ready() {
    ++ready;
    pthread_cond_signal(&changed);
}

/// With the mutex, as all that follow.
void push(u32 slot) {
    waiting.push(slot);
    pthread_cond_signal(idle >= waiting.size() ? &more : &crowded);
}

u32 next_slot(Worker& self) {
    self.since = 0;
    ++idle;
    while (waiting.empty()) pthread_cond_wait(&more, &mutex);
    --idle;
    self.since = turn;
    return waiting.pop();
}

void* work(void* own) {
    Worker& self = *static_cast<Worker*>(own);
    alignas(64) char room[SIGNAL_STACK];
    become_worker(room, sizeof room);
    pthread_mutex_lock(&mutex);
    self.tid = static_cast<pid_t>(syscall(SYS_gettid));
    say_ready();
    for (;;) {
        const u32 slot = next_slot(self);
        pthread_mutex_unlock(&mutex);
        CompleterReport report;
        const bool over = work_on(slot, report);
        if (over) {
            release_slot(slot);
            tell(report);
        }
        pthread_mutex_lock(&mutex);
        if (!over) push(slot);
    }
}

/// Those whose turn is over, as many as jobs wait, leave their operations.
void end_turns() {
    usize wanted = waiting.size();
    for (const Worker& worker : workers) {
        if (wanted == 0) return;
        if (worker.since == 0 || worker.since >= turn) continue;
        syscall(SYS_tgkill, process, worker.tid, LEAVE_SIGNAL);
        --wanted;
    }
}

void* keep_turns(void*) {
    pthread_mutex_lock(&mutex);
    say_ready();
    for (;;) {
        while (waiting.empty() || idle != 0) pthread_cond_wait(&crowded, &mutex);
        pthread_mutex_unlock(&mutex);
        clock_nanosleep(CLOCK_MONOTONIC, 0, &TURN, nullptr);
        pthread_mutex_lock(&mutex);
        ++turn;
        if (idle == 0) end_turns();
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
    workers.resize(count);
    long error = add_thread(keep_turns, nullptr);
    for (Worker& worker : workers) {
        if (error == 0) error = add_thread(work, &worker);
    }
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
