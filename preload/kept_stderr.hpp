// Purpose: standard error for what is said when the program ends: many programs have closed theirs by then (GNU's coreutils do).
// Who calls it: the constructor and the destructors of the library (watching.cpp, statistics.cpp).
// Crash rule: private to the process.
#pragma once

namespace aep {

/// Keeps standard error as it is, at a high descriptor that programs which are executed do not get. Once, at the start, if
/// something is to be said at the end. A forked child keeps nothing: whoever reads a pipe to its end waits for every copy, and a
/// daemon has closed its own.
void keep_stderr();

/// Makes it standard error again if the program has closed its own. Nothing if what was kept is not there any more: the program
/// may have closed it, or put a file of its own in its place.
void give_stderr_back();

}  // namespace aep
