// Purpose: messages over Unix sockets that keep their bounds (AEP_BENCH_SOCKET: SOCK_SEQPACKET or SOCK_DGRAM), a pair of sockets
//          for each pair of processes. A message that is larger than a packet can be is several.
// Who calls it: bench/ipc.py.
// Crash rule: a measuring program; sockets go with their descriptors.
#include <sys/socket.h>

#include "bench/ipc/descriptors.hpp"

namespace {

using namespace aep::bench;
using namespace aep::bench::ipc;

constexpr std::size_t PACKET = 64 << 10;  // what anybody may send, and the quickest

struct Socket {
    using Shared = Descriptors;

    static void make(const Plan& plan, Shared& shared) {
        shared.make(
            plan,
            [](int* ends) {
                expect(socketpair(AF_UNIX, AEP_BENCH_SOCKET, 0, ends) == 0, "no sockets");
                // As much as anybody may have; less holds less.
                const int room = 4 << 20;
                for (int i = 0; i < 2; ++i)
                    setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
            });
    }
    static void unmake(const Plan&, Shared&) {}

    struct Sender : SendingEnd {
        using SendingEnd::SendingEnd;
        void send(auto&& write) {
            write(message());
            for (unsigned i = 0; i < lanes(); ++i)
                for (std::size_t sent = 0; sent < size();)
                    sent += moved(::send(fd(i), message() + sent, std::min(PACKET, size() - sent),
                                         MSG_NOSIGNAL));
        }
    };
    class Receiver : public ReceivingEnd {
      public:
        Receiver(const Plan& plan, const Shared& shared, Path path, unsigned self)
            : ReceivingEnd(plan, shared, path, self), _message(size()) {}
        void receive(auto&& look) {
            std::size_t got = 0;
            while (got == 0) {
                _last = readable(_last);
                got = moved(recv(fd(_last), _message.data(), size(), 0));
            }
            while (got < size())
                got += moved(recv(fd(_last), _message.data() + got, size() - got, 0));
            look(_message.data());
        }

      private:
        std::vector<char> _message;
        unsigned _last = 0;
    };
};

}  // namespace

int main(int count, char** words) { return Launcher<Socket>::main(count, words); }
