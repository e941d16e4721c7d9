// Purpose: the completer's threads: workers that all exist before the first job, and one that sees
//          to it that none of them keeps the others' jobs waiting for ever.
// Who calls it: the completer's main().
// Crash rule: see complete.cpp. What is queued is only claimed.
//
// An operation can wait for a lock that another killed thread's operation holds, and there can be
// as many of them as slots. So that no job waits for a worker for ever, whatever their number is,
// workers take turns: while jobs wait and no worker is idle, those that have been inside for a turn
// leave their operation where it is (see complete.cpp), put it behind the others, and take the next
// one. So each operation goes on again and again, among them those that hold locks.
#pragma once

#include "aep-lib/completer/protocol.hpp"

namespace aep {

/// As many operations are inside at once. More would be of no use to the processor; fewer make
/// jobs that wait for each other wait for the end of a turn.
inline constexpr u32 WORKERS = 16;

/// Work on one claimed slot. False: it left the operation where it is; ask again later.
using Work = bool (*)(u32 slot, CompleterReport& report);
/// Tells the daemon.
using Tell = void (*)(const CompleterReport& report);

/// Starts `workers` workers; returns when all of them wait for jobs and need no system call for it
/// but futex. `most_jobs`: given at once. 0 or -errno. Once.
long start_crew(u32 workers, u32 most_jobs, Work work, Tell tell);

/// Has a worker work on a claimed slot; its claim is released before the report is told. No memory
/// is allocated. Main thread.
void give_job(u32 slot);

}  // namespace aep
