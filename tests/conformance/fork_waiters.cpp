// Threads that wait on mutexes, condition variables and semaphores in heap memory while the process
// forks are still woken afterwards: the kernel's wait queues must not lose them, process-shared
// ones (pshared) included. Run by CTest through run.sh in both modes. Crash rule: check.hpp.
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/syscall.h>

#include "tests/conformance/population.hpp"

struct Shared {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    sem_t semaphore;
    bool flag;
    std::atomic<int> tid_of_sleeper;
};

/// Waits until the thread sleeps in the kernel (state S), so that the fork happens while it waits.
static void until_asleep(std::atomic<int>& tid) {
    while (tid.load() == 0) sched_yield();
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid.load());
    for (;;) {
        char text[300] = "";
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        REQUIRE(fd >= 0);
        const ssize_t got = read(fd, text, sizeof text - 1);
        close(fd);
        REQUIRE(got > 0);
        const char* state = strrchr(text, ')');
        if (state != nullptr && state[2] == 'S') return;
        sched_yield();
    }
}

static Shared* make(int pshared) {
    auto* shared = new Shared();
    pthread_mutexattr_t mutex;
    pthread_mutexattr_init(&mutex);
    pthread_mutexattr_setpshared(&mutex, pshared);
    REQUIRE(pthread_mutex_init(&shared->mutex, &mutex) == 0);
    pthread_condattr_t cond;
    pthread_condattr_init(&cond);
    pthread_condattr_setpshared(&cond, pshared);
    REQUIRE(pthread_cond_init(&shared->changed, &cond) == 0);
    REQUIRE(sem_init(&shared->semaphore, pshared == PTHREAD_PROCESS_SHARED, 0) == 0);
    return shared;
}

static void* wait_on_mutex(void* argument) {
    auto* shared = static_cast<Shared*>(argument);
    shared->tid_of_sleeper = static_cast<int>(syscall(SYS_gettid));
    pthread_mutex_lock(&shared->mutex);
    pthread_mutex_unlock(&shared->mutex);
    return nullptr;
}
static void* wait_on_cond(void* argument) {
    auto* shared = static_cast<Shared*>(argument);
    pthread_mutex_lock(&shared->mutex);
    shared->tid_of_sleeper = static_cast<int>(syscall(SYS_gettid));
    while (!shared->flag) pthread_cond_wait(&shared->changed, &shared->mutex);
    pthread_mutex_unlock(&shared->mutex);
    return nullptr;
}
static void* wait_on_semaphore(void* argument) {
    auto* shared = static_cast<Shared*>(argument);
    shared->tid_of_sleeper = static_cast<int>(syscall(SYS_gettid));
    while (sem_wait(&shared->semaphore) != 0) {
    }
    return nullptr;
}

static void a_fork() {
    CHECK_CHILD(check::run_in_child([] { free(malloc(100)); }));
}

static void rounds(int pshared, const char* mutex_name, const char* cond_name,
                   const char* semaphore_name) {
    for (int round = 0; round < 5; ++round) {
        pthread_t thread;
        check::begin_case(mutex_name);
        Shared* shared = make(pshared);
        pthread_mutex_lock(&shared->mutex);
        REQUIRE(pthread_create(&thread, nullptr, wait_on_mutex, shared) == 0);
        until_asleep(shared->tid_of_sleeper);
        a_fork();
        pthread_mutex_unlock(&shared->mutex);
        REQUIRE(pthread_join(thread, nullptr) == 0);
        delete shared;

        check::begin_case(cond_name);
        shared = make(pshared);
        REQUIRE(pthread_create(&thread, nullptr, wait_on_cond, shared) == 0);
        until_asleep(shared->tid_of_sleeper);
        a_fork();
        pthread_mutex_lock(&shared->mutex);
        shared->flag = true;
        pthread_cond_signal(&shared->changed);
        pthread_mutex_unlock(&shared->mutex);
        REQUIRE(pthread_join(thread, nullptr) == 0);
        delete shared;

        check::begin_case(semaphore_name);
        shared = make(pshared);
        REQUIRE(pthread_create(&thread, nullptr, wait_on_semaphore, shared) == 0);
        until_asleep(shared->tid_of_sleeper);
        a_fork();
        sem_post(&shared->semaphore);
        REQUIRE(pthread_join(thread, nullptr) == 0);
        delete shared;
    }
}

int main(int argc, char** argv) {
    check::begin();
    const bool pshared = argc > 1 && strcmp(argv[1], "pshared") == 0;
    if (pshared) {
        rounds(PTHREAD_PROCESS_SHARED, "process-shared mutex", "process-shared condition",
               "process-shared semaphore");
    } else {
        rounds(PTHREAD_PROCESS_PRIVATE, "mutex", "condition", "semaphore");
    }
    return check::result();
}
