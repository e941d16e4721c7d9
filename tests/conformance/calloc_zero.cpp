// calloc gives zero memory after dirty reuse: all small sizes, random sizes, large and huge ones,
// after realloc growth, from memory that another thread dirtied; recycled memory is written where
// it is present, and only there. Run by CTest through run.sh in both modes. Crash rule: check.hpp.
#include <malloc.h>
#include <pthread.h>

#include "tests/conformance/check.hpp"

static void all_sizes() {
    check::begin_case("every size after dirty reuse");
    void* blocks[24];
    for (size_t size = 1; size <= 34000; size += size < 1100 ? 1 : size / 64) {
        for (int round = 0; round < 2; ++round) {
            for (void*& p : blocks) {
                p = calloc(1, size);
                REQUIRE(p != nullptr);
                CHECK(check::all_zero(p, size), "calloc(1, %zu) round %d", size, round);
                memset(p, 0xa5, malloc_usable_size(p));
            }
            for (void* p : blocks) free(p);
        }
    }
}

static void large_sizes() {
    check::begin_case("large and huge sizes after dirty reuse");
    for (const size_t size :
         {size_t{40000}, size_t{65536}, size_t{300000}, size_t{1} << 20, size_t{3000001},
          size_t{4} << 20, size_t{9000000}, size_t{33} << 20}) {
        for (int round = 0; round < 3; ++round) {
            void* dirty = malloc(size);
            REQUIRE(dirty != nullptr);
            memset(dirty, 0xff, malloc_usable_size(dirty));
            free(dirty);
            auto* p = static_cast<unsigned char*>(calloc(size / 2 + 1, 2));
            REQUIRE(p != nullptr);
            CHECK(check::all_zero(p, size), "calloc of %zu round %d", size, round);
            memset(p, 0x77, size);
            free(p);
        }
    }
}

static void mixed() {
    check::begin_case("mixed sizes, freed memory changes its class");
    check::Random random(3);
    static struct {
        unsigned char* block;
        size_t size;
    } slots[300];
    for (int step = 0; step < 20000; ++step) {
        auto& slot = slots[random.below(300)];
        free(slot.block);
        slot.size = random.below(size_t{1} << (4 + random.below(step % 40 == 0 ? 17 : 11))) + 1;
        if (random.below(3) == 0) {
            slot.block = static_cast<unsigned char*>(malloc(slot.size));
        } else {
            slot.block = static_cast<unsigned char*>(calloc(slot.size, 1));
            CHECK(slot.block == nullptr || check::all_zero(slot.block, slot.size),
                  "calloc(%zu, 1) step %d", slot.size, step);
        }
        REQUIRE(slot.block != nullptr);
        memset(slot.block, 0xee, malloc_usable_size(slot.block));
        if (random.below(4) == 0) {
            slot.block = static_cast<unsigned char*>(realloc(slot.block, slot.size * 2));
            REQUIRE(slot.block != nullptr);
            memset(slot.block, 0xdd, malloc_usable_size(slot.block));
        }
    }
    for (auto& slot : slots) free(slot.block);
}

static void* dirty_and_leave(void*) {
    static thread_local void* blocks[2000];
    for (size_t i = 0; i < 2000; ++i) {
        blocks[i] = malloc(i % 700 + 1);
        REQUIRE(blocks[i] != nullptr);
        memset(blocks[i], 0xcc, malloc_usable_size(blocks[i]));
    }
    for (void* p : blocks) free(p);
    return nullptr;
}

static void from_ended_threads() {
    check::begin_case("memory dirtied by threads that ended");
    static void* blocks[2000];
    for (int round = 0; round < 5; ++round) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, nullptr, dirty_and_leave, nullptr) == 0);
        REQUIRE(pthread_join(thread, nullptr) == 0);
        for (size_t i = 0; i < 2000; ++i) {
            blocks[i] = calloc(1, i % 700 + 1);
            REQUIRE(blocks[i] != nullptr);
            CHECK(check::all_zero(blocks[i], i % 700 + 1));
            memset(blocks[i], 0xbb, malloc_usable_size(blocks[i]));
        }
        for (void* p : blocks) free(p);
    }
}

static long page_faults() {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

static void recycled() {
    check::begin_case("memory that is there is used again");
    constexpr size_t size = (9u << 20) + 100;
    long fewest = size;
    // More than once: memory that has lain idle while this process waited has gone back.
    for (int round = 0; round < 20 && fewest > 100; ++round) {
        auto* dirty = static_cast<char*>(malloc(size));
        REQUIRE(dirty != nullptr);
        memset(dirty, 0x5a, size);
        free(dirty);
        const long before = page_faults();
        auto* p = static_cast<char*>(calloc(1, size));
        REQUIRE(p != nullptr);
        CHECK(check::all_zero(p, size));
        memset(p, 0x5b, size);
        const long faults = page_faults() - before;
        fewest = faults < fewest ? faults : fewest;
        free(p);
    }
    CHECK(fewest <= 100, "%ld page faults for %zu pages", fewest, size / 4096);
}

static void sparse() {
    if (check::pool_path() != nullptr) return;  // there a block has all its memory from the start
    check::begin_case("memory that is not there stays away");
    constexpr size_t size = 96u << 20;
    for (int round = 0; round < 3; ++round) {
        auto* dirty = static_cast<char*>(malloc(size));
        REQUIRE(dirty != nullptr);
        for (size_t at = 0; at < size; at += 7u << 20) memset(dirty + at, 0x5c, 300000);
        free(dirty);
        const long before = check::heap_footprint();
        auto* p = static_cast<char*>(calloc(1, size));
        REQUIRE(p != nullptr);
        const long more = check::heap_footprint() - before;
        CHECK(more < static_cast<long>(size / 8), "%ld bytes more for nothing", more);
        // Only the last is read: what has been read is present from then on.
        CHECK(round != 2 || check::all_zero(p, size));
        free(p);
    }
}

int main() {
    check::begin();
    all_sizes();
    large_sizes();
    mixed();
    from_ended_threads();
    recycled();
    sparse();
    return check::result();
}
