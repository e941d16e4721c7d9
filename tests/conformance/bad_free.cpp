// Bad frees end the process: double, interior and foreign ones, local and across threads, and
// realloc of what is not live. Each runs in a forked child that must die by SIGABRT with a message
// on fd 2 that starts "aep: ", names the pointer and says what is wrong. Run by CTest through
// run.sh in both modes. Crash rule: check.hpp.
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>

#include <new>

#include "tests/conformance/check.hpp"

// What the message may say, by kind. A page that went back whole no longer knows that the block
// existed: then a double free may be reported as the free of something that is not a live block.
static const char* const k_double[] = {"double free", "freed", "not a live", "not live", nullptr};
static const char* const k_interior[] = {"interior", "inside", "not the start", "misaligned",
                                         nullptr};
static const char* const k_foreign[] = {"foreign",  "not memory of", "not a block", "not a live",
                                        "not live", "unknown",       "misaligned",  "interior",
                                        "inside",   nullptr};

static size_t s_size;  // of the block in the case at hand, for the report

/// Sees to it that bad(p) aborts with a message that names p and one of the words.
template <typename Function>
static void expect_report(const char* name, void* p, const char* const* words, Function bad) {
    check::begin_case(name);
    check::Pipe pipe;
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        dup2(pipe.ends[1], 2);
        bad(p);
        _exit(0);
    }
    close(pipe.ends[1]);
    pipe.ends[1] = -1;
    char text[2000];
    size_t have = 0;
    for (ssize_t got; have < sizeof text - 1 &&
                      (got = read(pipe.ends[0], text + have, sizeof text - 1 - have)) > 0;)
        have += static_cast<size_t>(got);
    text[have] = 0;
    const int status = check::wait_status(pid);
    char hex[32];
    snprintf(hex, sizeof hex, "%lx", reinterpret_cast<unsigned long>(p));
    bool said = false;
    for (; *words != nullptr; ++words) said = said || strstr(text, *words) != nullptr;
    const char* wrong = !(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) ? "did not abort"
                        : strncmp(text, "aep: ", 5) != 0 ? "does not begin with 'aep: '"
                        : strstr(text, hex) == nullptr   ? "does not name the pointer"
                        : !said                          ? "does not say what is wrong"
                        : text[have - 1] != '\n'         ? "does not end its line"
                                                         : nullptr;
    CHECK(wrong == nullptr, "%s: %p, block size %zu, wait status 0x%x, message '%s'", wrong, p,
          s_size, status, text);
}

template <typename Function>
static void in_thread(Function function) {
    pthread_t thread;
    REQUIRE(pthread_create(
                &thread, nullptr,
                [](void* argument) -> void* {
                    (*static_cast<Function*>(argument))();
                    return nullptr;
                },
                &function) == 0);
    REQUIRE(pthread_join(thread, nullptr) == 0);
}

static const size_t k_sizes[] = {1,     16,    64,     100,      700,      2000,     10000,
                                 30000, 40000, 200000, 1u << 20, 5u << 20, 64u << 20};

static void double_frees() {
    for (const size_t size : k_sizes) {
        s_size = size;
        void* p = malloc(size);
        void* q = malloc(size);
        void* r = malloc(size);
        REQUIRE(p != nullptr && q != nullptr && r != nullptr);
        expect_report("double free at once", p, k_double, [](void* x) {
            free(x);
            free(x);
        });
        expect_report("double free with another between", q, k_double, [&](void* x) {
            free(x);
            free(r);
            free(x);
        });
        expect_report(
            "double free by delete", p, k_double,
            [](void* x) {
                ::operator delete(x);
                ::operator delete(x);
            });
        expect_report(
            "freed here, then by another thread", p, k_double,
            [](void* x) {
                free(x);
                in_thread([x] { free(x); });
            });
        expect_report(
            "freed by another thread, then here", p, k_double,
            [](void* x) {
                in_thread([x] { free(x); });
                free(x);
            });
        expect_report(
            "freed twice by another thread", p, k_double,
            [](void* x) {
                in_thread([x] {
                    free(x);
                    free(x);
                });
            });
        expect_report("freed by two other threads", p, k_double, [](void* x) {
            in_thread([x] { free(x); });
            in_thread([x] { free(x); });
        });
        expect_report("realloc of a freed block", p, k_double, [](void* x) {
            free(x);
            void* y = realloc(x, 300);
            (void)y;
        });
        free(p);
        free(q);
        free(r);
        void* orphan = nullptr;
        in_thread([&] { orphan = malloc(size); });
        REQUIRE(orphan != nullptr);
        expect_report("double free of an ended thread's block", orphan, k_double, [](void* x) {
            free(x);
            free(x);
        });
        free(orphan);
    }
}

static void interior_frees() {
    for (const size_t size : k_sizes) {
        s_size = size;
        auto* p = static_cast<char*>(malloc(size));
        REQUIRE(p != nullptr);
        const auto bad = [](void* x) { free(x); };
        expect_report("one byte inside", p + 1, k_interior, bad);
        if (size > 8) expect_report("8 bytes inside", p + 8, k_interior, bad);
        if (size > 16) expect_report("16 bytes inside", p + 16, k_interior, bad);
        if (size > 4096) expect_report("4096 bytes inside", p + 4096, k_interior, bad);
        if (size > 65536) expect_report("64 KiB inside", p + 65536, k_interior, bad);
        if (size > (4u << 20)) expect_report("4 MiB inside", p + (4u << 20), k_interior, bad);
        if (size > 1) expect_report("last byte", p + size - 1, k_interior, bad);
        if (size > 32) {
            expect_report("interior free by another thread", p + 16, k_interior,
                          [](void* x) { in_thread([x] { free(x); }); });
            expect_report("interior realloc", p + 16, k_interior, [](void* x) {
                void* y = realloc(x, 300);
                (void)y;
            });
        }
        free(p);
    }
    auto* aligned = static_cast<char*>(memalign(4096, 100));
    REQUIRE(aligned != nullptr);
    expect_report("inside an over-aligned block", aligned + 64, k_interior,
                  [](void* x) { free(x); });
    free(aligned);
}

static char s_static[64];

static void foreign_frees() {
    alignas(16) char local[64];
    auto* mapped = static_cast<char*>(
        mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    REQUIRE(mapped != MAP_FAILED);
    void* live = malloc(100);
    const auto near_live = reinterpret_cast<uintptr_t>(live);
    struct {
        const char* name;
        void* p;
    } const cases[] = {
        {"stack", local},
        {"stack, misaligned", local + 3},
        {"static object", s_static},
        {"static object, misaligned", s_static + 5},
        {"text", reinterpret_cast<void*>(&in_thread<void (*)()>)},
        {"libc text", reinterpret_cast<void*>(&getpid)},
        {"string literal", const_cast<char*>("a string literal")},
        {"mapped by the program", mapped},
        {"mapped by the program, inside", mapped + 4096},
        {"sixteen", reinterpret_cast<void*>(16)},
        {"one", reinterpret_cast<void*>(1)},
        {"minus one", reinterpret_cast<void*>(UINTPTR_MAX)},
        {"minus sixteen", reinterpret_cast<void*>(UINTPTR_MAX - 15)},
        {"not canonical", reinterpret_cast<void*>(0xdead0000deadbee0u)},
        {"top of the address space", reinterpret_cast<void*>(0x7ffffffff000u)},
        {"far beyond the heap", reinterpret_cast<void*>(near_live + (size_t{1} << 38))},
        {"a little beyond the heap", reinterpret_cast<void*>(near_live + (size_t{1} << 30) + 64)},
        {"pool window, beyond every chunk", reinterpret_cast<void*>(0x1a0000000000)},
        {"pool window, misaligned", reinterpret_cast<void*>(0x120000000008u)},
        {"end of the pool window", reinterpret_cast<void*>(0x220000000000u - 16)},
        {"metadata window", reinterpret_cast<void*>(0x300000001000u)},
    };
    for (const auto& one : cases) {
        expect_report(
            one.name, one.p, k_foreign, [](void* x) { free(x); });
        expect_report(one.name, one.p, k_foreign, [](void* x) { in_thread([x] { free(x); }); });
        expect_report(one.name, one.p, k_foreign, [](void* x) {
            void* y = realloc(x, 100);
            (void)y;
        });
    }
    expect_report("first free of the process is foreign", s_static, k_foreign,
                  [](void* x) { in_thread([x] { free(x); }); });
    free(live);
    munmap(mapped, 1 << 20);
}

int main(int argc, char** argv) {
    check::begin();
    REQUIRE(argc > 1, "usage: bad_free double|interior|foreign");
    if (strcmp(argv[1], "double") == 0) double_frees();
    if (strcmp(argv[1], "interior") == 0) interior_frees();
    if (strcmp(argv[1], "foreign") == 0) foreign_frees();
    return check::result();
}
