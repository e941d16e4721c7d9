// Purpose: the application rpc (apps/rpc) over the flat baseline.
// Who calls it: bench/paper.py, tests/apps.
// Crash rule: a measuring program.
#include "apps/rpc/rpc.hpp"
#include "bench/apps/flat.hpp"

int main(int count, char** words) {
    return aep::apps::rpc::main_over<aep::apps::Flat>(count, words);
}
