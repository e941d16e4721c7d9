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
      protected:
        End(const Plan& plan, const Shared& shared, Path path, unsigned self, bool sends)
            : _size(plan.size_of(path)),
              _timeout_ms(plan.polls() ? 0 : -1),
              _path(path),
              _launcher(shared.launcher) {
            static const int attached = dsm_attach(name(sends, self).c_str());
            expect(attached == 0, "cannot take part in sharing");
            if (!sends)
                expect(dsm_mailbox_limit(DSM_ANY, IN_FLIGHT) == 0, "a mailbox has no limit");
        }
        /// Of the sender or receiver of the path: there is one of each, and those of the way back are the same processes.
        std::string name(bool sender, unsigned number) const {
            return std::to_string(_launcher) +
                   (sender == (_path == Path::FORWARD) ? " sender " : " receiver ") +
                   std::to_string(number);
        }
        /// Whether a call is to be made again, by who polls.
        static void again(const char* otherwise) {
            expect(errno == EAGAIN, otherwise);
            _mm_pause();
        }

        const std::size_t _size;
        const int _timeout_ms;
        const Path _path;
        const int _launcher;
    };

    class Sender : public End {
      public:
        Sender(const Plan& plan, const Shared& shared, Path path, unsigned self)
            : End(plan, shared, path, self, true),
              _receivers(path == Path::BACK ? 1 : plan.receivers()) {}
        void meet() {
            for (unsigned i = 0; i < _receivers; ++i) {
                _to[i] = dsm_lookup_wait(name(false, i).c_str(), -1);
                expect(_to[i] != 0, "no such receiver");
            }
        }
        void send(auto&& write) {
            void* const message = dsm_malloc(_size);
            expect(message != nullptr, "no memory");
            write(message);
            for (unsigned i = 0; i < _receivers; ++i)
                while (dsm_send_message(_to[i], message, nullptr, _timeout_ms,
                                        i + 1 == _receivers ? DSM_DROP : 0) != 0)
                    again("a send failed");
        }

      private:
        const unsigned _receivers;
        dsm_id _to[MANY] = {};
    };

    class Receiver : public End {
      public:
        Receiver(const Plan& plan, const Shared& shared, Path path, unsigned self)
            : End(plan, shared, path, self, false) {}
        void meet() {}
        void receive(auto&& look) {
            dsm_info info;
            void* message = nullptr;
            while ((message = dsm_recv(DSM_ANY, _timeout_ms, &info)) == nullptr)
                again("a receive failed");
            expect(info.size >= _size, "a message of another size");
            look(message);
            expect(dsm_free(message) == 0, "not ours to drop");
        }
    };
};

}  // namespace

int main(int count, char** words) { return Launcher<Aep>::main(count, words); }
