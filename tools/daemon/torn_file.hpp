// Purpose: a client may cut the context's file short, or the pool's: then whoever touches what is
//          gone gets SIGBUS. The daemon goes on for a moment, with zeros there, and ends in order.
// Who calls it: daemon/main.cpp at the start, the daemon's loop.
// Crash rule: none needed: clients go on or die by their own SIGBUS.
#pragma once

namespace aep {

/// From now on a fault of the file system in the context or in the pool's tables puts zeros there,
/// privately; one of those that are prepared for it (shim/sys/careful.hpp) is an answer to them; any other ends the process as
/// before. For the whole process; async-signal-safe.
void survive_torn_files();

/// Whether that has happened.
bool found_torn_file();

}  // namespace aep
