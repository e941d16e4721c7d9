// Internal waste is at most 12.5 % of the request for sizes above 128 bytes up to 32 KiB, and small
// sizes waste less than 16 bytes; large ones at most one slice. malloc_usable_size tells. Run by
// CTest through run.sh. Crash rule: check.hpp.
#include <malloc.h>

#include "tests/conformance/check.hpp"

int main() {
    check::begin();
    check::begin_case("sizes up to 128");
    for (size_t size = 1; size <= 128; ++size) {
        void* p = malloc(size);
        REQUIRE(p != nullptr);
        const size_t usable = malloc_usable_size(p);
        CHECK(usable >= size && usable < size + 16, "%zu for %zu", usable, size);
        free(p);
    }
    check::begin_case("sizes above 128 up to 32 KiB");
    for (size_t size = 129; size <= 32768; ++size) {
        void* p = malloc(size);
        REQUIRE(p != nullptr);
        const size_t usable = malloc_usable_size(p);
        CHECK(usable >= size && (usable - size) * 8 <= usable, "%zu for %zu: %.2f %%", usable, size,
              100.0 * static_cast<double>(usable - size) / static_cast<double>(usable));
        free(p);
    }
    check::begin_case("large sizes");
    for (size_t size = 32769; size <= (16u << 20); size += size / 5 + 1) {
        void* p = malloc(size);
        REQUIRE(p != nullptr);
        const size_t usable = malloc_usable_size(p);
        CHECK(usable >= size && usable <= size + (size < (4u << 20) ? 65536 : (4u << 20)),
              "%zu for %zu", usable, size);
        free(p);
    }
    return check::result();
}
