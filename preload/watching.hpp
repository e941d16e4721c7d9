// Purpose: begins what the environment asks for of watching the program.
// Who calls it: libc_symbols.cpp.
// Crash rule: private to the process.
#pragma once

#include "dsm-core/base/types.hpp"

/// As the settings say; where the library's own code lies. During the library's constructors, once, when the settings
/// are known.
void aep_begin_watching(aep::uptr own_begin, aep::uptr own_end);
