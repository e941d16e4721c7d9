// Purpose: the explorer over four nodes, two of which die: both survivors recover both at once, so
//          that each finds the other at the one that it wants, or done with it.
// Who calls it: ctest.
// Crash rule: this is the test of the crash rules.
#include <gtest/gtest.h>

#include "tests/era/plans.hpp"

namespace aep::era::test {
namespace {

class FourNodes : public testing::TestWithParam<Plan> {};

/// Every moment of the two deaths; the survivors one after the other.
TEST_P(FourNodes, twoDieAnywhere) {
    Plan plan = with_two_dead_and_two_recoverers(GetParam());
    plan.preemptions = 0;
    EXPECT_EQ(explored(plan), "");
}

TEST_P(FourNodes, atRandom) {
    EXPECT_EQ(sampled(with_two_dead_and_two_recoverers(GetParam()), 4, 10'000), "");
}

INSTANTIATE_TEST_SUITE_P(Plans, FourNodes,
                         testing::Values(letters_everywhere(), message(), attach_and_release(),
                                         chunks()),
                         [](const auto& plan) { return test_name(plan.param); });

/// Both are dead before anybody recovers; then every order of the survivors' steps, up to so many
/// changes from one to the other.
TEST(FourNodes, twoSurvivorsRecoverTwoDeadAtOnce) {
    Plan plan = with_two_dead_and_two_recoverers(letters_everywhere());
    plan.preemptions = 2;
    plan.crashes = 0;
    plan.tasks.clear();
    plan.dead = {0, 1};
    EXPECT_EQ(explored(plan), "");
}

}  // namespace
}  // namespace aep::era::test
