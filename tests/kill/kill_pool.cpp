// Several processes on one pool file allocate, free, write, fork and start threads; one after the
// other is killed at a random instant, hundreds of times. The others' data stays intact, nobody
// hangs, and when all are gone the pool is as large as it was at first: every chunk of the dead
// came back. Run by CTest through run.sh in pool mode. Crash rule: supervisor.hpp.
#include <malloc.h>
#include <pthread.h>
#include <sched.h>

#include "tests/kill/supervisor.hpp"

static constexpr int k_workers = 5;
static constexpr int k_kills = 400;
static constexpr int64_t k_longest_ms = 15000;

// ---- the worker

static std::atomic<bool> s_stop;
static void on_stop(int) { s_stop = true; }

struct Slot {
    unsigned char* block;
    size_t size;
    uint64_t seed;
};

static size_t random_size(check::Random& random) {
    const size_t kind = random.below(1000);
    const size_t shift = kind == 0 ? 22 : kind < 10 ? 19 : kind < 60 ? 16 : 11;
    return random.below(size_t{1} << shift) + 1;
}

static void step(Slot* slots, size_t count, check::Random& random) {
    Slot& slot = slots[random.below(count)];
    if (slot.block != nullptr) CHECK_PATTERN(slot.block, slot.size, slot.seed);
    const size_t what = random.below(10);
    if (what == 0 && slot.block != nullptr) {
        const size_t size = slot.size * 2 + 1 < (4u << 20) ? slot.size * 2 + 1 : 100;
        auto* p = static_cast<unsigned char*>(realloc(slot.block, size));
        if (p == nullptr) return;  // the pool is full just now: the block must be as it was
        slot.block = p;
        CHECK_PATTERN(slot.block, slot.size < size ? slot.size : size, slot.seed);
        slot.size = size;
    } else {
        free(slot.block);
        slot.size = random_size(random);
        slot.block =
            static_cast<unsigned char*>(what < 3 ? calloc(1, slot.size) : malloc(slot.size));
        if (slot.block == nullptr) return;
        if (what < 3)
            CHECK(check::all_zero(slot.block, slot.size), "calloc(1, %zu) = %p", slot.size,
                  slot.block);
    }
    slot.seed = random.next();
    check::fill(slot.block, slot.size, slot.seed);
}

static void* short_thread(void* argument) {
    check::Random random(reinterpret_cast<uintptr_t>(argument));
    Slot slots[50] = {};
    for (int i = 0; i < 300 && !s_stop; ++i) step(slots, 50, random);
    for (Slot& slot : slots) {
        if (slot.block != nullptr) CHECK_PATTERN(slot.block, slot.size, slot.seed);
        free(slot.block);
    }
    return nullptr;
}

static int worker(const char* seed) {
    check::begin_case("worker");
    struct sigaction action = {};
    action.sa_handler = on_stop;
    sigaction(SIGUSR1, &action, nullptr);
    check::Random random(static_cast<uint64_t>(atol(seed)));
    static Slot slots[400];
    for (unsigned i = 1; !s_stop; ++i) {
        step(slots, 400, random);
        if (i % 500 == 0) {
            pthread_t thread;
            if (pthread_create(&thread, nullptr, short_thread,
                               reinterpret_cast<void*>(random.next())) == 0) {
                for (int k = 0; k < 200; ++k) step(slots, 400, random);
                REQUIRE(pthread_join(thread, nullptr) == 0);
            }
        }
        if (i % 1500 == 0) {
            // A fork: the child checks what it inherited, changes it and goes, even when its parent
            // is killed meanwhile.
            const pid_t pid = fork();
            if (pid == 0) {
                for (const Slot& slot : slots)
                    if (slot.block != nullptr) CHECK_PATTERN(slot.block, slot.size, slot.seed);
                for (int k = 0; k < 200; ++k) step(slots, 400, random);
                _exit(check::result());
            }
            if (pid > 0) CHECK_CHILD(check::wait_status(pid));
        }
    }
    for (Slot& slot : slots) {
        if (slot.block != nullptr) CHECK_PATTERN(slot.block, slot.size, slot.seed);
        free(slot.block);
    }
    return check::result();
}

// ---- the supervisor

static int supervise() {
    REQUIRE(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    check::begin_case("the pool before");
    const size_t before = kill_test::count_all();
    CHECK(before * 65536 >= (256u << 20) / 10 * 9,
          "a fresh pool of 256 MiB holds %zu blocks of 64 KiB", before);

    check::begin_case("killing");
    unsigned seed = static_cast<unsigned>(getpid());
    check::Random random(seed);
    dprintf(1, "seed %u\n", seed);
    pid_t workers[k_workers];
    char text[16];
    for (pid_t& pid : workers) {
        snprintf(text, sizeof text, "%u", ++seed);
        pid = kill_test::start_worker("work", text);
    }
    const int64_t end = check::now_ms() + k_longest_ms;
    int kills = 0;
    while (kills < k_kills && check::now_ms() < end && check::failures == 0) {
        // The random instant is the test; worker 0 lives to the end.
        const struct timespec wait = {
            0, static_cast<long>(random.below(8) == 0 ? random.below(200000000)
                                                      : random.below(20000000))};
        nanosleep(&wait, nullptr);
        const size_t first = 1 + random.below(k_workers - 1);
        // Now and then several at once.
        const size_t count = random.below(6) == 0 ? k_workers - first : 1;
        for (size_t i = first; i < first + count; ++i) REQUIRE(kill(workers[i], SIGKILL) == 0);
        for (size_t i = first; i < first + count; ++i) {
            const int status = check::wait_status(workers[i]);
            CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                  "a worker ended by itself: wait status 0x%x", status);
            snprintf(text, sizeof text, "%u", ++seed);
            workers[i] = kill_test::start_worker("work", text);
            ++kills;
        }
        siginfo_t info = {};
        REQUIRE(waitid(P_PID, static_cast<id_t>(workers[0]), &info, WEXITED | WNOHANG | WNOWAIT) ==
                0);
        CHECK(info.si_pid == 0, "the worker that nobody killed ended");
    }
    dprintf(1, "%d kills\n", kills);
    CHECK(kills >= 50, "only %d kills: the machine is too slow for this test to say anything",
          kills);

    check::begin_case("the survivors end");
    for (size_t i = 1; i < k_workers; ++i) {
        REQUIRE(kill(workers[i], SIGKILL) == 0);
        check::wait_status(workers[i]);
    }
    REQUIRE(kill(workers[0], SIGUSR1) == 0);
    CHECK_CHILD(check::wait_status(workers[0]));
    // Forked children of the dead are ours now: they must have come to their own end.
    for (int status; waitpid(-1, &status, 0) > 0;) CHECK_CHILD(status);

    check::begin_case("the pool after");
    const size_t after = kill_test::count_all();
    CHECK(after * 100 >= before * 99, "%zu blocks before the kills, %zu after", before, after);
    return check::result();
}

int main(int argc, char** argv) {
    check::begin();
    if (argc > 2 && strcmp(argv[1], "work") == 0) return worker(argv[2]);
    if (argc > 2 && strcmp(argv[1], "take-all") == 0) return kill_test::take_all();
    kill_test::leave_the_pool(argv);
    return supervise();
}
