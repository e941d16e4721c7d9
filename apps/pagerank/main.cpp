// Purpose: pagerank: a workflow that ranks the vertices of a graph; see pagerank.hpp.
// Who calls it: you, tests/apps, bench/paper.py.
// Crash rule: members end with their launcher.
#include "apps/common/aep.hpp"
#include "apps/common/local.hpp"
#include "apps/common/socket.hpp"
#include "apps/pagerank/pagerank.hpp"

int main(int count, char** words) {
    using namespace aep::apps;
    return pagerank::main_over<Aep, Local, Unix, Tcp>(count, words);
}
