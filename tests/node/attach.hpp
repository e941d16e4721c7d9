// Purpose: how a client is let in, as the tests say it: a good question, a connection, the answer
//          with what comes along.
// Who calls it: tests/node/client.hpp, tests/fuzz/fuzz_protocol.cpp.
// Crash rule: none needed.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <string>

#include <image_identity.hpp>
#include "dsm-core/context/format.hpp"
#include "node/unique_fd.hpp"
#include "shim/context/daemon_protocol.hpp"

namespace aep::test {

inline AskMessage good_ask(Ask what = Ask::attach) {
    AskMessage ask = asking(what, CONTEXT_LAYOUT_HASH);
    ask.image_hash = BUILT_IMAGE_HASH;
    std::strcpy(ask.name, "tester");
    return ask;
}

inline UniqueFd connect_to(const std::string& path) {
    UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    path.copy(to.sun_path, sizeof to.sun_path - 1);
    if (connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) fd.reset();
    return fd;
}

/// What recvmsg() says of one message, whose descriptors, if any come along, are in `fds`.
inline ssize_t receive(int socket, void* bytes, usize room, UniqueFd (&fds)[ATTACH_FDS]) {
    iovec part{bytes, room};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * ATTACH_FDS)];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (const cmsghdr* header = got > 0 ? CMSG_FIRSTHDR(&message) : nullptr) {
        int numbers[ATTACH_FDS];
        const usize count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        std::memcpy(numbers, CMSG_DATA(header), count * sizeof(int));
        for (usize i = 0; i < count; ++i) fds[i] = UniqueFd(numbers[i]);
    }
    return got;
}

/// One answer with its descriptors. False: the connection ended.
inline bool receive_answer(int socket, AnswerMessage& answer, UniqueFd (&fds)[ATTACH_FDS]) {
    return receive(socket, &answer, sizeof answer, fds) == sizeof answer;
}

}  // namespace aep::test
