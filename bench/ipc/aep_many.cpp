// Purpose: the messages of aep.cpp, AT_ONCE of them in a call: a sender that has so many to send does not wait for others, and a
//          receiver takes what is there, and drops it when it has looked at all. For streams, which nobody answers.
// Who calls it: bench/ipc.py, with our library and a context to join.
// Crash rule: a measuring program; what it holds goes with it.
#include "bench/ipc/aep.hpp"

namespace {

using namespace aep::bench;
using namespace aep::bench::ipc;

constexpr unsigned AT_ONCE = 32;

struct AepMany : AepContext {
    class Sender : public SendingEnd {
      public:
        using SendingEnd::SendingEnd;
        void send(auto&& write) {
            _messages[_count++] = made(write);
            if (_count == AT_ONCE) flush();
        }
        void flush() {
            for (unsigned sent = 0; sent < _count;) {
                const int some = dsm_send_many(_to[0], _messages + sent, _count - sent, nullptr,
                                               _timeout_ms, DSM_DROP);
                if (some < 0)
                    again("a send failed");
                else
                    sent += static_cast<unsigned>(some);
            }
            _count = 0;
        }

      private:
        void* _messages[AT_ONCE];
        unsigned _count = 0;
    };

    class Receiver : public ReceivingEnd {
      public:
        using ReceivingEnd::ReceivingEnd;
        void receive(auto&& look) {
            if (_next == _count) take();
            expect(_said[_next].size >= _size, "a message of another size");
            look(_messages[_next]);
            if (++_next == _count)
                expect(dsm_free_many(_messages, _count) == static_cast<int>(_count),
                       "not ours to drop");
        }

      private:
        void take() {
            int some = 0;
            while ((some = dsm_recv_many(DSM_ANY, _timeout_ms, _messages, _said, sizeof _said[0],
                                         AT_ONCE)) < 0)
                again("a receive failed");
            _count = static_cast<unsigned>(some);
            _next = 0;
        }

        void* _messages[AT_ONCE];
        dsm_message _said[AT_ONCE];
        unsigned _count = 0, _next = 0;
    };
};

}  // namespace

int main(int count, char** words) { return Launcher<AepMany>::main(count, words); }
