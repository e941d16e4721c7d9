// Purpose: which chunks of a pool have living objects of dead nodes in them: those are not free
//          although nobody owns them.
// Who calls it: reclaim.cpp; the node host, which frees chunks that were kept.
// Crash rule: reads the pool only.
#pragma once

#include "shim/backing/pool_file.hpp"

namespace aep {

/// The chunks in which objects that nodes share live, at the moment of construction. What is not
/// here and belongs to a dead node, or to nobody, stays out: only a living node's objects come to
/// life. Cost: a mapping, and a look at every object.
class LivingChunks {
  public:
    LivingChunks(const PoolFile& file, int fd);
    ~LivingChunks();
    LivingChunks(const LivingChunks&) = delete;
    LivingChunks& operator=(const LivingChunks&) = delete;

    /// There was no memory to find out.
    bool unknown() const { return unknown_; }
    bool contain(u32 chunk) const { return marks_ != nullptr && marks_[chunk] != 0; }

  private:
    u8* marks_ = nullptr;  // one a chunk, in private memory
    usize bytes_ = 0;
    bool unknown_ = false;
};

}  // namespace aep
