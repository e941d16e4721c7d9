// Purpose: the application rpc (apps/rpc) over the flat baseline, and over ZeroMQ.
// Who calls it: bench/paper.py, tests/apps.
// Crash rule: a measuring program.
#include "apps/rpc/rpc.hpp"
#include "bench/apps/peers.hpp"

int main(int count, char** words) {
    using namespace aep::apps;
    return over_peers([&]<class... Ts>() { return rpc::main_over<Ts...>(count, words); });
}
