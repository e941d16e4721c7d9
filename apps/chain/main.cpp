// Purpose: chain: a workflow of functions that pass a state on; see chain.hpp.
// Who calls it: you, tests/apps, bench/paper.py.
// Crash rule: members end with their launcher.
#include "apps/chain/chain.hpp"
#include "apps/common/aep.hpp"
#include "apps/common/local.hpp"
#include "apps/common/socket.hpp"

int main(int count, char** words) {
    using namespace aep::apps;
    return chain::main_over<Aep, Local, Unix, Tcp>(count, words);
}
