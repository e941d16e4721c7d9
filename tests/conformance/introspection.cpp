// malloc_trim, mallopt, mallinfo, mallinfo2, malloc_stats, malloc_info: plausible numbers that
// move, valid XML, sane return values. Run by CTest through run.sh in both modes. Crash rule:
// check.hpp.
#include <malloc.h>

#include "tests/conformance/check.hpp"

static constexpr int k_blocks = 3000;
static constexpr size_t k_size = 10000;
static void* s_blocks[k_blocks];

static void info_moves() {
    check::begin_case("mallinfo2 moves");
    const struct mallinfo2 before = mallinfo2();
    for (void*& p : s_blocks) {
        p = malloc(k_size);
        REQUIRE(p != nullptr);
        check::fill(p, 100, 1);
    }
    const struct mallinfo2 full = mallinfo2();
    const struct mallinfo old_full = mallinfo();
    constexpr size_t live = k_blocks * k_size;
    const auto in_use = [](const struct mallinfo2& info) { return info.uordblks + info.hblkhd; };
    CHECK(in_use(full) >= in_use(before) + live, "in use %zu then %zu", in_use(before),
          in_use(full));
    CHECK(in_use(full) <= in_use(before) + live * 5 / 4, "in use %zu then %zu", in_use(before),
          in_use(full));
    CHECK(full.arena + full.hblkhd >= in_use(full), "arena %zu + mapped %zu, in use %zu",
          full.arena, full.hblkhd, in_use(full));
    CHECK(static_cast<size_t>(static_cast<unsigned>(old_full.uordblks)) +
              static_cast<unsigned>(old_full.hblkhd) >=
          live);
    for (void*& p : s_blocks) free(p);
    const struct mallinfo2 after = mallinfo2();
    CHECK(in_use(after) <= in_use(before) + live / 10, "in use %zu at first, %zu after freeing",
          in_use(before), in_use(after));

    check::begin_case("mallinfo2 counts large blocks");
    void* large = malloc(50 << 20);
    REQUIRE(large != nullptr);
    const struct mallinfo2 with_large = mallinfo2();
    CHECK(in_use(with_large) >= in_use(after) + (50u << 20), "in use %zu then %zu", in_use(after),
          in_use(with_large));
    free(large);
    CHECK(in_use(mallinfo2()) < in_use(with_large) - (40u << 20));
}

/// Checks that the text is one well-formed XML element tree (names, nesting, quoted attributes); no
/// declarations needed.
static bool well_formed(const char* text) {
    char stack[32][64];
    int depth = 0;
    int roots = 0;
    const char* p = text;
    while (*p != 0) {
        if (*p != '<') {
            if (depth == 0 && strchr(" \t\r\n", *p) == nullptr) return false;
            ++p;
            continue;
        }
        ++p;
        if (*p == '?') {
            p = strstr(p, "?>");
            if (p == nullptr) return false;
            p += 2;
            continue;
        }
        const bool closing = *p == '/';
        if (closing) ++p;
        char name[64] = "";
        size_t n = 0;
        while (*p != 0 && strchr(" \t\r\n/>", *p) == nullptr && n < sizeof name - 1)
            name[n++] = *p++;
        name[n] = 0;
        if (n == 0) return false;
        while (*p != 0 && *p != '>' && *p != '/') {
            if (*p == '"') {
                p = strchr(p + 1, '"');
                if (p == nullptr) return false;
            }
            ++p;
        }
        const bool empty = *p == '/';
        if (empty) ++p;
        if (*p++ != '>') return false;
        if (closing) {
            if (depth == 0 || strcmp(stack[--depth], name) != 0) return false;
        } else {
            if (depth == 0) ++roots;
            if (!empty) {
                if (depth == 32) return false;
                strcpy(stack[depth++], name);
            }
        }
    }
    return depth == 0 && roots == 1;
}

static void xml() {
    check::begin_case("malloc_info");
    char path[256];
    snprintf(path, sizeof path, "%s/info.xml", getenv("AEP_TEST_DIR"));
    FILE* out = fopen(path, "w+");
    REQUIRE(out != nullptr);
    CHECK(malloc_info(0, out) == 0);
    rewind(out);
    static char text[1 << 20];
    const size_t length = fread(text, 1, sizeof text - 1, out);
    fclose(out);
    text[length] = 0;
    CHECK(strstr(text, "<malloc version=\"") != nullptr, "%.80s", text);
    CHECK(well_formed(text), "%.300s", text);
    check::begin_case("malloc_info with options");
    out = fopen(path, "w");
    REQUIRE(out != nullptr);
    errno = 0;
    const int result = malloc_info(1, out);
    CHECK(result == EINVAL || (result == -1 && errno == EINVAL), "returned %d", result);
    CHECK(ftell(out) == 0);
    fclose(out);
}

static void stats() {
    check::begin_case("malloc_stats writes to stderr");
    char path[256];
    snprintf(path, sizeof path, "%s/stats", getenv("AEP_TEST_DIR"));
    const int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(file >= 0);
    const int saved = dup(2);
    dup2(file, 2);
    malloc_stats();
    fflush(stderr);
    dup2(saved, 2);
    CHECK(lseek(file, 0, SEEK_END) > 10);
    close(file);
    close(saved);
}

int main() {
    check::begin();
    info_moves();
    xml();
    stats();
    check::begin_case("mallopt");
    CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
    CHECK(mallopt(M_TRIM_THRESHOLD, 1 << 20) == 1);
    CHECK(mallopt(M_ARENA_MAX, 2) == 1);
    check::begin_case("malloc_trim");
    const int trimmed = malloc_trim(0);
    CHECK(trimmed == 0 || trimmed == 1, "%d", trimmed);
    void* p = malloc(100);
    CHECK(p != nullptr);
    free(p);
    return check::result();
}
