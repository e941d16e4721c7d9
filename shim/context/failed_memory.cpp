// Purpose: see failed_memory.hpp.
// Who calls it: see failed_memory.hpp.
// Crash rule: see failed_memory.hpp.
#include "shim/context/failed_memory.hpp"

#include <signal.h>

#include "dsm-core/context/format.hpp"
#include "shim/context/client.hpp"
#include "shim/sys/fault_signal.hpp"
#include "shim/sys/message.hpp"

namespace aep {
namespace {

/// In a handler: loads, stores and a write of one line.
uptr tell(const Fault& fault) {
    if (!this_client.attached ||
        fault.address - HEAP_BASE >= u64{context().chunk_count} * CHUNK_SIZE)
        return 0;
    log_ring().write(Event::memory_failed, this_client.index, fault.address,
                     static_cast<u64>(fault.code));
    const bool by_machine = fault.code == BUS_MCEERR_AR || fault.code == BUS_MCEERR_AO;
    message("context ", this_client.name, ": the memory at ", Hex{fault.address},
            by_machine ? " has failed (the machine reports it)"
                       : " is not there any more (the pool's file was cut short?)",
            ": whoever touches it ends; the daemon's log and aep status say what becomes of it");
    return 0;
}

}  // namespace

void tell_of_failed_memory() { keep_fault_signal(SIGBUS, tell); }

}  // namespace aep
