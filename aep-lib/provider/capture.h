// Purpose: what the eBPF programs keep of a thread that is killed, or interrupted by a handler,
//          inside the image; and the doorbell that tells the daemon. Plain C, for both sides.
// Who calls it: capture.bpf.c writes it; the daemon and the completer read it.
// Crash rule: the maps belong to the kernel and outlive every process while they are pinned. An
//             entry's `kind` is cleared before and written after the rest of it.
#pragma once

#include <linux/types.h>

#ifdef __cplusplus
namespace aep {
#endif

/// The general registers. Segment registers stay those of the thread that goes on.
struct Registers {
    __u64 r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    __u64 rip, rflags, rsp;
};

enum CaptureKind {
    CAPTURE_NONE = 0,
    CAPTURE_FATAL = 1,    // the thread died there
    CAPTURE_HANDLER = 2,  // a signal handler began there; it may or may not have come back
};

/// One a slot: the last registers with which a thread stopped going on inside the image, on the
/// slot's stack. A later capture is always of a later moment: whoever is inside on this stack goes
/// on from the former capture, or the former operation has ended. So one entry is enough.
struct CaptureEntry {
    __u32 kind;            // CaptureKind
    __u32 sequence_known;  // 0: the slot could not be read; `sequence` says nothing
    __u32 sequence;        // of the slot at that moment
    __u32 client;          // as which the process was watched; 0: a completer
    __u32 tgid;            // in the daemon's pid namespace
    __u32 tid;             // in the initial pid namespace
    __u32 signal;          // that was delivered; 0: the thread ended without one
    __u32 gone_on;         // a completer has gone on from here, and was not captured since
    struct Registers registers;
    __u64 reserved2[2];
};

enum DoorbellKind {
    DOORBELL_CAPTURED = 1,  // a thread was killed inside the image; its process may still be dying
    DOORBELL_EXITED = 2,    // the last thread of a watched process ends
    DOORBELL_EXECED = 3,    // a watched process became another program: its client is dead
};

/// A record of the ring buffer. It only saves the daemon from looking: a lost one loses nothing.
/// `client` 0 is a completer's (its own start is seen as DOORBELL_EXECED).
struct DoorbellRecord {
    __u32 kind;  // DoorbellKind
    __u32 client;
    __u32 tgid;  // in the daemon's pid namespace
    __u32 slot;  // DOORBELL_CAPTURED
};

/// A file or folder, wherever it is seen.
struct CapturePlace {
    __u64 device;
    __u64 inode;
};

/// What is pinned: by which build and configuration, and for which context.
struct CaptureIdentity {
    __u64 build;
    __u8 context_uuid[16];
    __u32 pid_space;               // inode of the pid namespace whose numbers `members` holds
    __u8 boot_id[40];              // as text; 0 at the end
    struct CapturePlace file;      // the context's file
    struct CapturePlace above[6];  // its folder, the one above, and so on; 0: beyond "/"
    char context_file[200];        // path, as the daemon saw it; empty: nobody can tell
};

/// Constants of the programs, chosen when they are loaded.
struct CaptureConfig {
    __u64 text_begin;    // of the image
    __u64 text_end;      //
    __u64 stacks;        // address of the first slot's stack area
    __u64 stack_stride;  //
    __u64 slots;         // address of the first slot
    __u64 slot_stride;   //
    __u64 sequence_at;   // offset in the slot
    __u32 max_slots;     //
    __u32 pid_space;     // inode of the daemon's pid namespace
};

#ifdef __cplusplus
static_assert(sizeof(CaptureEntry) == 192 && sizeof(DoorbellRecord) == 16);
}  // namespace aep
#endif
