// Purpose: answers to processes that ask the daemon for something.
// Who calls it: the node host's parts, the daemon.
// Crash rule: no state.
#pragma once

#include <string>

#include "shim/context/daemon_protocol.hpp"

namespace aep {

/// An answer without descriptors; `error`: an errno, and `text` says why, cut to its room.
inline AnswerMessage make_answer(int error, const std::string& text) {
    AnswerMessage message{};
    message.magic = PROTOCOL_MAGIC;
    message.version = PROTOCOL_VERSION;
    message.error = static_cast<u32>(error);
    text.copy(message.text, sizeof message.text - 1);
    return message;
}

}  // namespace aep
