// Purpose: what a client and the node daemon say to each other: one message to attach, with the
//          descriptors in the answer, and afterwards what a client may ask for on that connection.
// Who calls it: shim/context/join.cpp (client), tools (daemon and command line).
// Crash rule: constants and plain structures.
//
// The socket is a Unix SOCK_SEQPACKET one; the peer is who SO_PEERCRED says, on both sides. A
// message that begins with a zero byte, as PROTOCOL_MAGIC does, is a client's; any other is a
// command in JSON from the command line, answered in JSON. What is not understood is answered, too,
// with an error of its kind, and ends the connection.
#pragma once

#include "dsm-core/base/types.hpp"

namespace aep {

inline constexpr u64 PROTOCOL_MAGIC = 0x004b'5341'5045'4100;  // "\0AEPASK\0"
inline constexpr u32 PROTOCOL_VERSION = 1;

enum class Ask : u32 {
    attach = 1,         // the first message of a client's connection
    complete_slot = 2,  // the thread left its operation by a jump out of a signal handler
};

/// From the client.
struct AskMessage {
    u64 magic;
    u32 version;
    u32 ask;           // Ask
    u64 layout_hash;   // CONTEXT_LAYOUT_HASH
    u64 image_hash;    // of the image that it was built with
    u32 private_heap;  // attach: 1: its heap is its own already (a forked child): it gets no domain
    u32 slot;          // complete_slot
    char name[16];     // attach: of the process
};

/// A message that asks for `what`, by a client whose context's layout is `layout_hash`.
inline AskMessage asking(Ask what, u64 layout_hash) {
    AskMessage ask{};
    ask.magic = PROTOCOL_MAGIC;
    ask.version = PROTOCOL_VERSION;
    ask.ask = static_cast<u32>(what);
    ask.layout_hash = layout_hash;
    return ask;
}

/// From the daemon. On success of attach it carries ATTACH_FDS descriptors, in this order.
struct AnswerMessage {
    u64 magic;
    u32 version;
    u32 error;  // errno; 0: done
    u32 client;
    u32 generation;
    u32 provider;  // Provider
    u32 reserved;
    char text[240];  // one line for people when error is not 0
};

enum AttachFd : u32 {
    FD_LIFE = 0,     // the context file, client lock held: to be mapped once, not inherited
    FD_CONTEXT = 1,  // the context file, frozen lock held: everything else is mapped through it
    FD_IMAGE = 2,    // the image, read only
    FD_POOL = 3,     // the pool file, the node's lock shared: the pool is mapped through it
    ATTACH_FDS = 4,
};

/// Where the socket is when AEP_SOCKET does not say: DIRECTORY/NAME/socket. DIRECTORY is /run/aep
/// for root; else $XDG_RUNTIME_DIR/aep; else /tmp/aep-UID. NAME is AEP_CONTEXT, or "default".
inline constexpr const char* SOCKET_NAME = "socket";
inline constexpr const char* DEFAULT_CONTEXT = "default";

}  // namespace aep
