// Purpose: signal handlers that allocate, free and fork on top of the allocator's slow path: the
//          heap stays whole, and every block keeps its contents; private and joined, on the
//          thread's stack and on one of their own.
// Who calls it: CTest (client_nested).
// Crash rule: fixture.hpp.
#include <sys/time.h>

#include "shim/driver/emergency.hpp"
#include "shim/driver/slow_path.hpp"
#include "tests/client/fixture.hpp"

namespace aep::test {
namespace {

// What the handler works with; lock-free.
constexpr usize KEPT = 16;
void* volatile kept[KEPT];
std::atomic<void*> handed_over[64];
std::atomic<u64> served{0};
std::atomic<u64> on_top{0};
std::atomic<u64> damaged{0};

/// Only on top of the slow path, or where the thread is outside: the fast path is not re-entrant.
void on_signal(int) {
    if (slow_frame == nullptr) return;
    on_top.fetch_add(1);
    static u64 state = 0x1234'5678'9abc'def1;
    const u64 r = next_random(state);
    const usize i = r % KEPT;
    if (kept[i] != nullptr) {
        u8* p = static_cast<u8*>(kept[i]);
        if (r % 3 == 0) {
            u8* moved = static_cast<u8*>(reallocate(p, 300));
            if (moved == nullptr) return;
            p = moved;
        }
        if (p[0] != 0x5a || p[19] != 0x5a) damaged.fetch_add(1);
        deallocate(p);
        kept[i] = nullptr;
    } else {
        const usize size = 20 + r % 200;
        const usize alignment = r % 4 == 0 ? 256 : MIN_ALIGNMENT;
        u8* p = static_cast<u8*>(r % 4 == 0   ? allocate_aligned(alignment, size)
                                 : r % 2 == 0 ? allocate(size)
                                              : allocate_zeroed(size));
        if (p == nullptr) return;
        if (reinterpret_cast<uptr>(p) % alignment != 0) damaged.fetch_add(1);
        if (r % 2 != 0 && (p[0] != 0 || p[19] != 0)) damaged.fetch_add(1);
        served.fetch_add(1);
        memset(p, 0x5a, 20);
        kept[i] = p;
    }
    // A block of the interrupted program, small or large.
    if (void* p = handed_over[r % 64].exchange(nullptr)) deallocate(p);
}

void start_storm(bool own_stack) {
    if (own_stack) {
        static u8 stack[64 * KiB];
        const stack_t alternative = {stack, 0, sizeof stack};
        ASSERT_EQ(sigaltstack(&alternative, nullptr), 0);
    }
    struct sigaction action {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART | (own_stack ? SA_ONSTACK : 0);
    ASSERT_EQ(sigaction(SIGALRM, &action, nullptr), 0);
}

/// Another process sends signals as fast as it can.
pid_t signaller(pid_t to) {
    const pid_t pid = fork();
    if (pid == 0) {
        while (kill(to, SIGALRM) == 0 && getppid() == to)
            for (int i = 0; i < 50; ++i) __builtin_ia32_pause();
        _exit(0);
    }
    return pid;
}

void work_in_the_storm() {
    u64 seed = 0x9e37'79b9'7f4a'7c15;
    struct Block {
        u8* p = nullptr;
        usize size = 0;
        u8 fill = 0;
    };
    Block blocks[200];
    for (int i = 0; i < 60'000 || on_top.load() < 50; ++i) {
        const u64 r = next_random(seed);
        Block& b = blocks[r % 200];
        if (b.p != nullptr) {
            ASSERT_EQ(b.p[0], b.fill);
            ASSERT_EQ(b.p[b.size - 1], b.fill);
        }
        if (r % 7 == 0 && b.p != nullptr) {
            void* expected = nullptr;
            if (handed_over[(r >> 20) % 64].compare_exchange_strong(expected, b.p)) b.p = nullptr;
        }
        if (r % 5 == 0 && b.p != nullptr) {
            const usize size = 11'000 + next_random(seed) % 300'000;
            u8* p = static_cast<u8*>(reallocate(b.p, size));
            ASSERT_NE(p, nullptr);
            ASSERT_EQ(p[0], b.fill);
            b.p = p;
            b.size = size;
            p[size - 1] = b.fill;
            continue;
        }
        deallocate(b.p);
        // Above 10 KiB nothing is served by the fast path.
        b.size = 11'000 + next_random(seed) % (r % 8 == 0 ? 400'000 : 30'000);
        b.p = static_cast<u8*>(r % 11 == 0 ? allocate_zeroed(b.size) : allocate(b.size));
        ASSERT_NE(b.p, nullptr);
        b.fill = static_cast<u8>(r >> 40);
        b.p[0] = b.p[b.size - 1] = b.fill;
    }
    for (Block& b : blocks) deallocate(b.p);
}

void storm(bool own_stack) {
    void* first = allocate(20'000);
    const u64 large_before = domain().large_count.load();
    start_storm(own_stack);
    const pid_t sender = signaller(getpid());
    work_in_the_storm();
    kill(sender, SIGKILL);
    wait_for(sender);
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    sigaction(SIGALRM, &ignore, nullptr);
    for (usize i = 0; i < KEPT; ++i) deallocate(kept[i]);
    for (auto& block : handed_over) deallocate(block.load());
    deallocate(first);
    EXPECT_EQ(damaged.load(), 0u);
    EXPECT_GT(on_top.load(), 0u);
    EXPECT_EQ(slow_frame, nullptr);
    trim();
    EXPECT_EQ(domain().large_count.load(), large_before) << "what a handler freed is lost";
    expect_sound();
}

TEST(Nested, PrivateOnTheSameStack) {
    in_child([] {
        process_configure(nullptr, {});
        storm(false);
    });
}
TEST(Nested, PrivateOnASignalStack) {
    in_child([] {
        process_configure(nullptr, {});
        storm(true);
    });
}
TEST(Nested, JoinedOnTheSameStack) {
    const Host host({"pool-size=256M"});
    host.in_client([] { storm(false); });
}
TEST(Nested, JoinedOnASignalStack) {
    const Host host({"pool-size=256M"});
    host.in_client([] { storm(true); });
}

TEST(Emergency, TheAreaIsWholeAgainWhenAllBlocksAreFree) {
    for (int round = 0; round < 3; ++round) {
        std::vector<void*> blocks;
        while (void* p = emergency_allocate(1000, 64)) {
            EXPECT_EQ(reinterpret_cast<uptr>(p) % 64, 0u);
            EXPECT_TRUE(emergency_owns(p));
            EXPECT_GE(emergency_size(p), 1000u);
            memset(p, 0x77, 1000);
            blocks.push_back(p);
        }
        EXPECT_GT(blocks.size(), EMERGENCY_BYTES / 1200);
        for (void* p : blocks) EXPECT_TRUE(emergency_free(p));
        EXPECT_FALSE(emergency_free(blocks[0]));
    }
}

}  // namespace
}  // namespace aep::test
