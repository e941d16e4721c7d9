// Purpose: the application chain (apps/chain) over the flat baseline.
// Who calls it: bench/paper.py, tests/apps.
// Crash rule: a measuring program.
#include "apps/chain/chain.hpp"
#include "bench/apps/flat.hpp"

int main(int count, char** words) {
    return aep::apps::chain::main_over<aep::apps::Flat>(count, words);
}
