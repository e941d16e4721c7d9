// Hundreds of threads that live at once with a few blocks each, of many sizes: on a pool where a
// page for each size and thread has no room, malloc gives them all they ask for; where there is
// room, they take no more memory than they use. Run by CTest through run.sh. Crash rule: check.hpp.
#include <pthread.h>

#include "tests/conformance/check.hpp"

namespace {

constexpr int SIZES = 8;  // 16 to 2048 bytes
constexpr long MOST_PER_THREAD = 200 << 10;

pthread_barrier_t all_here;
pthread_barrier_t all_seen;

void* live(void* argument) {
    const auto me = reinterpret_cast<uintptr_t>(argument);
    void* blocks[SIZES];
    for (int i = 0; i < SIZES; ++i) {
        blocks[i] = malloc(size_t{16} << i);
        REQUIRE(blocks[i] != nullptr, "thread %zu, size %zu", me, size_t{16} << i);
        check::fill(blocks[i], size_t{16} << i, me);
    }
    pthread_barrier_wait(&all_here);
    pthread_barrier_wait(&all_seen);
    for (int i = 0; i < SIZES; ++i) {
        CHECK_PATTERN(blocks[i], size_t{16} << i, me);
        free(blocks[i]);
    }
    return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
    check::begin();
    REQUIRE(argc > 1);
    const int count = atoi(argv[1]);
    check::begin_case("all at once");
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    pthread_barrier_init(&all_here, nullptr, static_cast<unsigned>(count) + 1);
    pthread_barrier_init(&all_seen, nullptr, static_cast<unsigned>(count) + 1);
    auto* threads = static_cast<pthread_t*>(calloc(static_cast<size_t>(count), sizeof(pthread_t)));
    const long before = check::heap_footprint();
    for (int i = 0; i < count; ++i) {
        REQUIRE(pthread_create(&threads[i], &attributes, live,
                               reinterpret_cast<void*>(static_cast<intptr_t>(i))) == 0);
    }
    pthread_barrier_wait(&all_here);
    const long used = (check::heap_footprint() - before) / count;
    CHECK(used <= MOST_PER_THREAD, "%ld KiB a thread", used / 1024);
    pthread_barrier_wait(&all_seen);
    for (int i = 0; i < count; ++i) REQUIRE(pthread_join(threads[i], nullptr) == 0);
    free(threads);
    return check::result();
}
