// Purpose: the explorer over three nodes: two of them die, the second one perhaps while it recovers
//          the first; two survivors recover at once; and random executions beyond the bounds.
// Who calls it: ctest.
// Crash rule: this is the test of the crash rules.
#include <gtest/gtest.h>

#include "tests/era/plans.hpp"

namespace aep::era::test {
namespace {

class ThreeNodes : public testing::TestWithParam<Plan> {};

TEST_P(ThreeNodes, twoDieAnywhere) { EXPECT_EQ(explored(with_third_node(GetParam(), 0)), ""); }

TEST_P(ThreeNodes, twoRecoverAtOnce) {
    Plan plan = with_two_recoverers(GetParam());
    plan.preemptions = 1;
    EXPECT_EQ(explored(plan), "");
}

TEST_P(ThreeNodes, atRandom) {
    Plan plan = with_two_recoverers(GetParam());
    plan.crashes = 2;
    EXPECT_EQ(sampled(plan, 0, 30'000), "");
}

INSTANTIATE_TEST_SUITE_P(Plans, ThreeNodes, testing::ValuesIn(two_node_plans()),
                         [](const auto& plan) { return test_name(plan.param); });

TEST(ThreeNodes, dropTheLastReferencesAtOnce) { EXPECT_EQ(explored(three_last_releases()), ""); }

}  // namespace
}  // namespace aep::era::test
