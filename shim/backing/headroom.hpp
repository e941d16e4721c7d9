// Purpose: how much memory this process's memory cgroup can still give before the kernel kills
//          somebody for it. Pool memory is charged when it is first touched, and a refused charge
//          there is an OOM kill, not an error.
// Who calls it: pool_backing.cpp before it commits memory, freeze.cpp before it copies; the parsers
//               also by tests.
// Crash rule: private to the process: what it remembers dies with it.
#pragma once

#include "dsm-core/base/thread_safety.hpp"
#include "dsm-core/base/types.hpp"
#include "shim/sys/signals_blocked.hpp"

namespace aep {

inline constexpr u64 NO_LIMIT = ~u64{0};

/// Room for `bytes` that are about to be populated, granted before and kept until the end of the
/// scope, when they are charged: threads that commit at once never count the same room twice, and
/// close to the limit they take turns. Others in the cgroup may still be faster: a margin stays
/// free for them.
class CgroupRoom {
  public:
    // Not checked: some hold the lock for their lives.
    explicit CgroupRoom(u64 bytes) AEP_NOT_CHECKED;
    ~CgroupRoom() AEP_NOT_CHECKED;
    CgroupRoom(const CgroupRoom&) = delete;
    CgroupRoom& operator=(const CgroupRoom&) = delete;

    /// False: it would not fit.
    explicit operator bool() const { return granted_; }

  private:
    u64 charge_;   // what populating will add to the cgroup's usage
    u32 process_;  // which process made it: a fork may come between (signal handlers fork)
    bool granted_;
    bool alone_ = false;                                 // holds the lock
    SignalsBlocked undisturbed_{SignalsBlocked::LATER};  // while it does
    void unlock() AEP_NOT_CHECKED;
};

/// Whether `bytes` could be charged now; for whoever cannot wait for others' turns.
bool cgroup_has_room(u64 bytes);

/// In a forked child: what other threads were doing does not go on here.
void forget_cgroup_rooms();

/// What committing `bytes` of heap adds to the usage of a cgroup at most: the memory itself, its
/// page tables and, in small runs, the metadata of the pages of blocks that they become.
u64 charge_of_commit(u64 bytes);

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
    u64 inactive_file = 0;  // page cache that the kernel drops before it kills
    u64 active_file = 0;    // the same, but in use: counted half
};
u64 headroom_of(const CgroupMemory& memory);

/// The least headroom of the cgroup at `place` and of all above it; `root` is where the controller
/// is mounted.
u64 cgroup_headroom(const char* root, const CgroupPlace& place);

/// That of the calling process, as the kernel has it now; NO_LIMIT: none. Cost: a handful of files of its cgroups.
u64 own_cgroup_headroom();

}  // namespace aep
