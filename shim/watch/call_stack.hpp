// Purpose: who called: the return addresses on a thread's stack, and where an address lies, for reports.
// Who calls it: samples.cpp's callers, guard.cpp; preload/watching.cpp chooses the unwinder.
// Crash rule: no state but the choice.
//
// By frame pointers as a rule: a few loads a frame, but code that was compiled without them ends the stack, or
// hides its caller. An unwinder (libgcc's, libunwind's) reads tables instead. None of both allocates.
#pragma once

#include "dsm-core/base/types.hpp"
#include "shim/sys/message.hpp"

namespace aep {

inline constexpr u32 MOST_FRAMES = 46;

/// Return addresses, the innermost first.
struct CallStack {
    u32 depth = 0;
    int thread = 0;  // who was at it, by its number in the system; 0: not asked
    uptr frames[MOST_FRAMES];
};

/// Writes the calling thread's return addresses, at most `most`; how many.
using Unwinder = u32(uptr* frames, u32 most);

/// Stacks come from that from now on; null, as at the start: from frame pointers.
void use_unwinder(Unwinder* unwinder);

/// The code of the library itself: stacks begin with what called it. Once, before threads.
void own_code_lies_at(uptr begin, uptr end);

/// The calling thread's stack, without the library's own frames. Cost: with frame pointers a system
/// call for each further OS page of the stack that it comes to; with an unwinder up to a microsecond a frame.
void capture_call_stack(CallStack& to);

/// The same of a thread that was interrupted at `at` with that frame pointer; for its signal handler.
void capture_interrupted(CallStack& to, uptr at, uptr frame);

/// Adds "name+0x12 (libx.so+0x3456)", as far as it is known, to a line. Not async-signal-safe in the strict sense: it
/// takes the loader's lock, which the calling thread may have.
void add_place(MessageLine& line, uptr address);

/// The calling thread's number in the system. Cost: a system call for a thread's first; then a load.
int thread_number();

/// In a forked child: its thread has another number.
void forget_thread_number();

/// A line for each frame.
void print_call_stack(const CallStack& stack);

}  // namespace aep
