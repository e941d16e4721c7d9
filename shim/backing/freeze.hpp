// Purpose: fork in pool mode: makes this process's chunks private before a fork, so that parent
//          and child each keep what they had. See docs/design/fork.md.
// Who calls it: the backings' fork hooks, with the driver's growth lock held from prepare to
//               parent or child.
// Crash rule: what was frozen stays the dead process's node's until no descendant maps it.
#pragma once

#include "shim/backing/pool_shared.hpp"

namespace aep {

/// Replaces the shared mapping at `address` by a private view of the same part of the file, which
/// lies at `view` and moves: threads that write meanwhile fault and go on in the private one, which
/// shows all they have written. False after a message: no memory.
bool make_private(uptr view, uptr address, usize bytes, int protection);

/// In the parent, before the fork: every chunk that is `ChunkView::ours` becomes private. False: no
/// memory, and the fork must fail; what has been frozen by then stays frozen, which does no harm.
bool freeze_own_chunks(PoolHere& pool);

/// Before the program gives advice about fork (MADV_DONTFORK) on [address, address+bytes): makes
/// the range private, so that the advice takes and a later fork does not undo it. False: no memory.
bool freeze_before_advice(PoolHere& pool, uptr address, usize bytes);

/// Where fork copies: in the parent, after the fork.
void drop_staged_copies();

/// Where fork copies: in the child: puts the copies at the chunks' addresses.
void take_staged_copies(PoolHere& pool);

}  // namespace aep
