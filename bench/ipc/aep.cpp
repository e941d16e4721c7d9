// Purpose: messages as objects of a context: allocated, written in place, sent by reference and let go of in one step, read where
//          they lie, dropped. To several goes one object.
// Who calls it: bench/ipc.py, with our library and a context to join.
// Crash rule: a measuring program; what it holds goes with it.
#include <immintrin.h>

#include <cerrno>

#include "bench/ipc/launcher.hpp"
#include "include/aep/dsm.h"

namespace {

using namespace aep::bench;
using namespace aep::bench::ipc;

struct Aep {
    struct Shared {
        int launcher;
    };
    static void make(const Plan&, Shared& shared) { shared.launcher = getpid(); }
    static void unmake(const Plan&, Shared&) {}

    /// A process is one client, whatever its ends.
    class End {
      public:
        void meet() {
            for (unsigned i = 0; i < _others; ++i) {
                dsm_id peer = 0;
                while ((peer = dsm_lookup(name(!_sends, i).c_str())) == 0) usleep(200);
                _peers[i] = peer;
            }
        }

      protected:
        End(const Plan& plan, const Shared& shared, Path path, unsigned self, bool sends)
            : _plan(plan),
              _size(plan.size_of(path)),
              _timeout_ms(plan.polls() ? 0 : -1),
              _path(path),
              _sends(sends),
              _launcher(shared.launcher),
              _told(told_after(plan)) {
            _others = path == Path::BACK ? 1 : sends ? plan.receivers() : plan.senders();
            static const int attached = dsm_attach(name(sends, self).c_str());
            expect(attached == 0, "cannot take part in sharing");
        }
        /// Of the sender or receiver of the path: there is one of each, and those of the way back are the same processes.
        std::string name(bool sender, unsigned number) const {
            return std::to_string(_launcher) +
                   (sender == (_path == Path::FORWARD) ? " sender " : " receiver ") +
                   std::to_string(number);
        }
        /// Of each sender's messages, so many may be on their way.
        static unsigned room(const Plan& plan) {
            return std::max(1u, plan.depth() / plan.senders());
        }
        /// A mailbox holds 512 messages, however large: of large ones in a stream a receiver tells how many it has taken.
        static unsigned told_after(const Plan& plan) {
            return !plan.back() && plan.size * 512 > IN_FLIGHT ? std::max(1u, room(plan) / 2) : 0;
        }

        void* take(dsm_info& info) const {
            for (;;) {
                void* const message = dsm_recv(DSM_ANY, _timeout_ms, &info);
                if (message != nullptr) return message;
                expect(errno == EAGAIN, "a receive failed");
                _mm_pause();
            }
        }
        static void drop(void* message) { expect(dsm_free(message) == 0, "not ours to drop"); }
        void put(dsm_id to, void* message, unsigned flags) const {
            while (dsm_send_message(to, message, nullptr, _timeout_ms, flags) != 0) {
                expect(errno == EAGAIN, "a send failed");
                _mm_pause();
            }
        }
        static void* allocate(std::size_t size) {
            void* const message = dsm_malloc(size);
            expect(message != nullptr, "no memory");
            return message;
        }

        const Plan _plan;
        const std::size_t _size;
        const int _timeout_ms;
        const Path _path;
        const bool _sends;
        const int _launcher;
        const unsigned
            _told;  ///< after so many messages a receiver tells that it has them; 0: never
        unsigned _others;
        dsm_id _peers[MANY] = {};
    };

    class Sender : public End {
      public:
        Sender(const Plan& plan, const Shared& shared, Path path, unsigned self)
            : End(plan, shared, path, self, true) {}
        void send(auto&& write) {
            if (_told != 0) await_room();
            void* const message = allocate(_size);
            write(message);
            for (unsigned i = 0; i < _others; ++i)
                put(_peers[i], message, i + 1 == _others ? DSM_DROP : 0);
            ++_sent;
        }

      private:
        /// Until no receiver has more than its queue's messages to take.
        void await_room() {
            for (unsigned i = 0; i < _others;) {
                if (_sent - _taken[i] < room(_plan)) {
                    ++i;
                    continue;
                }
                dsm_info info;
                drop(take(info));
                for (unsigned k = 0; k < _others; ++k)
                    if (_peers[k] == info.sender) _taken[k] += _told;
            }
        }
        std::uint64_t _sent = 0, _taken[MANY] = {};
    };

    class Receiver : public End {
      public:
        Receiver(const Plan& plan, const Shared& shared, Path path, unsigned self)
            : End(plan, shared, path, self, false) {}
        void receive(auto&& look) {
            dsm_info info;
            void* const message = take(info);
            expect(info.size >= _size, "a message of another size");
            look(message);
            drop(message);
            if (_told == 0) return;
            for (unsigned i = 0; i < _others; ++i)
                if (_peers[i] == info.sender && ++_taken[i] % _told == 0)
                    put(info.sender, allocate(LINE), DSM_DROP);
        }

      private:
        std::uint64_t _taken[MANY] = {};
    };
};

}  // namespace

int main(int count, char** words) { return Launcher<Aep>::main(count, words); }
