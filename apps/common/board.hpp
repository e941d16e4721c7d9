// Purpose: the page that a team's launcher and its members share: who is ready, when it begins and ends, figures.
// Who calls it: team.hpp; the applications' members write their figures.
// Crash rule: single words; a member that was killed has a successor in its seat, which begins anew.
#pragma once

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>

#include "apps/common/failure.hpp"

namespace aep::apps {

inline constexpr unsigned MOST_MEMBERS = 64;

class Board {
  public:
    struct alignas(64) Seat {
        std::atomic<std::uint64_t> done;   // operations until now
        std::atomic<std::uint64_t> begun;  // the operation under way, if the application says it
        std::atomic<std::uint32_t>
            settled;         // 1: it has all that a successor of another would ask it for
        double figures[13];  // as the application likes
    };

    std::atomic<std::uint32_t> ready;     // members that have come
    std::atomic<std::uint32_t> go;        // all have
    std::atomic<std::uint32_t> kills;     // still to come: members go on meanwhile
    std::atomic<std::uint32_t> finished;  // members, if the application counts them
    std::atomic<std::uint32_t> over;      // who serves may end
    Seat seats[MOST_MEMBERS];

    /// Waits until `word` is not `value`, or for a moment.
    static void wait(const std::atomic<std::uint32_t>& word, std::uint32_t value) {
        constexpr timespec MOMENT{.tv_sec = 0, .tv_nsec = 20'000'000};
        syscall(SYS_futex, &word, FUTEX_WAIT, value, &MOMENT, nullptr, 0);
    }
    static void wake(const std::atomic<std::uint32_t>& word) {
        syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
    }

    void come_and_wait() {
        ready.fetch_add(1);
        wake(ready);
        while (go.load() == 0) wait(go, 0);
    }
};

/// A board in memory that a descriptor leads to, which members inherit.
class SharedBoard {
  public:
    /// -1: a new one.
    explicit SharedBoard(int descriptor = -1) : descriptor_(descriptor) {
        if (descriptor_ < 0) {
            descriptor_ = memfd_create("board", 0);
            expect(descriptor_ >= 0 && ftruncate(descriptor_, sizeof(Board)) == 0,
                   "no memory for the board");
        }
        void* memory =
            mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_, 0);
        expect(memory != MAP_FAILED, "the board cannot be mapped");
        board_ = static_cast<Board*>(memory);
    }
    SharedBoard(const SharedBoard&) = delete;
    SharedBoard& operator=(const SharedBoard&) = delete;
    ~SharedBoard() {
        munmap(board_, sizeof(Board));
        close(descriptor_);
    }
    int descriptor() const { return descriptor_; }
    Board* operator->() const { return board_; }
    Board& operator*() const { return *board_; }

  private:
    int descriptor_;
    Board* board_;
};

}  // namespace aep::apps
