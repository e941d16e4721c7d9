// Programs that change their surroundings: close every descriptor, chroot, run threads on the
// smallest stacks, use stdio in all buffer modes, exec themselves with a very large environment,
// drop root, unset or change the environment. Our heap must not mind. Run by CTest through run.sh
// in both modes; first argument: a library to dlopen. Crash rule: check.hpp.
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>

#include "tests/conformance/population.hpp"

static check::Population<100> s_all;
static check::Population<110> s_more;

/// Uses every part of the allocator that could need a file or a descriptor: new chunks, fork,
/// decay, threads.
static void use_everything() {
    s_all.check();
    s_all.renew();
    s_more.make(5u << 20, 60);
    CHECK_CHILD(check::run_in_child([] {
        s_all.check();
        s_more.check();
        s_all.repaint(4);
        s_more.renew();
        s_more.free_all();
    }));
    s_more.check();
    s_more.free_all();
    malloc_trim(0);
    s_all.check();
}

static void closed_descriptors() {
    check::begin_case("closes every descriptor");
    CHECK_CHILD(check::run_in_child([] {
        // All but a copy of stderr, so that a failure can still be told.
        REQUIRE(dup2(2, 900) == 900);
        REQUIRE(close_range(0, 899, 0) == 0 && close_range(901, ~0u, 0) == 0);
        REQUIRE(dup2(900, 2) == 2);
        close(900);
        use_everything();
        // New descriptors take the old numbers: the allocator must not use them as its own.
        int fds[20];
        char path[256];
        snprintf(path, sizeof path, "%s/innocent", getenv("AEP_TEST_DIR"));
        for (int& fd : fds) fd = open(path, O_RDWR | O_CREAT, 0600);
        use_everything();
        struct stat info;
        for (const int fd : fds) {
            REQUIRE(fstat(fd, &info) == 0);
            CHECK(info.st_size == 0 && info.st_blocks == 0, "somebody wrote to our file");
        }
    }));
}

static void chrooted(const char* library) {
    check::begin_case("chroot");
    CHECK_CHILD(check::run_in_child([] {
        char path[256];
        snprintf(path, sizeof path, "%s/empty", getenv("AEP_TEST_DIR"));
        REQUIRE(mkdir(path, 0700) == 0);
        const int moved = chroot(path);
        if (moved != 0 && errno == EPERM)
            return check::cannot_run("chroot", "needs CAP_SYS_CHROOT");
        REQUIRE(moved == 0 && chdir("/") == 0);
        use_everything();
    }));
    check::begin_case("drops root");
    CHECK_CHILD(check::run_in_child([library] {
        const int dropped = setgid(65534);
        if (dropped != 0 && errno == EPERM)
            return check::cannot_run("drops-root", "needs CAP_SETGID");
        REQUIRE(dropped == 0 && setuid(65534) == 0);
        use_everything();
        void* handle = dlopen(library, RTLD_NOW);
        if (handle != nullptr) dlclose(handle);  // the build may lie where nobody may read
        use_everything();
    }));
}

static void tiny_stacks() {
    check::begin_case("threads on the smallest stacks");
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    REQUIRE(pthread_attr_setstacksize(&attributes, static_cast<size_t>(PTHREAD_STACK_MIN)) == 0);
    for (int i = 0; i < 50; ++i) {
        pthread_t thread;
        REQUIRE(pthread_create(
                    &thread, &attributes,
                    [](void*) -> void* {
                        void* blocks[30];
                        for (size_t k = 0; k < 30; ++k) {
                            blocks[k] = malloc(size_t{1} << (k * 23 / 30));
                            if (blocks[k] == nullptr) abort();
                            memset(blocks[k], 1, (size_t{1} << (k * 23 / 30)) < 4096 ? 1 : 4096);
                        }
                        for (void*& p : blocks) p = realloc(p, 5000);
                        for (void* p : blocks) free(p);
                        return nullptr;
                    },
                    nullptr) == 0);
        REQUIRE(pthread_join(thread, nullptr) == 0);
    }
    pthread_attr_destroy(&attributes);
}

static void stdio() {
    check::begin_case("stdio in all buffer modes");
    char path[256];
    snprintf(path, sizeof path, "%s/text", getenv("AEP_TEST_DIR"));
    for (const int mode : {_IOFBF, _IOLBF, _IONBF}) {
        FILE* file = fopen(path, "w+");
        REQUIRE(file != nullptr);
        auto* buffer = static_cast<char*>(malloc(70000));
        REQUIRE(setvbuf(file, mode == _IONBF ? nullptr : buffer, mode, 70000) == 0);
        for (int i = 0; i < 5000; ++i) fprintf(file, "%d %-20d\n", i, i * 3);
        rewind(file);
        char* line = nullptr;
        size_t capacity = 0;
        for (int i = 0; i < 5000; ++i) {
            REQUIRE(getline(&line, &capacity, file) > 0);
            CHECK(atoi(line) == i);
        }
        free(line);
        fclose(file);
        free(buffer);
    }
    char* text = nullptr;
    size_t size = 0;
    FILE* memory = open_memstream(&text, &size);
    REQUIRE(memory != nullptr);
    for (int i = 0; i < 20000; ++i) fprintf(memory, "%d,", i);
    fclose(memory);
    CHECK(size > 100000 && strncmp(text, "0,1,2,", 6) == 0);
    free(text);
    REQUIRE(asprintf(&text, "%0*d", 5000, 7) == 5000);
    CHECK(text[4999] == '7');
    free(text);
}

static void environment() {
    check::begin_case("exec with a large environment");
    CHECK_CHILD(check::run_in_child([] {
        // 1 MiB of strings in front of and behind ours.
        for (int i = 0; i < 1000; ++i) {
            char name[32];
            snprintf(name, sizeof name, "%s_FILLER_%d", i % 2 ? "A" : "Z", i);
            char value[1001];
            memset(value, 'v', 1000);
            value[1000] = 0;
            REQUIRE(setenv(name, value, 1) == 0);
        }
        execl("/proc/self/exe", "load_hostile", "child-with-environment", nullptr);
        REQUIRE(false, "exec failed");
    }));
    check::begin_case("clears and changes the environment");
    CHECK_CHILD(check::run_in_child([] {
        setenv("AEP_POOL", "/nonexistent/elsewhere", 1);
        setenv("AEP_ON_ERROR", "nonsense", 1);
        s_more.make(100000, 1);
        clearenv();
        s_more.check();
        s_more.free_all();
        s_all.check();
    }));
}

static int with_environment() {
    check::begin_case("program with a large environment");
    const char* value = getenv("A_FILLER_999");
    CHECK(value != nullptr && strlen(value) == 1000);
    s_all.make(1u << 20, 2);
    use_everything();
    return check::result();
}

int main(int argc, char** argv) {
    check::begin();
    REQUIRE(argc > 1, "usage: load_hostile LIBRARY");
    if (strcmp(argv[1], "child-with-environment") == 0) return with_environment();
    s_all.make(3u << 20, 1);
    closed_descriptors();
    chrooted(argv[1]);
    tiny_stacks();
    stdio();
    environment();
    check::begin_case("after all that");
    use_everything();
    s_all.free_all();
    return check::result();
}
