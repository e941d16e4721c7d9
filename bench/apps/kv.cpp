// Purpose: the application kv (apps/kv) over the flat baseline, and over a store with one lock and an undo log.
// Who calls it: bench/paper.py, tests/apps.
// Crash rule: a measuring program.
#include "apps/kv/kv.hpp"
#include "apps/kv/shared_store.hpp"
#include "bench/apps/flat.hpp"
#include "bench/lightning/store.hpp"

int main(int count, char** words) {
    using namespace aep::apps;
    return kv::main_over<kv::SharedStore<Flat>, kv::Lightning>(count, words);
}
