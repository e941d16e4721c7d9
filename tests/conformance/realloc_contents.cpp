// realloc keeps contents over every size class border, growing and shrinking, alone and between
// live neighbours, and large blocks grow and shrink without leaking. Run by CTest through run.sh in
// both modes. Crash rule: check.hpp.
#include <malloc.h>

#include "tests/conformance/check.hpp"

static void small_steps() {
    check::begin_case("grow by one over all small sizes");
    char* p = static_cast<char*>(malloc(1));
    REQUIRE(p != nullptr);
    check::fill(p, 1, 5);
    for (size_t size = 2; size <= 3000; ++size) {
        p = static_cast<char*>(realloc(p, size));
        REQUIRE(p != nullptr);
        CHECK_PATTERN(p, size - 1, 5);
        p[size - 1] = static_cast<char>(check::pattern_byte(size - 1, 5));
    }
    check::begin_case("shrink by one over all small sizes");
    for (size_t size = 2999; size >= 1; --size) {
        p = static_cast<char*>(realloc(p, size));
        REQUIRE(p != nullptr);
        CHECK_PATTERN(p, size, 5);
    }
    free(p);
}

static void every_border() {
    check::begin_case("across each class border");
    size_t size = 1;
    int borders = 0;
    while (size < (6u << 20)) {
        void* p = malloc(size);
        REQUIRE(p != nullptr);
        const size_t usable = malloc_usable_size(p);
        REQUIRE(usable >= size);
        check::fill(p, usable, size);
        void* q = realloc(p, usable + 1);
        REQUIRE(q != nullptr);
        CHECK_PATTERN(q, usable, size);
        CHECK(malloc_usable_size(q) >= usable + 1);
        q = realloc(q, usable);
        REQUIRE(q != nullptr);
        CHECK_PATTERN(q, usable, size);
        q = realloc(q, usable / 2 + 1);
        REQUIRE(q != nullptr);
        CHECK_PATTERN(q, usable / 2 + 1, size);
        free(q);
        size = usable + 1 + (usable > 40000 ? usable / 16 : 0);
        ++borders;
    }
    CHECK(borders > 20, "%d borders", borders);
}

struct Slot {
    void* block;
    size_t size;
    uint64_t seed;
};

static void random_population() {
    check::begin_case("random reallocs among live neighbours");
    check::Random random(11);
    static Slot slots[600];
    for (int step = 0; step < 30000; ++step) {
        Slot& slot = slots[random.below(600)];
        const unsigned shift = static_cast<unsigned>(random.below(step % 50 == 0 ? 21 : 13));
        const size_t size = random.below(size_t{1} << shift) + 1;
        if (slot.block != nullptr) CHECK_PATTERN(slot.block, slot.size, slot.seed);
        void* p = realloc(slot.block, size);
        REQUIRE(p != nullptr);
        if (slot.block != nullptr) CHECK_PATTERN(p, slot.size < size ? slot.size : size, slot.seed);
        slot = {p, size, static_cast<uint64_t>(step)};
        check::fill(p, size, slot.seed);
    }
    for (const Slot& slot : slots) {
        if (slot.block == nullptr) continue;
        CHECK_PATTERN(slot.block, slot.size, slot.seed);
        free(slot.block);
    }
}

static void large_growth() {
    check::begin_case("large blocks grow in steps and shrink back");
    const long before = check::heap_footprint();
    for (int round = 0; round < 3; ++round) {
        size_t size = 30000;
        char* p = static_cast<char*>(malloc(size));
        REQUIRE(p != nullptr);
        check::fill(p, size, 9);
        while (size < (40u << 20)) {
            const size_t bigger = size + size / 3 + 17;
            p = static_cast<char*>(realloc(p, bigger));
            REQUIRE(p != nullptr, "realloc to %zu", bigger);
            CHECK_PATTERN(p, size < 100000 ? size : 100000, 9);
            for (size_t i = size; i < bigger; ++i)
                p[i] = static_cast<char>(check::pattern_byte(i, 9));
            size = bigger;
        }
        CHECK_PATTERN(p, size, 9);
        while (size > 1000) {
            size = size * 2 / 5;
            p = static_cast<char*>(realloc(p, size));
            REQUIRE(p != nullptr);
            CHECK_PATTERN(p, size, 9);
        }
        free(p);
    }
    CHECK(check::heap_footprint() - before < (320 << 20), "grew by %ld",
          check::heap_footprint() - before);
}

int main() {
    check::begin();
    small_steps();
    every_border();
    random_population();
    large_growth();
    return check::result();
}
