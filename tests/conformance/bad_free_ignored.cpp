// AEP_ON_ERROR=ignore: bad frees are reported and counted, the program goes on and its heap stays
// whole: no live block is damaged and no block is handed out twice. Starts itself again with the
// variable and reads the child's report. Run by CTest through run.sh in both modes. Crash rule:
// check.hpp.
#include <malloc.h>
#include <pthread.h>

#include "tests/conformance/check.hpp"

static constexpr int k_rounds = 5;
static constexpr size_t k_sizes[] = {16, 100, 3000, 30000, 100000, 6000000};
static constexpr int k_bad_each = 6;
static char s_static[64];

static void* free_in_thread(void* p) {
    free(p);
    return nullptr;
}

/// The process with the variable set: k_bad_each bad frees for each size and round.
static int go_on() {
    static void* live[2000];
    for (size_t i = 0; i < 2000; ++i) {
        live[i] = malloc(i + 1);
        REQUIRE(live[i] != nullptr);
        check::fill(live[i], i + 1, i);
    }
    for (int round = 0; round < k_rounds; ++round) {
        for (const size_t size : k_sizes) {
            auto* p = static_cast<char*>(malloc(size));
            REQUIRE(p != nullptr);
            check::fill(p, size, size);
            errno = 99;
            free(p + 1);
            free(p + 8);
            free(s_static);
            free(reinterpret_cast<void*>(16));
            CHECK(errno == 99, "an ignored bad free changed errno");
            CHECK_PATTERN(p, size, size);
            free(p);
            free(p);
            pthread_t thread;
            REQUIRE(pthread_create(&thread, nullptr, free_in_thread, s_static) == 0);
            REQUIRE(pthread_join(thread, nullptr) == 0);
        }
    }
    // Blocks that are handed out twice would share their contents.
    static unsigned char* many[5000];
    for (size_t i = 0; i < 5000; ++i) {
        many[i] = static_cast<unsigned char*>(malloc(16 + i % 100));
        REQUIRE(many[i] != nullptr);
        check::fill(many[i], 16 + i % 100, i);
    }
    for (size_t i = 0; i < 5000; ++i) {
        CHECK_PATTERN(many[i], 16 + i % 100, i);
        free(many[i]);
    }
    for (size_t i = 0; i < 2000; ++i) {
        CHECK_PATTERN(live[i], i + 1, i);
        free(live[i]);
    }
    void* p = realloc(s_static, 100);
    CHECK(p == nullptr, "realloc of a foreign pointer gave %p", p);
    return check::result();
}

int main(int argc, char**) {
    check::begin();
    if (argc > 1) return go_on();
    setenv("AEP_ON_ERROR", "ignore", 1);
    setenv("AEP_STATS", "1", 1);
    char path[256];
    snprintf(path, sizeof path, "%s/report", getenv("AEP_TEST_DIR"));
    const int report = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(report >= 0);
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        dup2(report, 2);
        execl("/proc/self/exe", "bad_free_ignored", "go-on", nullptr);
        _exit(127);
    }
    const int status = check::wait_status(pid);
    static char text[1 << 20];
    const ssize_t length = pread(report, text, sizeof text - 1, 0);
    REQUIRE(length >= 0);
    text[length] = 0;
    CHECK(check::exited_ok(status), "wait status 0x%x: %.300s", status, text);
    // The exact number of bad frees (one realloc among them) is in the statistics at exit.
    constexpr int expected =
        k_rounds * static_cast<int>(sizeof k_sizes / sizeof k_sizes[0]) * k_bad_each + 1;
    char number[16];
    snprintf(number, sizeof number, "%d", expected);
    const char* stats = nullptr;
    for (const char* at = text; (at = strstr(at, "bad free")) != nullptr; ++at) stats = at;
    REQUIRE(stats != nullptr, "no 'bad frees' line in the statistics: %.500s", text);
    const char* line = stats;
    while (line > text && line[-1] != '\n') --line;
    char last[200];
    snprintf(last, sizeof last, "%.*s", static_cast<int>(strcspn(line, "\n")), line);
    CHECK(strstr(last, number) != nullptr, "'%s' does not say %s", last, number);
    close(report);
    return check::result();
}
