// Purpose: what ends of a path of our sharing are, however their messages go: clients of a context, found by name.
// Who calls it: aep.cpp, aep_many.cpp.
// Crash rule: a measuring program; what a client holds goes with it.
#pragma once

#include <immintrin.h>

#include <cerrno>

#include "bench/ipc/launcher.hpp"
#include "include/aep/dsm.h"

namespace aep::bench::ipc {

struct AepContext {
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

    class SendingEnd : public End {
      public:
        SendingEnd(const Plan& plan, const Shared& shared, Path path, unsigned self)
            : End(plan, shared, path, self, true),
              _receivers(path == Path::BACK ? 1 : plan.receivers()) {}
        void meet() {
            for (unsigned i = 0; i < _receivers; ++i) {
                _to[i] = dsm_lookup_wait(name(false, i).c_str(), -1);
                expect(_to[i] != 0, "no such receiver");
            }
        }

      protected:
        /// A message of this run, written in place; the caller's to send.
        void* made(auto&& write) const {
            void* const message = dsm_malloc(_size);
            expect(message != nullptr, "no memory");
            write(message);
            return message;
        }

        const unsigned _receivers;
        dsm_id _to[MANY] = {};
    };

    class ReceivingEnd : public End {
      public:
        ReceivingEnd(const Plan& plan, const Shared& shared, Path path, unsigned self)
            : End(plan, shared, path, self, false) {}
        void meet() {}
    };
};

}  // namespace aep::bench::ipc
