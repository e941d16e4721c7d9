// Purpose: who holds what of whom: the objects that a context's clients share, the largest first, with those that refer to
//          them; and what each client has. For people: it stops nobody, and says so if what it saw moved meanwhile.
// Who calls it: the daemon's commands.
// Crash rule: reads only.
#pragma once

#include <string>
#include <vector>

#include "dsm-core/sharing/format.hpp"
#include "node/node_pool.hpp"

namespace aep {

/// References of a client to an object.
struct Held {
    u32 client = 0;
    u64 references = 0;
    u64 messages = 0;  // of them under way to it: in its mailbox
};

/// An object, or a group as a whole.
struct SharedObject {
    static constexpr usize MOST_HOLDERS = 64;  // that are listed; `holders` counts all

    u64 address = 0;
    u64 bytes = 0;     // of a group: of all of its extents
    u32 owner = 0;     // a client; 0: it is dead; OWNER_ELSEWHERE: another node's
    u32 writer = 0;    // of a group: the client that may allocate in it; 0: nobody, or no group
    u32 extents = 0;   // of a group; 0: it is none
    u64 deferred = 0;  // of a group: bytes that its writer has freed, kept for who may read them
    bool lingers = false;  // nobody here refers to it, but other nodes may
    u64 references = 0;    // as its record says, without those that its holders have to spare
    u64 holders = 0;       // clients that have some
    std::vector<Held> held;
};

/// What a client has to do with sharing.
struct ClientShares {
    u32 client = 0;
    std::string name;  // by which it attached; empty: it shares nothing, or has none
    u64 messages = 0;  // in its mailbox
    u64 message_bytes = 0;
    u64 sent = 0, received = 0;  // within the node, by all who had its place so far
    u64 objects_held = 0;
    u64 bytes_held = 0;
    u64 objects_owned = 0;
    u64 bytes_owned = 0;
};

/// Number and bytes of some objects.
struct ObjectSum {
    u64 objects = 0;
    u64 bytes = 0;
    void add(u64 size) {
        ++objects;
        bytes += size;
    }
};

struct ObjectSurvey {
    bool complete = true;   // false: the time was up before all had been seen
    bool quiet = true;      // false: operations went on meanwhile; sums may be of several moments
    ObjectSum all;          // what somebody refers to, or may refer to
    ObjectSum of_the_dead;  // whose owner is dead: others' references alone keep them
    ObjectSum elsewhere;    // other nodes' objects that somebody here holds
    ObjectSum lingering;    // nobody here refers to them; other nodes may
    ObjectSum returned;     // nobody refers to them any more; their owners have still to free them
    // Groups whose writers have freed something that is kept for readers; so many bytes.
    ObjectSum deferred;
    u64 groups = 0;
    u64 damaged = 0;  // records without sense, of nobody or not in the pool: they are in no sum
    std::vector<SharedObject> largest;  // the largest first
    std::vector<ClientShares> clients;  // that share, by number
};

/// Walks the tables for `longest_ns` at most. At most `most` objects are named. Of a context whose tables a client has
/// damaged it tells what it can reach; what is deferred in a group is what the group's memory says, at most all of it.
/// Cost: a look at each record and message, twice, and a NodePool::read for each group; memory: some 100 bytes a record.
ObjectSurvey survey_objects(const NodePool& pool, usize most, u64 longest_ns);

/// What is in the mailbox of `client` (1 .. max_clients), and the name by which it attached. Cost: a look a message.
ClientShares shares_of(u32 client);

}  // namespace aep
