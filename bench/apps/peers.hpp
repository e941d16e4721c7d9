// Purpose: the transports that the applications are compared with besides those that they have themselves: the flat baseline,
//          and ZeroMQ where it is installed.
// Who calls it: the programs of this folder.
// Crash rule: no state.
#pragma once

#include "bench/apps/flat.hpp"
#ifdef AEP_BENCH_ZEROMQ
#include "bench/apps/zeromq.hpp"
#endif

namespace aep::apps {

/// Calls run.operator()<all of them>().
template <class Run>
int over_peers(Run&& run) {
#ifdef AEP_BENCH_ZEROMQ
    return run.template operator()<Flat, ZeroMq>();
#else
    return run.template operator()<Flat>();
#endif
}

}  // namespace aep::apps
