// Purpose: the application kv (apps/kv) over the flat baseline, a store with one lock and an undo log, ZeroMQ and message queues of Boost, and
//          redis, each where it is installed.
// Who calls it: bench/paper.py, tests/apps.
// Crash rule: a measuring program.
#include "apps/kv/kv.hpp"

#include "apps/kv/served_store.hpp"
#include "apps/kv/shared_store.hpp"
#include "bench/apps/peers.hpp"
#include "bench/lightning/store.hpp"
#ifdef AEP_BENCH_REDIS
#include "bench/apps/redis.hpp"
#endif

namespace aep::apps::kv {
namespace {

/// Over what is shared a reader looks itself, else a partition's writer is asked.
template <class T>
struct StoreOver {
    using Type = ServedStore<T>;
};
template <>
struct StoreOver<Flat> {
    using Type = SharedStore<Flat>;
};

#ifdef AEP_BENCH_REDIS
using Stores = Types<Lightning, Redis>;
#else
using Stores = Types<Lightning>;
#endif

int run_over(int count, char** words) {
    return with_all_of(
        Peers(),
        [&]<class... Ts>() {
            return with_all_of(
                Types<typename StoreOver<Ts>::Type...>() + Stores(),
                [&]<class... Ss>() { return main_over<Ss...>(count, words); });
        });
}

}  // namespace
}  // namespace aep::apps::kv

int main(int count, char** words) { return aep::apps::kv::run_over(count, words); }
