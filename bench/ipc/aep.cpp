// Purpose: messages as objects of a context: allocated, written in place, sent by reference and let go of in one step, read where
//          they lie, dropped. To several goes one object.
// Who calls it: bench/ipc.py, with our library and a context to join.
// Crash rule: a measuring program; what it holds goes with it.
#include "bench/ipc/aep.hpp"

namespace {

using namespace aep::bench;
using namespace aep::bench::ipc;

struct Aep : AepContext {
    class Sender : public SendingEnd {
      public:
        using SendingEnd::SendingEnd;
        void send(auto&& write) {
            void* const message = made(write);
            for (unsigned i = 0; i < _receivers; ++i)
                while (dsm_send_message(_to[i], message, nullptr, _timeout_ms,
                                        i + 1 == _receivers ? DSM_DROP : 0) != 0)
                    again("a send failed");
        }
    };

    class Receiver : public ReceivingEnd {
      public:
        using ReceivingEnd::ReceivingEnd;
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
