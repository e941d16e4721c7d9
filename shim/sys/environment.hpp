// Purpose: the library's settings, read from the environment before libc is ready.
// Who calls it: shim/driver/process.cpp once, at the first allocation.
// Crash rule: no shared state.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

/// AEP_CONTEXT of a program that is to join none: no context's name.
inline constexpr const char* NO_CONTEXT = "none";

/// What to do about a free of something that is not a live block.
enum class OnError : u8 { abort, ignore };

/// Where call stacks come from: frame pointers, or the tables that libgcc or libunwind reads.
enum class Stacks : u8 { frames, gcc, libunwind };

struct Settings {
    const char* pool = nullptr;         // AEP_POOL: path of the pool file; null: private mode
    usize pool_bytes = 0;               // AEP_POOL_SIZE: size if it must be created; 0: default
    u64 decay_ms = 1000;                // AEP_DECAY_MS: how long freed memory is kept
    usize huge_from = 4 * MiB;          // AEP_HUGE: of huge pages from that size of the heap on
    bool background = false;            // AEP_BACKGROUND: a thread gives it back
    OnError on_error = OnError::abort;  // AEP_ON_ERROR
    const char* profile = nullptr;      // AEP_PROFILE: prefix of the heap profiles' files
    usize profile_rate = 512 * KiB;     // AEP_PROFILE_RATE: bytes between samples, on average
    int profile_signal = 0;             // AEP_PROFILE_SIGNAL: begins it, and writes it
    bool leaks = false;                 // AEP_LEAKS: report at exit what lives
    u32 guard = 0;                      // AEP_GUARD: one allocation in so many is guarded
    Stacks stacks = Stacks::frames;     // AEP_STACKS
    bool stats = false;                 // AEP_STATS: print statistics at exit
    bool require = false;               // AEP_REQUIRE: no fall-back to private mode
    bool pure = false;                  // AEP_PURE: every malloc and free is an operation
    const char* context = nullptr;      // AEP_CONTEXT: name of the context to join; null: default
    const char* socket = nullptr;       // AEP_SOCKET: where its daemon listens; null: derived
    const char* runtime_dir = nullptr;  // XDG_RUNTIME_DIR: for deriving it
    bool join = false;                  // whether a context is looked for at all

    /// Whether a context was asked for, so that a failure to join it must be told.
    bool names_context() const { return join && (context != nullptr || socket != nullptr); }
};

/// Reads the settings from the process's initial stack (no getenv: libc may not be initialised). A
/// set-user-ID or otherwise privileged program (AT_SECURE) gets the defaults: its environment is
/// not to be trusted. A value that cannot be understood is named in a message and the default is
/// used.
Settings read_settings();

/// "64K", "1G", "4096" -> bytes. False: not a size.
bool parse_size(const char* text, usize& bytes);

}  // namespace aep
