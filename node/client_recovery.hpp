// Purpose: takes back what a dead client held: completes its open operations or says that it
//          cannot, frees its slots, clears its chunks' metadata and gives the chunks to the cache,
//          empties its domain.
// Who calls it: the node host, when a connection or a process ends, or a sweep is due; admission.
// Crash rule: each step leaves a state from which all of it can be done again; the entry is free
//             last. A client is believed dead when its lock can be had, by nothing else.
#pragma once

#include "node/chunk_cache.hpp"
#include "node/heap_verifier.hpp"
#include "node/operation_recovery.hpp"
#include "node/sweep.hpp"

namespace aep {

enum class RecoveryState {
    none,       // the entry is free
    alive,      // its process lives
    waiting,    // an operation of it is being completed
    frozen,     // its process is gone, but descendants use its heap
    recovered,  // everything is back
};

struct Recovery {
    RecoveryState state = RecoveryState::none;
    u32 chunks = 0;
    u64 ns = 0;
};

class ClientRecovery {
  public:
    /// All of them outlive it. `verifier`: null: heaps go unseen.
    ClientRecovery(const ServedContext& served, OperationRecovery& operations, HostSlot& host_slot,
                   ChunkCache& cache, HeapVerifier* verifier, const Log& log)
        : served_(served),
          operations_(operations),
          host_slot_(host_slot),
          cache_(cache),
          verifier_(verifier),
          log_(log) {}

    /// Takes back what client 1 .. max_clients held if its process is dead.
    Recovery recover(u32 client);
    /// recover() for all; what came of it is added to `done`.
    void recover_all(Sweep& done);
    /// Gives the memory of a client's domain back. False after a message: it could not be, and the next
    /// client must not get it.
    bool empty_domain(u32 client);

  private:
    bool finish_slots(u32 client);
    bool leave_sharing(u32 client);
    void free_slots(u32 client);
    void freeze(u32 client);
    u32 take_chunks_back(u32 client);
    void say_gone(u32 client, const Recovery& done) const;

    const ServedContext& served_;
    OperationRecovery& operations_;
    HostSlot& host_slot_;
    ChunkCache& cache_;
    HeapVerifier* const verifier_;
    const Log& log_;
};

}  // namespace aep
