// Purpose: messages by Boost.Interprocess' message_queue: one for each receiver, which copies in and out.
// Who calls it: bench/ipc.py.
// Crash rule: a measuring program; names of shared memory go when all have opened them.
#include <immintrin.h>

#include <boost/interprocess/ipc/message_queue.hpp>

#include "bench/ipc/launcher.hpp"

namespace {

using namespace aep::bench;
using namespace aep::bench::ipc;
namespace bip = boost::interprocess;

struct MessageQueue {
    struct Shared {
        int launcher;
        std::string name(unsigned lane) const {
            return "aep-bench-" + std::to_string(launcher) + "-queue-" + std::to_string(lane);
        }
    };
    static void make(const Plan& plan, Shared& shared) {
        shared.launcher = getpid();
        const auto create = [&](Path path, unsigned lane) {
            bip::message_queue(bip::create_only, shared.name(lane).c_str(), plan.depth(),
                               plan.size_of(path));
        };
        for (unsigned i = 0; i < plan.receivers(); ++i) create(Path::FORWARD, i);
        if (plan.back()) create(Path::BACK, MANY);
    }
    static void unmake(const Plan&, Shared& shared) {
        for (unsigned i = 0; i < Plan::LANES; ++i)
            bip::message_queue::remove(shared.name(i).c_str());
    }

    class Sender {
      public:
        Sender(const Plan& plan, const Shared& shared, Path path, unsigned)
            : _polls(plan.polls()), _message(plan.size_of(path)) {
            for (unsigned i = 0; i < (path == Path::BACK ? 1 : plan.receivers()); ++i)
                _queues.push_back(std::make_unique<bip::message_queue>(
                    bip::open_only, shared.name(Plan::lane(path, i)).c_str()));
        }
        void meet() {}
        void send(auto&& write) {
            write(_message.data());
            for (const auto& queue : _queues) {
                if (!_polls) queue->send(_message.data(), _message.size(), 0);
                while (_polls && !queue->try_send(_message.data(), _message.size(), 0)) _mm_pause();
            }
        }

      private:
        const bool _polls;
        std::vector<char> _message;
        std::vector<std::unique_ptr<bip::message_queue>> _queues;
    };
    class Receiver {
      public:
        Receiver(const Plan& plan, const Shared& shared, Path path, unsigned self)
            : _polls(plan.polls()),
              _message(plan.size_of(path)),
              _queue(bip::open_only, shared.name(Plan::lane(path, self)).c_str()) {}
        void meet() {}
        void receive(auto&& look) {
            bip::message_queue::size_type size = 0;
            unsigned priority = 0;
            if (!_polls) _queue.receive(_message.data(), _message.size(), size, priority);
            while (_polls && !_queue.try_receive(_message.data(), _message.size(), size, priority))
                _mm_pause();
            expect(size == _message.size(), "a message of another size");
            look(_message.data());
        }

      private:
        const bool _polls;
        std::vector<char> _message;
        bip::message_queue _queue;
    };
};

}  // namespace

int main(int count, char** words) { return Launcher<MessageQueue>::main(count, words); }
