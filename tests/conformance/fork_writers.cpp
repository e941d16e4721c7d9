// fork while four threads write, allocate and free: the parent's data loses no write, the child's
// heap is a private snapshot that later writes of the parent never reach, and the child's writes
// never reach the parent. Another thread has the kernel write into heap memory (pread) all the
// while. Run by CTest through run.sh in both modes. Crash rule: check.hpp.
#include <pthread.h>
#include <sched.h>

#include "tests/conformance/population.hpp"

static constexpr int k_writers = 4;
static constexpr int k_active = 30;
static constexpr int k_rounds = 4;

/// A block that one writer rewrites all the time. Each word holds the block's number, its index and
/// a version, so that any mixture of versions (what a snapshot in the middle of a rewrite may hold)
/// is told from foreign data.
struct Active {
    uint64_t* words;
    size_t count;
    uint64_t version;
};
static Active s_active[k_writers][k_active];
static check::Population<300> s_quiet;
static check::Population<300> s_own;
static std::atomic<uint64_t> s_passes[k_writers];
static std::atomic<bool> s_stop;

static uint64_t word(int writer, int block, size_t index, uint64_t version) {
    return static_cast<uint64_t>(writer * k_active + block + 1) << 48 |
           static_cast<uint64_t>(index) << 28 | (version & 0xfffffff);
}

static void* writer_main(void* argument) {
    const int me = static_cast<int>(reinterpret_cast<intptr_t>(argument));
    check::Random random(static_cast<uint64_t>(me) + 1);
    struct {
        void* block;
        size_t size;
        uint64_t seed;
    } churn[60] = {};
    while (!s_stop.load(std::memory_order_relaxed)) {
        for (int b = 0; b < k_active; ++b) {
            Active& active = s_active[me][b];
            volatile uint64_t* words = active.words;
            for (size_t i = 0; i < active.count; ++i) {
                const uint64_t expected = word(me, b, i, active.version);
                const uint64_t found = words[i];
                CHECK(found == expected,
                      "parent's block %d.%d word %zu of %zu at %p is %llx, not %llx", me, b, i,
                      active.count, static_cast<void*>(const_cast<uint64_t*>(words + i)),
                      static_cast<unsigned long long>(found),
                      static_cast<unsigned long long>(expected));
            }
            ++active.version;
            for (size_t i = 0; i < active.count; ++i) words[i] = word(me, b, i, active.version);
            auto& slot = churn[random.below(60)];
            if (slot.block != nullptr) CHECK_PATTERN(slot.block, slot.size, slot.seed);
            free(slot.block);
            slot.size = random.below(size_t{1} << (4 + random.below(13))) + 1;
            slot.seed = random.next();
            slot.block = malloc(slot.size);
            REQUIRE(slot.block != nullptr);
            check::fill(slot.block, slot.size, slot.seed);
        }
        s_passes[me].fetch_add(1);
    }
    for (auto& slot : churn) {
        if (slot.block != nullptr) CHECK_PATTERN(slot.block, slot.size, slot.seed);
        free(slot.block);
    }
    return nullptr;
}

/// Lets the kernel write into the heap: a freeze that removes the mapping for a moment would give
/// EFAULT.
static void* reader_main(void*) {
    const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    REQUIRE(file >= 0);
    constexpr size_t size = 12000;
    auto* once = static_cast<char*>(malloc(size));
    auto* again = static_cast<char*>(malloc(size));
    REQUIRE(once != nullptr && again != nullptr);
    REQUIRE(pread(file, once, size, 0) == static_cast<ssize_t>(size));
    while (!s_stop.load(std::memory_order_relaxed)) {
        memset(again, 0, size);
        const ssize_t got = pread(file, again, size, 0);
        CHECK(got == static_cast<ssize_t>(size), "pread into the heap gave %zd", got);
        CHECK(memcmp(once, again, size) == 0, "the kernel's write was lost");
    }
    free(once);
    free(again);
    close(file);
    return nullptr;
}

/// Returns when every writer has gone twice through its blocks since the call.
static void wait_for_writers() {
    uint64_t start[k_writers];
    for (int w = 0; w < k_writers; ++w) start[w] = s_passes[w].load();
    for (int w = 0; w < k_writers; ++w)
        while (s_passes[w].load() < start[w] + 2) sched_yield();
}

static uint64_t hash_active() {
    uint64_t hash = 1;
    for (auto& blocks : s_active) {
        for (const Active& active : blocks)
            for (size_t i = 0; i < active.count; ++i)
                hash = (hash ^ active.words[i]) * 0x100000001b3u;
    }
    return hash;
}

static void child_main(check::Pipe& to_parent, check::Pipe& to_child) {
    s_quiet.check();
    for (int w = 0; w < k_writers; ++w) {
        for (int b = 0; b < k_active; ++b) {
            const Active& active = s_active[w][b];
            for (size_t i = 0; i < active.count; ++i) {
                CHECK(active.words[i] >> 28 == word(w, b, i, 0) >> 28,
                      "child's block %d.%d word %zu at %p is %llx", w, b, i,
                      static_cast<void*>(active.words + i),
                      static_cast<unsigned long long>(active.words[i]));
            }
        }
    }
    const uint64_t before = hash_active();
    to_parent.send();
    to_child.receive();  // the parent's writers have written everything anew
    CHECK(hash_active() == before, "the parent's writes reach the child");
    s_quiet.check();
    s_quiet.repaint(77);
    for (auto& blocks : s_active)
        for (Active& active : blocks) memset(active.words, 0xdd, active.count * sizeof(uint64_t));
    s_own.make(100000, 1234);
    s_quiet.check();
    to_parent.send();
    to_child.receive();
    s_own.check();
    s_quiet.check();
    for (auto& blocks : s_active) {
        for (Active& active : blocks) {
            for (size_t i = 0; i < active.count; ++i) CHECK(active.words[i] == 0xddddddddddddddddu);
            free(active.words);
        }
    }
    s_quiet.free_all();
    s_own.renew();
    s_own.check();
    s_own.free_all();
}

int main() {
    check::begin();
    s_quiet.make(300000, 5);
    for (int w = 0; w < k_writers; ++w) {
        for (int b = 0; b < k_active; ++b) {
            Active& active = s_active[w][b];
            active.count = b < 20   ? static_cast<size_t>(b) * 3 + 1
                           : b < 28 ? static_cast<size_t>(b) * 40
                                    : 9000;
            active.words = static_cast<uint64_t*>(malloc(active.count * sizeof(uint64_t)));
            REQUIRE(active.words != nullptr);
            for (size_t i = 0; i < active.count; ++i) active.words[i] = word(w, b, i, 0);
        }
    }
    pthread_t threads[k_writers + 1];
    for (intptr_t w = 0; w < k_writers; ++w)
        REQUIRE(pthread_create(&threads[w], nullptr, writer_main, reinterpret_cast<void*>(w)) == 0);
    REQUIRE(pthread_create(&threads[k_writers], nullptr, reader_main, nullptr) == 0);
    wait_for_writers();
    for (int round = 0; round < k_rounds; ++round) {
        check::begin_case("fork with writers");
        check::Pipe to_parent;
        check::Pipe to_child;
        const pid_t pid = fork();
        REQUIRE(pid >= 0);
        if (pid == 0) {
            check::begin_case("child of a fork with writers");
            child_main(to_parent, to_child);
            _exit(check::result());
        }
        to_parent.receive();
        wait_for_writers();
        to_child.send();
        to_parent.receive();
        wait_for_writers();
        s_quiet.check();
        s_quiet.repaint(static_cast<uint64_t>(round));
        to_child.send();
        CHECK_CHILD(check::wait_status(pid));
        s_quiet.check();
        s_quiet.renew();
    }
    check::begin_case("many quick forks with writers");
    for (int round = 0; round < 12; ++round) {
        const pid_t pid = fork();
        REQUIRE(pid >= 0);
        if (pid == 0) {
            void* p = malloc(3000);
            REQUIRE(p != nullptr);
            memset(p, 1, 3000);
            free(p);
            _exit(0);
        }
        CHECK_CHILD(check::wait_status(pid));
    }
    s_stop = true;
    for (const pthread_t thread : threads) REQUIRE(pthread_join(thread, nullptr) == 0);
    s_quiet.check();
    return check::result();
}
