// Huge blocks in private mode: 1 GiB and more, touched a little; several live at once; given back
// on free; calloc of one is quick since fresh memory is known zero. Run by CTest through run.sh.
// Crash rule: check.hpp.
#include <malloc.h>

#include "tests/conformance/check.hpp"

static constexpr size_t k_gib = size_t{1} << 30;

int main() {
    check::begin();
    check::begin_case("1 GiB blocks");
    char* blocks[3];
    for (char*& p : blocks) {
        p = static_cast<char*>(malloc(k_gib));
        REQUIRE(p != nullptr);
        CHECK(reinterpret_cast<uintptr_t>(p) % 16 == 0);
        CHECK(malloc_usable_size(p) >= k_gib);
        for (size_t at = 0; at < k_gib; at += k_gib / 16) p[at] = static_cast<char>(at >> 24);
        p[k_gib - 1] = 42;
    }
    for (char* p : blocks) {
        for (size_t at = 0; at < k_gib; at += k_gib / 16)
            CHECK(p[at] == static_cast<char>(at >> 24));
        CHECK(p[k_gib - 1] == 42);
        free(p);
    }
    check::begin_case("calloc of 2 GiB touches little");
    const long before = check::heap_footprint();
    char* p = static_cast<char*>(calloc(2, k_gib));
    REQUIRE(p != nullptr);
    for (size_t at = 0; at < 2 * k_gib; at += k_gib / 8) CHECK(p[at] == 0);
    CHECK(check::heap_footprint() - before < (256 << 20), "grew by %ld",
          check::heap_footprint() - before);
    check::begin_case("realloc of a huge block");
    p[0] = 7;
    p[k_gib] = 8;
    p = static_cast<char*>(realloc(p, 3 * k_gib));
    REQUIRE(p != nullptr);
    CHECK(p[0] == 7 && p[k_gib] == 8);
    p[3 * k_gib - 1] = 9;
    p = static_cast<char*>(realloc(p, k_gib + 1));
    REQUIRE(p != nullptr);
    CHECK(p[0] == 7 && p[k_gib] == 8);
    free(p);
    check::begin_case("100 rounds of 1 GiB do not exhaust anything");
    for (int round = 0; round < 100; ++round) {
        p = static_cast<char*>(malloc(k_gib));
        REQUIRE(p != nullptr, "round %d", round);
        p[0] = p[k_gib - 1] = 1;
        free(p);
    }
    return check::result();
}
