// Purpose: the mark of a program that stays on libc's malloc: see shim/driver/libc_heap.hpp.
// Who calls it: linked into aepd, aep, aep-completer and aep-torture; the preloaded library finds it.
// Crash rule: a constant.
extern "C" {
[[gnu::visibility("default")]] extern const char aep_stay_private;
[[gnu::used]] const char aep_stay_private = 1;
}
