// Purpose: property tests: seeded random sessions on the real allocator over the anonymous and a
//          hostile backing. AEP_TEST_PROPERTY_SEED=n replays one seed, ..._SEEDS=n runs so many,
//          ..._STEPS=n sets the length, ..._EVERY=n the steps between two walks of all invariants.
// Who calls it: ctest.
// Crash rule: each session runs in a child of its own.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdlib>
#include <random>

#include "dsm-core/heap/check.hpp"
#include "dsm-core/op/check_operation.hpp"
#include "shim/driver/process.hpp"
#include "tests/property/hostile_backing.hpp"
#include "tests/property/session.hpp"
#include "tests/unit/in_child.hpp"

namespace aep::test {
namespace {

u64 from_environment(const char* name, u64 otherwise) {
    const char* text = std::getenv(name);
    return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

#if defined(AEP_CHECKED)
constexpr u64 EVERY = 4, STEPS = 2000, SEEDS = 4;
#elif defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr u64 EVERY = 25, STEPS = 1000, SEEDS = 2;
#else
constexpr u64 EVERY = 25, STEPS = 2000, SEEDS = 2;
#endif

class Seeded : public Choices {
  public:
    explicit Seeded(u64 seed) : random_(seed) {}
    u32 below(u32 n) override { return static_cast<u32>(random_() % n); }

  private:
    std::mt19937_64 random_;
};

void run(Session::Options options, u64 seed, u64 decay_ms, const Backing* backing) {
    const rlimit no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    process_configure(backing, {.decay_ms = decay_ms, .on_error = OnError::ignore});
    Seeded choices(seed);
    options.seed = seed;
    options.check_every = static_cast<u32>(from_environment("AEP_TEST_PROPERTY_EVERY", EVERY));
    const u64 steps = from_environment("AEP_TEST_PROPERTY_STEPS", STEPS);
    Session session(choices, options);
    while (session.steps() < steps) session.step();
    session.finish();
}

/// Runs `body(seed)` for each seed in a child, its messages about bad frees aside.
template <class Body>
void for_seeds(u64 first, Body body) {
    const char* fixed = std::getenv("AEP_TEST_PROPERTY_SEED");
    const u64 count = fixed != nullptr ? 1 : from_environment("AEP_TEST_PROPERTY_SEEDS", SEEDS);
    if (fixed != nullptr) first = std::strtoull(fixed, nullptr, 0);
    for (u64 seed = first; seed < first + count; ++seed) {
        const Output out = stderr_of([&] { body(seed); });
        std::string said;
        for (usize at = 0; at < out.text.size();) {
            const usize end = std::min(out.text.find('\n', at), out.text.size());
            const std::string line = out.text.substr(at, end - at);
            if (line.find("aep: free(0x") != 0) said += line + "\n";
            at = end + 1;
        }
        EXPECT_EQ(out.status, 0) << "seed " << seed << ": " << said;
        EXPECT_EQ(said, "") << "seed " << seed;
    }
}

TEST(Property, AnonymousMemory) {
    for_seeds(
        100, [](u64 seed) { run({.name = "anonymous"}, seed, 500, anonymous_backing()); });
}

TEST(Property, AnonymousMemoryPurgedAtOnce) {
    for_seeds(
        200, [](u64 seed) { run({.name = "no decay"}, seed, 0, anonymous_backing()); });
}

TEST(Property, SmallHeap) {
    for_seeds(
        300,
        [](u64 seed) {
            run({.max_live = MiB, .name = "small heap"}, seed, 0, anonymous_backing());
        });
}

TEST(Property, MemoryThatMustBeCommitted) {
    for_seeds(
        400,
        [](u64 seed) {
            hostility = {.holes = 60,
                         .dirty_chunks = 100,
                         .coarse_chunks = 80,
                         .max_chunks_held = 1000,
                         .seed = seed};
            run({.name = "commit"}, seed, 0, hostile_backing());
            EXPECT_GT(hostile_counts.committed, 0u);
            EXPECT_GT(hostile_counts.purged, 0u);
            EXPECT_EQ(hostile_counts.chunks_held, 0u) << "every chunk went back";
        });
}

TEST(Property, ABackingThatRefuses) {
    for_seeds(
        500,
        [](u64 seed) {
            hostility = {.refuse_chunks = 80,
                         .refuse_commit = 40,
                         .holes = 80,
                         .dirty_chunks = 100,
                         .coarse_chunks = 80,
                         .fail_purge = 60,
                         .fail_release = 60,
                         .max_chunks_held = 40,
                         .seed = seed};
            run({.may_fail = true, .name = "hostile"}, seed, 0, hostile_backing());
            EXPECT_GT(hostile_counts.refused, 0u);
            EXPECT_GT(hostile_counts.commits_refused, 0u);
            EXPECT_GT(hostile_counts.purges_failed, 0u);
        });
}

TEST(Property, APoolThatIsFull) {
    for_seeds(
        600,
        [](u64 seed) {
            hostility = {.max_chunks_held = 3, .seed = seed};
            run({.may_fail = true, .max_live = 10 * MiB, .name = "full"}, seed, 0,
                hostile_backing());
            EXPECT_GT(hostile_counts.refused, 0u);
            EXPECT_EQ(hostile_counts.chunks_held, 0u) << "every chunk went back";
        });
}

TEST(Property, EveryOperationIsFollowedByAFullWalk) {
    for_seeds(
        700,
        [](u64 seed) {
            check_domain_every(1);  // counts in the checked build
            run({.max_live = 4 * MiB, .name = "walk"}, seed, 0, anonymous_backing());
        });
}

}  // namespace
}  // namespace aep::test
