// Purpose: kv: a key-value store whose readers need nobody; see kv.hpp.
// Who calls it: you, tests/apps, bench/paper.py.
// Crash rule: members end with their launcher.
#include "apps/common/local.hpp"
#include "apps/common/socket.hpp"
#include "apps/kv/aep_store.hpp"
#include "apps/kv/kv.hpp"
#include "apps/kv/served_store.hpp"
#include "apps/kv/shared_store.hpp"

int main(int count, char** words) {
    using namespace aep::apps;
    return kv::main_over<kv::AepStore, kv::SharedStore<Local>, kv::ServedStore<Unix>,
                         kv::ServedStore<Tcp>>(count, words);
}
