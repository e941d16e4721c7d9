// Purpose: the C++ runtime that some code of the program uses, which may be in no scope that this
//          library sees: a plugin's, opened with RTLD_LOCAL or linked into the plugin.
// Who calls it: operator_new.cpp, when memory has run out.
// Crash rule: reads only.
#pragma once

#include "preload/loaded_library.hpp"

namespace aep {

/// The runtime whose new-handler and exceptions the code at `caller` uses; one without symbols:
/// there is none. Thread-safe; takes the loader's lock for reading. Looks at every library: for
/// rare occasions.
LoadedLibrary cxx_runtime_of(const void* caller);

}  // namespace aep
