// Purpose: the application rpc (apps/rpc) over the flat baseline, and over ZeroMQ and message queues of Boost.
// Who calls it: bench/paper.py, tests/apps.
// Crash rule: a measuring program.
#include "apps/rpc/rpc.hpp"
#include "bench/apps/peers.hpp"

int main(int count, char** words) {
    using namespace aep::apps;
    return with_all_of(Peers(), [&]<class... Ts>() { return rpc::main_over<Ts...>(count, words); });
}
