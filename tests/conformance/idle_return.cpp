// Freed memory goes back although the program calls nothing any more (AEP_BACKGROUND=1): after a
// peak of about 100 MiB is freed the footprint (anonymous memory and the pool file's blocks) falls
// below a quarter of it while the main thread only looks; again in a fork child, which has a thread
// of its own. That thread has all signals blocked, is one, and sleeps without a timer once nothing
// is left. Run by CTest through run.sh in all modes with AEP_DECAY_MS=50. Crash rule: check.hpp.
#include <dirent.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#include "tests/conformance/check.hpp"

static constexpr size_t k_blocks = 500'000;
static void* s_blocks[k_blocks];

static void peak_and_free() {
    for (void*& p : s_blocks) {
        p = malloc(200);
        REQUIRE(p != nullptr);
        memset(p, 1, 200);
    }
    const long peak = check::heap_footprint();
    for (void* p : s_blocks) free(p);
    const int64_t deadline = check::now_ms() + 20000;
    long now;
    do {
        const struct timespec pause = {0, 5000000};  // the poll's pace only
        nanosleep(&pause, nullptr);
        now = check::heap_footprint();
    } while (now > peak / 4 && check::now_ms() < deadline);
    CHECK(now <= peak / 4, "footprint %ld at the peak, still %ld", peak, now);
}

/// The first line of /proc/self/task/TID/NAME that begins with `begin`.
static bool read_line(const char* thread, const char* name, const char* begin, char (&line)[200]) {
    char path[100];
    snprintf(path, sizeof path, "/proc/self/task/%s/%s", thread, name);
    FILE* file = fopen(path, "re");
    if (file == nullptr) return false;
    bool found = false;
    while (!found && fgets(line, sizeof line, file) != nullptr)
        found = strncmp(line, begin, strlen(begin)) == 0;
    fclose(file);
    return found;
}

/// The thread's id; how many there are.
static int find_thread(char (&thread)[32]) {
    DIR* tasks = opendir("/proc/self/task");
    REQUIRE(tasks != nullptr);
    int found = 0;
    char line[200];
    while (const dirent* entry = readdir(tasks)) {
        if (entry->d_name[0] == '.') continue;
        if (!read_line(entry->d_name, "comm", "aep-background", line)) continue;
        snprintf(thread, sizeof thread, "%.31s", entry->d_name);
        ++found;
    }
    closedir(tasks);
    return found;
}

static void inspect_thread() {
    char thread[32];
    REQUIRE(find_thread(thread) == 1);
    char line[200];
    REQUIRE(read_line(thread, "status", "SigBlk:", line));
    // All but SIGKILL, SIGSTOP and the two that libc keeps for itself.
    const unsigned long long blocked = strtoull(line + 7, nullptr, 16);
    CHECK(blocked == 0xfffffffe7ffbfeffULL, "%llx", blocked);
    // Asleep on a futex without a timeout: nothing is dirty after some windows.
    const int64_t deadline = check::now_ms() + 20000;
    unsigned long long number = 0, timeout = 1;
    do {
        if (!read_line(thread, "syscall", "", line)) {
            check::cannot_run("what the thread waits for", "/proc/self/task/TID/syscall");
            return;
        }
        unsigned long long word, operation, value;
        if (sscanf(line, "%llu %llx %llx %llx %llx", &number, &word, &operation, &value,
                   &timeout) != 5)
            number = 0;
        const struct timespec pause = {0, 5000000};
        nanosleep(&pause, nullptr);
    } while ((number != SYS_futex || timeout != 0) && check::now_ms() < deadline);
    CHECK(number == SYS_futex && timeout == 0, "%s", line);
}

int main() {
    check::begin();
    char thread[32];
    CHECK(find_thread(thread) == 0, "a thread before there is anything to do");
    check::begin_case("the process");
    peak_and_free();
    inspect_thread();
    check::begin_case("a fork child");
    CHECK_CHILD(check::run_in_child([] {
        char none[32];
        CHECK(find_thread(none) == 0, "a child has one thread only");
        peak_and_free();
        inspect_thread();
    }));
    check::begin_case("the process again");
    peak_and_free();
    inspect_thread();
    return check::result();
}
