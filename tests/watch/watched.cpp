// Purpose: a program that is watched: it allocates as its first argument says, in functions whose names tests look for.
// Who calls it: watch.py, under the preload library.
// Crash rule: some of it means to die.
//
// It is compiled with frame pointers and without the compiler's knowledge of malloc.
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "include/aep/dsm.h"
#include "tests/watch/makers.h"

namespace {

void* volatile kept[10'000];
void* volatile sink;

/// 2,000 blocks of 5,000 bytes and 10 of 300,000 stay; `rounds` times 1,000 of 100 bytes do not.
void usual(int rounds) {
    for (int i = 0; i < 2'000; ++i) kept[i] = kept_by(5'000);
    for (int i = 2'000; i < 2'010; ++i) kept[i] = kept_by(300'000);
    std::vector<void*> some(1'000);
    for (int r = 0; r < rounds; ++r) {
        for (void*& p : some) p = dropped_by(100);
        for (void* p : some) free(p);
    }
}

/// Says where it is and goes on when told to.
void say(const char* what) {
    puts(what);
    fflush(stdout);
}
void wait_for_line() {
    char line[16];
    if (fgets(line, sizeof line, stdin) == nullptr) _exit(9);
}

/// Blocks of all kinds, in threads, over forks; each holds what was written.
void all_kinds(int seed) {
    struct Block {
        unsigned char* at;
        size_t size;
        unsigned char byte;
    };
    std::vector<Block> blocks(200);
    unsigned random = static_cast<unsigned>(seed);
    const auto next = [&] { return (random = random * 1103515245 + 12345) >> 8; };
    for (int i = 0; i < 20'000; ++i) {
        Block& b = blocks[next() % blocks.size()];
        for (size_t k = 0; k < b.size; k += 97)
            if (b.at[k] != b.byte) abort();
        const size_t size = 1 + next() % (i % 50 == 0 ? 200'000 : 3'000);
        if (b.at != nullptr && i % 3 == 0) {
            b.at = static_cast<unsigned char*>(realloc(b.at, size));
        } else {
            free(b.at);
            if (i % 7 == 0) {
                const size_t alignment = size_t{16} << next() % 9;
                b.at = static_cast<unsigned char*>(aligned_alloc(alignment, size));
                if (reinterpret_cast<uintptr_t>(b.at) % alignment != 0) abort();
            } else if (i % 5 == 0) {
                b.at = static_cast<unsigned char*>(calloc(1, size));
                for (size_t k = 0; k < size; ++k)
                    if (b.at[k] != 0) abort();
            } else {
                b.at = static_cast<unsigned char*>(malloc(size));
            }
        }
        if (malloc_usable_size(b.at) < size) abort();
        b.size = size;
        b.byte = static_cast<unsigned char>(i);
        memset(b.at, b.byte, size);
    }
    for (const Block& b : blocks) free(b.at);
}

int survive() {
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back(all_kinds, i + 1);
    for (int i = 0; i < 5; ++i) {
        const pid_t child = fork();
        if (child == 0) {
            all_kinds(100 + i);
            _exit(0);
        }
        int status = 0;
        if (waitpid(child, &status, 0) != child || status != 0) return 1;
    }
    // Freed by another thread than the one it came from.
    std::vector<void*> across(5'000);
    std::thread maker([&] {
        for (void*& p : across) p = dropped_by(64);
    });
    maker.join();
    for (void* p : across) freed_by(p);
    for (std::thread& t : threads) t.join();
    return 0;
}

void own_handler(int) {
    if (write(1, "own handler\n", 12) != 12) _exit(8);
    _exit(3);
}
struct sigaction found;
void chaining_handler(int signal, siginfo_t* info, void* context) {
    if (write(1, "chaining handler\n", 17) != 17) _exit(8);
    if ((found.sa_flags & SA_SIGINFO) != 0) found.sa_sigaction(signal, info, context);
}
sigjmp_buf out;
void jumping_handler(int) { siglongjmp(out, 1); }

/// A mistake with a block of 48 bytes, several times: where a block lies in its slot changes.
int misuse(const char* what) {
    const auto is = [&](const char* one) { return strcmp(what, one) == 0; };
    for (int i = 0; i < 8; ++i) {
        auto* volatile p = static_cast<char*>(dropped_by(48));
        if (is("write-behind")) {
            p[48] = 1;  // faults where the block lies at the end
            continue;
        }
        if (is("read-behind")) kept[0] = p + p[48];
        if (is("write-before")) p[-1] = 1;
        if (is("free-inside")) freed_by(p + 16);
        freed_by(p);
        if (is("write-freed")) p[3] = 1;
        if (is("read-freed")) kept[0] = p + p[3];
        if (is("free-twice")) freed_by(p);
        if (is("slack")) {
            auto* volatile odd = static_cast<char*>(dropped_by(41));
            odd[41] = 1;
            freed_by(odd);
        }
    }
    return 0;
}

/// A forked child's mistake, after one of its parent's blocks; the child's number is printed.
int child_misuses() {
    freed_by(dropped_by(48));
    const pid_t child = fork();
    if (child == 0) {
        printf("%d\n", static_cast<int>(getpid()));
        fflush(stdout);
        return misuse("write-freed");
    }
    int status = 0;
    return waitpid(child, &status, 0) == child && WIFSIGNALED(status) ? 0 : 1;
}

/// Faults that are none of a guarded block's: a handler that jumps has each of them.
int jump_out() {
    signal(SIGSEGV, jumping_handler);
    sink = dropped_by(10);
    static int faults, i;  // not in registers, which the jump restores
    for (i = 0; i < 5; ++i) {
        if (sigsetjmp(out, 1) == 0)
            *reinterpret_cast<volatile char*>(16) = 1;
        else
            ++faults;
        sink = dropped_by(10);
    }
    return faults == 5 ? 0 : 1;
}

/// A guarded block is memory of the process's own, which cannot be sent; one of dsm_malloc can.
int send() {
    if (dsm_attach(nullptr) != 0) return 1;
    void* plain = dropped_by(100);
    if (dsm_send(dsm_self(), plain) != -1) return 2;
    printf("%s\n", dsm_strerror(errno));
    strcpy(static_cast<char*>(plain), "still there");
    void* shared = dsm_malloc(100);
    if (shared == nullptr || dsm_send(dsm_self(), shared) != 0) return 3;
    free(plain);
    dsm_info info;
    return dsm_recv(DSM_ANY, 0, &info) == shared ? 0 : 4;
}

/// Says how many of 200,000 blocks of an odd size were guarded: of these all that was asked for may be used, and no more.
int count_guarded(size_t size) {
    int guarded = 0;
    for (int i = 0; i < 200'000; ++i) {
        void* const p = dropped_by(size);
        guarded += malloc_usable_size(p) == size;
        free(p);
    }
    printf("%d\n", guarded);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const char* what = argc > 1 ? argv[1] : "";
    const char* more = argc > 2 ? argv[2] : "";
    if (strcmp(more, "handled") == 0) signal(SIGSEGV, own_handler);
    if (strcmp(more, "chained") == 0) {
        sink = dropped_by(10);  // the library has its handler by now
        struct sigaction action {};
        action.sa_sigaction = chaining_handler;
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGSEGV, &action, &found);
    }
    if (strcmp(what, "usual") == 0) return usual(atoi(more)), 0;
    if (strcmp(what, "survive") == 0) return survive();
    if (strcmp(what, "child") == 0) return child_misuses();
    if (strcmp(what, "jump") == 0) return jump_out();
    if (strcmp(what, "count") == 0) return count_guarded(strtoul(more, nullptr, 10));
    if (strcmp(what, "send") == 0) return send();
    if (strcmp(what, "wait") == 0) {  // a round of work for each line
        for (;;) {
            usual(atoi(more));
            for (auto& p : kept) {
                free(p);
                p = nullptr;
            }
            kept[9'999] = kept_by(1'000'000);
            say("done");
            wait_for_line();
        }
    }
    if (strcmp(what, "hold") == 0) {  // known blocks, by their addresses
        kept[0] = kept_by(48);
        kept[1] = kept_by(300'000);
        kept[2] = kept_by(700);
        freed_by(kept[2]);
        printf("%p %p %p\n", kept[0], kept[1], kept[2]);
        say("ready");
        wait_for_line();
        abort();
    }
    return misuse(what);
}
