// Purpose: messages over pipes, one for each pair of processes.
// Who calls it: bench/ipc.py.
// Crash rule: a measuring program; pipes go with their descriptors.
#include <fcntl.h>
#include <poll.h>

#include "bench/ipc/descriptors.hpp"

namespace {

using namespace aep::bench;
using namespace aep::bench::ipc;

struct Pipe {
    using Shared = Descriptors;

    static void make(const Plan& plan, Shared& shared) {
        shared.make(
            plan,
            [&](int* ends) {
                expect(pipe(ends) == 0, "no pipe");
                std::swap(ends[0], ends[1]);  // what is written to comes first
                // As much as anybody may have; less holds less.
                fcntl(ends[0], F_SETPIPE_SZ, 1 << 20);
            });
    }
    static void unmake(const Plan&, Shared&) {}

    /// Writes whole messages; those of up to PIPE_BUF bytes are never torn.
    class Sender : public SendingEnd {
      public:
        using SendingEnd::SendingEnd;
        void send(auto&& write) {
            write(message());
            for (unsigned i = 0; i < lanes(); ++i)
                for (std::size_t sent = 0; sent < size();)
                    sent += moved(::write(fd(i), message() + sent, size() - sent));
        }
    };

    /// Reads what is there, which may be many messages, into a buffer, and takes them from it.
    class Receiver : public ReceivingEnd {
        static constexpr std::size_t ROOM = 64 << 10;

      public:
        Receiver(const Plan& plan, const Shared& shared, Path path, unsigned self)
            : ReceivingEnd(plan, shared, path, self) {
            for (unsigned i = 0; i < lanes(); ++i) _buffers[i].resize(std::max(ROOM, size()));
        }
        void receive(auto&& look) {
            unsigned lane = _last;
            while (!_buffers[lane].has(size())) {
                lane = readable(lane);
                // A message that is on its way is waited for.
                do _buffers[lane].more(*this, fd(lane));
                while (!_buffers[lane].empty() && !_buffers[lane].has(size()));
            }
            _last = lane;
            look(_buffers[lane].take(size()));
        }

      private:
        class Buffer {
          public:
            void resize(std::size_t room) { _bytes.resize(room); }
            bool has(std::size_t size) const { return _end - _begin >= size; }
            bool empty() const { return _end == _begin; }
            void more(const ReceivingEnd& end, int fd) {
                if (_begin == _end) {
                    _begin = _end = 0;
                } else if (_begin != 0) {
                    std::memmove(_bytes.data(), _bytes.data() + _begin, _end - _begin);
                    _end -= _begin;
                    _begin = 0;
                }
                _end += end.moved(::read(fd, _bytes.data() + _end, _bytes.size() - _end));
            }
            const char* take(std::size_t size) {
                const char* const message = _bytes.data() + _begin;
                _begin += size;
                return message;
            }

          private:
            std::vector<char> _bytes;
            std::size_t _begin = 0, _end = 0;
        };
        Buffer _buffers[MANY];
        unsigned _last = 0;
    };
};

}  // namespace

int main(int count, char** words) { return Launcher<Pipe>::main(count, words); }
