// Purpose: how much memory this process's memory cgroup can still give before the kernel kills
//          somebody for it. Pool memory is charged when it is first touched, and a refused charge
//          there is an OOM kill, not an error.
// Who calls it: pool_backing.cpp before it commits memory; the parsers also by tests.
// Crash rule: no state but a cached answer.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

inline constexpr u64 NO_LIMIT = ~u64{0};

/// True when `bytes` more can be charged, as far as one can know beforehand: others in the cgroup
/// may be faster. Thread-safe.
bool cgroup_has_room(u64 bytes);

/// Which cgroup /proc/self/cgroup puts us in.
struct CgroupPlace {
    enum class Version : u8 { none, v1, v2 } version = Version::none;
    char path[1024] = {};  // begins with '/'
};

/// Parses the text of /proc/self/cgroup: the v1 memory controller if there is one, else v2.
CgroupPlace parse_cgroup_place(const char* text);

/// A limit file's content: a number or "max"; v1's "no limit" is a huge number.
u64 parse_limit(const char* text);

/// The value after `key` and a space at the start of a line of memory.stat; 0 if there is none.
u64 parse_stat(const char* text, const char* key);

/// One cgroup's numbers, and what they leave.
struct CgroupMemory {
    u64 limit = NO_LIMIT;
    u64 usage = 0;
    u64 reclaimable = 0;  // page cache that the kernel drops before it kills
};
u64 headroom_of(const CgroupMemory& memory);

/// The least headroom of the cgroup at `place` and of all above it; `root` is where the controller
/// is mounted.
u64 cgroup_headroom(const char* root, const CgroupPlace& place);

}  // namespace aep
