// Purpose: clients die inside the image in every way that a thread can die; every operation is
//          completed and the heap is sound.
// Who calls it: ctest, label provider.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>

#include "tests/provider/victim.hpp"

namespace aep::test {
namespace {

TEST(ProviderKill, OneVictimByKill) {
    AEP_NEED_EBPF();
    Node node;
    u32 open = 0;
    std::minstd_rand random(1);
    for (int i = 0; i < 200; ++i) {
        const pid_t victim = node.spawn([&] { churn(*node.session, 0); });
        const u64 until = slot_at(0).operations + random() % 100;
        ASSERT_TRUE(soon([&] { return slot_at(0).operations > until; }));
        kill(victim, SIGKILL);
        ASSERT_TRUE(WIFSIGNALED(wait_for(victim)));
        open += node.recover();
        node.provider->remove_member(static_cast<u32>(victim), CLIENT);
        ASSERT_FALSE(HasFailure());
    }
    printf("%u of 200 kills met an open operation\n", open);
    EXPECT_GT(open, 20u);
}

}  // namespace
}  // namespace aep::test
