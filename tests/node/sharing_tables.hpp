// Purpose: the tables of sharing alone: operations are called directly, for clients that are no
//          processes.
// Who calls it: tests/node/sharing.cpp, sharing_edges.cpp, groups.cpp, names.cpp.
// Crash rule: in children.
#pragma once

#include <string>
#include <vector>

#include "dsm-core/sharing/share_ops.hpp"
#include "node/check_sharing.hpp"
#include "tests/node/fixture.hpp"

namespace aep::test {

/// Calls body(host) in a child, in a context with all records that the tests need.
template <class Body>
void with_tables(Body body) {
    const Directory directory;
    in_child([&] {
        Host host(options_in(directory, 512 * MiB));
        // All records that the tests need; mailboxes are present when they are touched.
        perform(Caller{1, 1}, op::AddRecords{.exports = 1000, .holders = 1000});
        body(host);
    });
}

template <class O>
typename O::Reply ask(u32 client, const O& o) {
    return perform(Caller{client, client}, o);
}

inline std::string walk() {
    Findings found(Findings::ALL_DAY);
    check_sharing(found);
    return all_of(std::move(found).list());
}

/// The first chunk of the client's.
inline u32 first_chunk_of(u32 client) {
    u32 first = 0;
    while (chunk_owner(first).load() != client) ++first;
    return first;
}

/// What recovery does with the chunks of a client that has left.
inline void give_up_chunks(u32 client) {
    for (u32 c = 0; c < context().chunk_count; ++c) {
        if (chunk_owner(c).load() != client) continue;
        if (chunk_exports(c).load() != 0)
            ASSERT_TRUE(keep_chunk(client, c));
        else
            ASSERT_TRUE(reclaim_chunk(client, c));
    }
}

}  // namespace aep::test
