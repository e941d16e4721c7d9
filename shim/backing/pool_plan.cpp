// Purpose: see pool_plan.hpp.
// Who calls it: see pool_plan.hpp.
// Crash rule: no state.
#include "shim/backing/pool_plan.hpp"

#include "dsm-core/pool/superblock.hpp"
#include "shim/sys/message.hpp"

namespace aep {

bool says_coherence(const char* path, const PoolPlan& plan) {
    if (plan.terms.coherent != Coherence::unsaid) return true;
    message("pool ", path,
            ": cannot create it: other machines may map its memory, and whether their caches are "
            "coherent cannot be found out here: say --coherent yes (one machine, or CXL 3 that "
            "keeps them so) or --coherent no (aep pool create, aep up)");
    return false;
}

bool plan_superblock(Superblock& made, const char* path, const PoolPlan& plan,
                     const u8 (&uuid)[16]) {
    const usize bytes = plan.bytes;
    const era::Shape shape = era::shape_for(bytes, plan.sizes);
    if (shape.nodes != 0 && !era::fits(shape, bytes)) {
        message("pool ", path, ": cannot create it: what ", shape.nodes, " nodes share, ",
                era::valid(shape) ? "" : "whose lanes are more than 4095 together, ", "would take ",
                Bytes{era::region_bytes(shape)}, ", expected at most half of its ", Bytes{bytes},
                ": choose a larger pool, or fewer nodes, lanes, objects or messages");
        return false;
    }
    make_superblock(made, bytes, uuid, shape, era::region_bytes(shape), plan.terms, plan.room);
    if (made.chunks_offset < made.file_bytes) return true;
    message("pool ", path, ": cannot create it: the tables for the room that it may grow to, ",
            Bytes{made.room_bytes}, ", would take ", Bytes{made.chunks_offset}, ", all of its ",
            Bytes{bytes}, ": choose a larger size, or less room");
    return false;
}

}  // namespace aep
