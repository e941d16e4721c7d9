// Purpose: shows that the explorer finds faults: the protocol with one step left out fails in some
//          execution of some plan. Each step that is left out here is why that step is needed.
// Who calls it: ctest.
// Crash rule: this is the test of the crash rules.
#include <gtest/gtest.h>

#include "tests/era/plans.hpp"

namespace aep::era::test {
namespace {

/// What the explorer finds in the plan without the step, and says after how many executions.
std::string failure_of(const char* what, Plan plan, const Sabotage& sabotage) {
    plan.sabotage = sabotage;
    World world(plan);
    const Result result = world.explore();
    std::printf("%s: %s after %lu executions: %s\n", what,
                result.failure.empty() ? "nothing found" : "found", result.executions,
                result.failure.c_str());
    return result.failure;
}

TEST(Broken, overwrittenEraNotRecorded) {
    EXPECT_NE(failure_of("era not recorded", attach_and_release(), {.no_tell = true}), "");
}

TEST(Broken, recordNotFlushed) {
    EXPECT_NE(failure_of("record not flushed", attach_and_release(), {.no_record = true}), "");
}

TEST(Broken, matrixNotFlushed) {
    EXPECT_NE(failure_of("matrix not flushed", two_lanes(), {.no_seen = true}), "");
}

TEST(Broken, countNotFlushed) {
    EXPECT_NE(failure_of("count not flushed", attach_and_release(), {.no_count = true}), "");
}

TEST(Broken, countOfAnotherLaneNotFlushedBeforeItIsToldOf) {
    EXPECT_NE(failure_of("other's count not flushed", two_lanes(), {.no_foreign_flush = true}), "");
}

TEST(Broken, cellNotFlushed) {
    EXPECT_NE(failure_of("cell not flushed", attach_and_release(), {.no_cell = true}), "");
}

TEST(Broken, epochNotFlushed) {
    EXPECT_NE(failure_of("epoch not flushed", eras_end(), {.no_epoch = true}), "");
}

}  // namespace
}  // namespace aep::era::test
