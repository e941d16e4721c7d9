// Purpose: many threads: each replacing its own objects or cycling batches of them, all exchanging
// objects through one table (larson's
//          pattern: most objects are freed by another thread), and a relay of short-lived threads
//          of which each inherits the objects of the one before.
// Who calls it: main.cpp.
// Crash rule: nothing outlives the process.
#include "bench/micro/case.hpp"
#include "bench/micro/spin.hpp"

#include <atomic>
#include <thread>

namespace aep::bench {

namespace {

/// Threads that do one piece of work each time they are asked; the time of a round is that of the
/// slowest.
class Team {
  public:
    Team(unsigned count, std::function<void(unsigned)> work) : work_(std::move(work)) {
        for (unsigned index = 0; index < count; ++index)
            threads_.emplace_back([this, index] { serve(index); });
    }
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    ~Team() {
        over_.store(true, std::memory_order_relaxed);
        start_round();
        for (std::thread& thread : threads_) thread.join();
    }

    void run_round() {
        start_round();
        for (unsigned left = busy_.load(std::memory_order_acquire); left != 0;
             left = busy_.load(std::memory_order_acquire))
            busy_.wait(left, std::memory_order_acquire);
    }

  private:
    void start_round() {
        busy_.store(static_cast<unsigned>(threads_.size()), std::memory_order_relaxed);
        round_.fetch_add(1, std::memory_order_release);
        round_.notify_all();
    }

    void serve(unsigned index) {
        for (unsigned round = 0;; ++round) {
            round_.wait(round, std::memory_order_acquire);
            if (over_.load(std::memory_order_relaxed)) return;
            work_(index);
            if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_one();
        }
    }

    std::function<void(unsigned)> work_;
    std::atomic<unsigned> round_{0};
    std::atomic<unsigned> busy_{0};
    std::atomic<bool> over_{false};
    std::vector<std::thread> threads_;
};

constexpr std::uint32_t LIVE = 500;

/// One thread's objects, on cache lines of their own.
struct alignas(64) Private {
    std::vector<void*> blocks = std::vector<void*>(LIVE);
    Rng rng{5};
    std::size_t draw = 0;
};

void replace_own(Private& own, const Sizes& sizes, int replacements) {
    for (int i = 0; i < replacements; ++i) {
        void*& block = own.blocks[own.rng.below(LIVE)];
        std::free(block);
        block = take(sizes[own.draw++]);
        touch(block);
    }
}

void many_threads(benchmark::State& state, unsigned threads) {
    const Sizes sizes = Sizes::log_uniform(16, 512);
    const int replacements = static_cast<int>(200'000 / threads);
    std::vector<Private> owns(threads);
    for (unsigned i = 0; i < threads; ++i) owns[i].rng = Rng(100 + i);
    {
        Team team(
            threads, [&](unsigned index) { replace_own(owns[index], sizes, replacements); });
        measure(state, std::int64_t{replacements} * threads, [&] { team.run_round(); });
    }
    for (const Private& own : owns)
        for (void* block : own.blocks) std::free(block);
}

/// One thread's array of blocks that is filled and emptied in turns; a fifth stays for one turn
/// more, each time another one.
struct Cycle {
    static constexpr std::size_t LENGTH = 10'000;
    static constexpr std::size_t KEPT = LENGTH / 5;

    std::vector<void*> blocks = std::vector<void*>(LENGTH);
    std::size_t kept_from = LENGTH;  // LENGTH: none is kept
    std::size_t draw = 0;

    [[nodiscard]] bool is_kept(std::size_t i) const {
        return i >= kept_from && i < kept_from + KEPT;
    }

    void fill(const Sizes& sizes) {
        for (std::size_t i = 0; i < LENGTH; ++i) {
            if (!is_kept(i)) {
                blocks[i] = take(sizes[draw++]);
                *static_cast<volatile char*>(blocks[i]) = 1;
            }
        }
    }

    /// Those before the kept ones in order of allocation, those after them in reverse.
    void empty() {
        kept_from = kept_from + KEPT < LENGTH ? kept_from + KEPT : 0;
        for (std::size_t i = 0; i < kept_from; ++i) std::free(blocks[i]);
        for (std::size_t i = LENGTH; i > kept_from + KEPT; --i) std::free(blocks[i - 1]);
    }
};

/// Threads that each cycle batches of 1 to 1,000 bytes, small ones more often.
void cycle_batches(benchmark::State& state, unsigned threads) {
    const Sizes sizes = Sizes::log_uniform(1, 1000);
    std::vector<Cycle> cycles(threads);
    {
        Team team(
            threads,
            [&](unsigned index) {
                cycles[index].fill(sizes);
                cycles[index].empty();
            });
        measure(state, std::int64_t{Cycle::LENGTH - Cycle::KEPT} * threads,
                [&] { team.run_round(); });
    }
    for (const Cycle& cycle : cycles)
        for (std::size_t i = cycle.kept_from; i < cycle.kept_from + Cycle::KEPT; ++i)
            std::free(cycle.blocks[i]);
}

constexpr std::uint32_t TABLE = 4096;

void exchange(benchmark::State& state, unsigned threads) {
    const Sizes sizes = Sizes::log_uniform(16, 512);
    const int exchanges = static_cast<int>(100'000 / threads);
    std::vector<std::atomic<void*>> table(TABLE);
    std::vector<Private> owns(threads);
    for (unsigned i = 0; i < threads; ++i) owns[i].rng = Rng(200 + i);
    {
        Team team(
            threads,
            [&](unsigned index) {
                Private& own = owns[index];
                for (int i = 0; i < exchanges; ++i) {
                    void* const fresh = take(sizes[own.draw++]);
                    touch(fresh);
                    std::free(
                        table[own.rng.below(TABLE)].exchange(fresh, std::memory_order_acq_rel));
                }
            });
        measure(state, std::int64_t{exchanges} * threads, [&] { team.run_round(); });
    }
    for (std::atomic<void*>& cell : table) std::free(cell.load());
}

void relay(benchmark::State& state) {
    constexpr int REPLACEMENTS = 10'000;
    const Sizes sizes = Sizes::log_uniform(16, 512);
    Private passed_on;
    measure(state, REPLACEMENTS, [&] {
        std::thread runner([&] { replace_own(passed_on, sizes, REPLACEMENTS); });
        runner.join();
    });
    for (void* block : passed_on.blocks) std::free(block);
}

}  // namespace

void add_threads() {
    for (const unsigned threads : {2U, 8U, 32U}) {
        add_case(
            "threads/replace_" + std::to_string(threads), Clock::cpu, 20,
            [threads](benchmark::State& state) { many_threads(state, threads); });
    }
    for (const unsigned threads : {2U, 8U}) {
        add_case(
            "threads/exchange_" + std::to_string(threads), Clock::cpu, 15,
            [threads](benchmark::State& state) { exchange(state, threads); });
    }
    add_case("threads/cycle_4", Clock::cpu, 60,
             [](benchmark::State& state) { cycle_batches(state, 4); });
    add_case("threads/relay", Clock::cpu, 150, relay);
}

}  // namespace aep::bench
