// Purpose: see connection.hpp.
// Who calls it: daemon/server.cpp, daemon/connections.cpp.
// Crash rule: see connection.hpp.
#include "tools/daemon/connection.hpp"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstring>

#include "node/process_facts.hpp"

namespace aep {
namespace {

constexpr size_t PIECE = 32 * KiB;  // of a long answer

}  // namespace

Connection::~Connection() {
    if (fd() < 0) return;     // another has it
    shutdown(fd(), SHUT_RD);  // no more comes: his send fails
    char part[64];
    while (recv(fd(), part, sizeof part, MSG_DONTWAIT) > 0) {
    }
}

void Connection::stir() { stirred_ns_ = monotonic_ns(); }

std::optional<std::string> Connection::receive() {
    std::string buffer(LONGEST_MESSAGE + 1, '\0');
    iovec part{buffer.data(), buffer.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    // Who sends it, and no room for descriptors: any that come along are closed by the kernel.
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))] = {};
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t got = recvmsg(fd(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
    if (got <= 0) {
        ended_ = true;
        return std::nullopt;
    }
    buffer.resize(static_cast<size_t>(got));
    sender_ = 0;
    const cmsghdr* const said = CMSG_FIRSTHDR(&message);
    if (said != nullptr && said->cmsg_type == SCM_CREDENTIALS &&
        said->cmsg_len == CMSG_LEN(sizeof(ucred))) {
        ucred who{};
        std::memcpy(&who, CMSG_DATA(said), sizeof who);
        sender_ = who.pid;
    }
    stir();
    return buffer;
}

bool Connection::deserted() const {
    pollfd look{fd(), 0, 0};  // the end is told unasked
    return poll(&look, 1, 0) > 0;
}

bool Connection::send_answer(const AnswerMessage& answer, const std::vector<int>& fds) {
    iovec part{const_cast<AnswerMessage*>(&answer), sizeof answer};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * ATTACH_FDS)] = {};
    if (!fds.empty() && fds.size() <= ATTACH_FDS) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
        std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
    }
    ssize_t sent;
    do {
        sent = sendmsg(fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent == static_cast<ssize_t>(sizeof answer);
}

void Connection::queue_text(const std::string& text) {
    for (size_t at = 0; at < text.size(); at += PIECE) queue_.push_back(text.substr(at, PIECE));
}

bool Connection::flush() {
    while (!queue_.empty()) {
        const std::string& next = queue_.front();
        const ssize_t sent = send(fd(), next.data(), next.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno == EAGAIN) return true;
        if (sent < 0) {
            ended_ = true;
            queue_.clear();
            return false;
        }
        queue_.pop_front();
        stir();
    }
    return false;
}

}  // namespace aep
