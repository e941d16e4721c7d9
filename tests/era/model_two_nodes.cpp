// Purpose: the explorer over two nodes: every interleaving of two tasks with a bounded number of
//          preemptions, and the death of a machine at every step, with every loss of its cache.
// Who calls it: ctest.
// Crash rule: this is the test of the crash rules.
#include <gtest/gtest.h>

#include "tests/era/plans.hpp"

namespace aep::era::test {
namespace {

class TwoNodes : public testing::TestWithParam<Plan> {};

TEST_P(TwoNodes, oneDiesAnywhere) { EXPECT_EQ(explored(GetParam()), ""); }

TEST_P(TwoNodes, nobodyDies) {
    Plan plan = GetParam();
    plan.preemptions = 4;
    plan.crashes = 0;
    EXPECT_EQ(explored(plan), "");
}

INSTANTIATE_TEST_SUITE_P(Plans, TwoNodes, testing::ValuesIn(two_node_plans()),
                         [](const auto& plan) { return test_name(plan.param); });

}  // namespace
}  // namespace aep::era::test
