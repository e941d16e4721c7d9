// Purpose: messages by ZeroMQ over ipc://: PUSH and PULL; to several XPUB, which waits for slow ones, and SUB. A message is written in
//          the library's own memory and read there.
// Who calls it: bench/ipc.py.
// Crash rule: a measuring program; its sockets have no files.
#include <immintrin.h>
#include <zmq.h>

#include <cerrno>

#include "bench/ipc/launcher.hpp"

namespace {

using namespace aep::bench;
using namespace aep::bench::ipc;

struct Zeromq {
    struct Shared {
        int launcher;
        /// Of the abstract ones, which are no files.
        std::string address(Path path) const {
            return "ipc://@aep-bench-" + std::to_string(launcher) +
                   (path == Path::FORWARD ? "-there" : "-back");
        }
    };
    static void make(const Plan&, Shared& shared) { shared.launcher = getpid(); }
    static void unmake(const Plan&, Shared&) {}

    /// One context a process, as its manual has it.
    static void* context() {
        static void* const one = zmq_ctx_new();
        expect(one != nullptr, "no context of ZeroMQ");
        return one;
    }

    class End {
      protected:
        /// The side of which there is one waits for the others to connect.
        End(const Plan& plan, const Shared& shared, Path path, bool sends)
            : _socket(zmq_socket(context(), type(plan, sends))),
              _size(plan.size_of(path)),
              _flags(plan.polls() ? ZMQ_DONTWAIT : 0),
              _subscribers(sends && plan.receivers() > 1 ? plan.receivers() : 0) {
            expect(_socket != nullptr, "no socket of ZeroMQ");
            // Room that the two sides of a connection share.
            set(ZMQ_SNDHWM, static_cast<int>(plan.depth() / 2));
            set(ZMQ_RCVHWM, static_cast<int>(plan.depth() / 2));
            set(ZMQ_RECONNECT_IVL, 1);  // ms; who connects may be early
            if (_subscribers != 0) {
                set(ZMQ_XPUB_NODROP, 1);
                set(ZMQ_XPUB_VERBOSE, 1);  // meet() is told of each
            }
            if (!sends && plan.receivers() > 1) zmq_setsockopt(_socket, ZMQ_SUBSCRIBE, "", 0);
            const std::string at = shared.address(path);
            const bool binds = sends == (plan.senders() == 1);
            if (binds)
                expect(zmq_bind(_socket, at.c_str()) == 0, "a socket cannot be bound");
            else
                expect(zmq_connect(_socket, at.c_str()) == 0, "a socket cannot be connected");
        }

      public:
        End(const End&) = delete;
        void meet() {
            for (unsigned i = 0; i < _subscribers; ++i) {
                char subscription[8];
                expect(zmq_recv(_socket, subscription, sizeof subscription, 0) == 1,
                       "not a subscription");
            }
        }

      protected:
        static int type(const Plan& plan, bool sends) {
            if (plan.receivers() > 1) return sends ? ZMQ_XPUB : ZMQ_SUB;
            return sends ? ZMQ_PUSH : ZMQ_PULL;
        }
        void set(int option, int value) {
            expect(zmq_setsockopt(_socket, option, &value, sizeof value) == 0,
                   "an option of ZeroMQ");
        }
        /// Until it is done.
        template <class F>
        static void persist(F&& call) {
            while (call() < 0) {
                expect(zmq_errno() == EAGAIN, "a call of ZeroMQ failed");
                _mm_pause();
            }
        }

        void* const _socket;
        const std::size_t _size;
        const int _flags;
        const unsigned _subscribers;
    };
    struct Sender : End {
        Sender(const Plan& plan, const Shared& shared, Path path, unsigned)
            : End(plan, shared, path, true) {}
        void send(auto&& write) {
            zmq_msg_t message;
            expect(zmq_msg_init_size(&message, _size) == 0, "no memory");
            write(zmq_msg_data(&message));
            persist([&] { return zmq_msg_send(&message, _socket, _flags); });
        }
    };
    struct Receiver : End {
        Receiver(const Plan& plan, const Shared& shared, Path path, unsigned)
            : End(plan, shared, path, false) {}
        void receive(auto&& look) {
            zmq_msg_t message;
            zmq_msg_init(&message);
            persist([&] { return zmq_msg_recv(&message, _socket, _flags); });
            expect(zmq_msg_size(&message) == _size, "a message of another size");
            look(zmq_msg_data(&message));
            zmq_msg_close(&message);
        }
    };
};

}  // namespace

int main(int count, char** words) { return Launcher<Zeromq>::main(count, words); }
