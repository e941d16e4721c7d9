// Purpose: the transports `unix` and `tcp`: objects are copied through a socket for each pair of members, in the form
//          of a parcel (parcel.hpp).
// Who calls it: the applications.
// Crash rule: the kernel closes a killed member's sockets; what was under way is lost, and the team ends.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <span>

#include "apps/common/failure.hpp"
#include "apps/common/parcel.hpp"
#include "apps/common/transport.hpp"

namespace aep::apps {

/// One end of each pair.
using SocketPair = std::pair<int, int>;

inline SocketPair unix_pair() {
    int ends[2];
    expect(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
    return {ends[0], ends[1]};
}

/// Over loopback.
inline SocketPair tcp_pair() {
    const int door = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    expect(door >= 0 && bind(door, generic, length) == 0 && listen(door, 1) == 0 &&
               getsockname(door, generic, &length) == 0,
           "no TCP socket on loopback");
    const int one = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    expect(one >= 0 && connect(one, generic, length) == 0, "no TCP connection on loopback");
    sockaddr_in mine{};
    sockaddr_in caller{};
    socklen_t caller_length = sizeof caller;
    expect(getsockname(one, reinterpret_cast<sockaddr*>(&mine), &length) == 0, "getsockname");
    int other = -1;
    do {  // the port is open to everybody on this machine for a moment
        if (other >= 0) close(other);
        other = accept4(door, reinterpret_cast<sockaddr*>(&caller), &caller_length, SOCK_CLOEXEC);
        expect(other >= 0, "accept");
    } while (caller.sin_port != mine.sin_port);
    close(door);
    for (const int end : {one, other}) {
        const int at_once = 1;
        expect(setsockopt(end, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once) == 0,
               "TCP_NODELAY");
    }
    return {one, other};
}

template <const char* Name, SocketPair (*make_pair)()>
class Socket : public CopiedObjects {
  public:
    static constexpr const char* NAME = Name;
    static constexpr bool SURVIVES = false;
    using Peer = int;  // its descriptor

    class World {
      public:
        explicit World(const Plan& plan) {
            for (const auto& [a, b] : plan.links) {
                const auto [one, other] = make_pair();
                ends_.push_back({a, b, one});
                ends_.push_back({b, a, other});
            }
        }
        World(const World&) = delete;
        World& operator=(const World&) = delete;
        ~World() {
            for (const End& end : ends_) close(end.descriptor);
        }
        /// Others' ends are closed: an end of file is seen.
        void enter(unsigned me, char**) {
            std::erase_if(
                ends_, [me](const End& end) { return end.of != me && close(end.descriptor) == 0; });
        }
        struct End {
            unsigned of;
            unsigned to;
            int descriptor;
        };
        std::span<const End> ends() const { return ends_; }

      private:
        std::vector<End> ends_;
    };

    Socket(const Plan& plan, World* world, unsigned)
        : ends_(world->ends()),
          largest_(plan.largest + plan.objects_each * sizeof(Node) + 4096),
          epoll_(epoll_create1(EPOLL_CLOEXEC)) {
        expect(epoll_ >= 0, "epoll_create1");
        for (const auto& end : ends_) {
            epoll_event wanted{};
            wanted.events = EPOLLIN;
            wanted.data.fd = end.descriptor;
            expect(epoll_ctl(epoll_, EPOLL_CTL_ADD, end.descriptor, &wanted) == 0, "epoll_ctl");
        }
    }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;
    ~Socket() { close(epoll_); }

    std::optional<Peer> find(unsigned member) const {
        for (const auto& end : ends_)
            if (end.to == member) return end.descriptor;
        throw std::logic_error("no link between these members");
    }

    bool send(Peer to, Object object) { return put(to, object, object->structure); }
    bool answer(Peer to, Object object) { return put(to, object, false); }
    std::optional<Message<Socket>> receive(int timeout_ms) {
        int from = -1;
        if (ends_.size() == 1 && timeout_ms == 0) {
            from = ends_.front().descriptor;  // no question who: try
        } else {
            epoll_event ready{};
            if (epoll_wait(epoll_, &ready, 1, timeout_ms) <= 0) return std::nullopt;
            from = ready.data.fd;
        }
        Object object = get(from);
        if (object == nullptr) return std::nullopt;
        return Message<Socket>{object, from};
    }
    int descriptor() const { return epoll_; }

  private:
    bool put(Peer to, Object object, bool nodes_too) {
        const std::span<const std::uint8_t> frame = parcels_.pack(*object, nodes_too);
        const std::uint8_t* at = frame.data();
        for (std::size_t left = frame.size(); left != 0;) {
            const ssize_t sent = ::send(to, at, left, MSG_NOSIGNAL);
            if (sent < 0 && errno == EINTR) continue;
            if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) return false;
            expect(sent > 0, "send");
            at += sent;
            left -= static_cast<std::size_t>(sent);
        }
        return true;
    }

    /// Null: nothing is there.
    Object get(int from) {
        std::uint32_t length = 0;
        const ssize_t begun = recv(from, &length, sizeof length, MSG_DONTWAIT);
        if (begun < 0 && (errno == EAGAIN || errno == EINTR)) return nullptr;
        if (begun == 0 || (begun < 0 && errno == ECONNRESET)) {  // its end: nothing comes any more
            epoll_ctl(epoll_, EPOLL_CTL_DEL, from, nullptr);
            return nullptr;
        }
        expect(begun > 0, "recv");
        read_all(from, reinterpret_cast<std::uint8_t*>(&length) + begun,
                 sizeof length - static_cast<std::size_t>(begun));
        verify(length <= largest_, "a message is too large");
        auto object = std::make_unique<CopiedObject>(length);
        read_all(from, object->memory.get(), length);
        unpack(*object, length);
        return object.release();
    }

    static void read_all(int from, std::uint8_t* to, std::size_t bytes) {
        while (bytes != 0) {
            const ssize_t got = recv(from, to, bytes, 0);
            if (got < 0 && errno == EINTR) continue;
            verify(got != 0, "a peer ended in the middle of a message");
            expect(got > 0, "recv");
            to += got;
            bytes -= static_cast<std::size_t>(got);
        }
    }

    std::span<const typename World::End> ends_;
    std::size_t largest_;
    int epoll_;
    Parcels parcels_;
};

inline constexpr char UNIX_NAME[] = "unix";
inline constexpr char TCP_NAME[] = "tcp";
using Unix = Socket<UNIX_NAME, unix_pair>;
using Tcp = Socket<TCP_NAME, tcp_pair>;

}  // namespace aep::apps
