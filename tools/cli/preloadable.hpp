// Purpose: whether the loader will preload our library into a program, and if not, why.
// Who calls it: cli/commands.cpp, before it runs the program.
// Crash rule: reads only.
#pragma once

#include <string>

namespace aep {

/// Why the program at `path` would run without the library: it is linked static, is of another kind of machine,
/// or its file gives its process other rights (setuid, capabilities), for which the loader ignores the
/// environment. Of a script the interpreter counts. Empty: nothing speaks against it, as far as that can be read.
std::string why_not_preloaded(const std::string& path);

}  // namespace aep
