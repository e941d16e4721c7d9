// Purpose: rpc: requests and replies by reference; see rpc.hpp.
// Who calls it: you, tests/apps, bench/paper.py.
// Crash rule: members end with their launcher.
#include "apps/common/aep.hpp"
#include "apps/common/local.hpp"
#include "apps/common/socket.hpp"
#include "apps/rpc/rpc.hpp"

int main(int count, char** words) {
    using namespace aep::apps;
    return rpc::main_over<Aep, Local, Unix, Tcp>(count, words);
}
