// Purpose: marks what the library exports; everything else is hidden. exports.map gives versions.
// Who calls it: the files that define the library's functions.
// Crash rule: no code.
#pragma once

#define AEP_VISIBLE __attribute__((visibility("default")))

/// A function of C's.
#define AEP_EXPORT extern "C" AEP_VISIBLE
