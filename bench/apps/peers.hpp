// Purpose: the transports that the applications are compared with besides those that they have themselves: the flat baseline,
//          ZeroMQ and Boost.Interprocess where they are installed.
// Who calls it: the programs of this folder.
// Crash rule: no state.
#pragma once

#include "bench/apps/flat.hpp"
#ifdef AEP_BENCH_BOOST
#include "bench/apps/message_queue.hpp"
#endif
#ifdef AEP_BENCH_ZEROMQ
#include "bench/apps/zeromq.hpp"
#endif

namespace aep::apps {

/// Their types.
template <class...>
struct Types {};
template <class... As, class... Bs>
constexpr Types<As..., Bs...> operator+(Types<As...>, Types<Bs...>) {
    return {};
}

#ifdef AEP_BENCH_ZEROMQ
using OverZeroMq = Types<ZeroMq>;
#else
using OverZeroMq = Types<>;
#endif
#ifdef AEP_BENCH_BOOST
using OverBoost = Types<BoostQueues>;
#else
using OverBoost = Types<>;
#endif
using Peers = decltype(Types<Flat>() + OverZeroMq() + OverBoost());

/// Calls run.operator()<all of them>().
template <class... Ts, class Run>
int with_all_of(Types<Ts...>, Run&& run) {
    return run.template operator()<Ts...>();
}

}  // namespace aep::apps
