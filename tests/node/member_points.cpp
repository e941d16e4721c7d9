// Purpose: ends a host that is one of several nodes at every named point of its work and proves
//          that the next one goes on. A point that is never reached fails.
// Who calls it: ctest; built with -DAEP_CRASH_POINTS from the host's own sources.
// Crash rule: this is the test of the crash rules of membership.
#include "node/crash_points.hpp"
#include "tests/node/fixture.hpp"

namespace aep {
namespace {

using namespace test;

const char* target = nullptr;

NodeOptions options_of(const Directory& directory, u32 node) {
    NodeOptions options = options_in(directory, 64 * MiB);
    const std::string home = directory.path() + "/" + std::to_string(node + 1);
    mkdir(home.c_str(), 0700);
    options.paths = context_paths("tested", home + "/context", home + "/socket");
    options.pool = directory.path() + "/pool";
    options.nodes.node = node;
    return options;
}

/// Joins, recovers the node that is dead, leaves.
void work(const NodeOptions& options) {
    Host host(options);
    host.sweep(0);
    host.remove();
}

class MemberPoints : public testing::TestWithParam<const char*> {};

TEST_P(MemberPoints, NextHostGoesOn) {
    const Directory directory;
    in_child([&] { Host dies(options_of(directory, 1)); });
    const pid_t child = start_child([&] {
        target = GetParam();
        crash_point_hook = [](const char* name) {
            if (std::strcmp(name, target) == 0) kill(getpid(), SIGKILL);
        };
        work(options_of(directory, 0));
    });
    const int status = wait_for(child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the point was never reached";
    in_child([&] {
        Host host(options_of(directory, 0));
        host.sweep(0);
        ASSERT_NE(host.membership(), nullptr);
        EXPECT_TRUE(host.membership()->stands());
        EXPECT_EQ(host.membership()->others(), 0u);
        EXPECT_EQ(all_of(host.check()), "");
        host.remove();
        const era::Tables& t = host.membership()->tables();
        for (u32 i = 0; i < t.shape.nodes; ++i)
            EXPECT_EQ(era::NodeWord{t.node(i).load()}.state(), era::NodeState::free);
        EXPECT_EQ(free_chunks(host), host.pool().tables.chunk_count);
    });
}
INSTANTIATE_TEST_SUITE_P(All, MemberPoints, testing::ValuesIn(MEMBER_CRASH_POINTS));

}  // namespace
}  // namespace aep
