// Purpose: the walk over a dead client's heap before it is thrown away. What a client left is
//          walked in a process of its own, without privileges: a heap that leads astray ends that.
// Who calls it: recovery, if the daemon was told to verify; the checker asks for the number.
// Crash rule: the walk's process ends with the host's thread, and changes only what is thrown away.
#pragma once

#include "node/log.hpp"
#include "node/served_context.hpp"

namespace aep {

class HeapVerifier {
  public:
    /// Both outlive it.
    HeapVerifier(const ServedContext& served, const Log& log) : served_(served), log_(log) {}

    /// Walks the heap of a dead client, for 10 s at most, and says what is broken in it.
    void verify(u32 client);
    /// Heaps so far that were broken.
    u64 broken() const { return broken_; }

  private:
    const ServedContext& served_;
    const Log& log_;
    u64 broken_ = 0;
};

}  // namespace aep
