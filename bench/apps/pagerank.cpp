// Purpose: the application pagerank (apps/pagerank) over the flat baseline, and over ZeroMQ and message queues of Boost.
// Who calls it: bench/paper.py, tests/apps.
// Crash rule: a measuring program.
#include "apps/pagerank/pagerank.hpp"
#include "bench/apps/peers.hpp"

int main(int count, char** words) {
    using namespace aep::apps;
    return with_all_of(Peers(),
                       [&]<class... Ts>() { return pagerank::main_over<Ts...>(count, words); });
}
