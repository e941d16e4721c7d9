// Purpose: the limit: messages of one cache line that two processes poll, with nothing around: there and back in one and the same
//          line, a stream in a ring of lines.
// Who calls it: bench/ipc.py.
// Crash rule: a measuring program; the memory is anonymous.
#include <immintrin.h>

#include "bench/ipc/launcher.hpp"

namespace {

using namespace aep::bench;
using namespace aep::bench::ipc;

/// A message is the whole line. Whose turn it is, is said by the highest bit of its first word, which is written last.
struct alignas(LINE) Line {
    static constexpr std::uint64_t TURN = std::uint64_t{1} << 63;
    std::atomic<std::uint64_t> words[LINE / 8];

    void put(const std::uint64_t* message, bool turn) {
        for (unsigned i = 1; i < LINE / 8; ++i)
            words[i].store(message[i], std::memory_order_relaxed);
        words[0].store(message[0] | (turn ? TURN : 0), std::memory_order_release);
    }
    void await(bool turn) const {
        while (((words[0].load(std::memory_order_acquire) & TURN) != 0) != turn) _mm_pause();
    }
    void get(std::uint64_t* message) const {
        message[0] = words[0].load(std::memory_order_relaxed) & ~TURN;
        for (unsigned i = 1; i < LINE / 8; ++i)
            message[i] = words[i].load(std::memory_order_relaxed);
    }
};

struct Lines {
    static constexpr std::uint64_t SLOTS = 256, TOLD_AFTER = 64;
    Line to_and_fro, ring[SLOTS];
    alignas(LINE) std::atomic<std::uint64_t> taken;  ///< of the ring, told now and then

    static bool turn(std::uint64_t number) { return number / SLOTS % 2 == 0; }
};

struct Raw {
    struct Shared {
        int fd;
    };
    static void make(const Plan& plan, Shared& shared) {
        expect(plan.size == LINE && plan.polls() &&
                   (plan.pattern == Pattern::REPLY || plan.pattern == Pattern::STREAM),
               "raw: there and back, and streams, of 64 bytes, polling");
        shared.fd = memfd_create("lines", 0);
        expect(shared.fd >= 0 && ftruncate(shared.fd, sizeof(Lines)) == 0, "no memory");
    }
    static void unmake(const Plan&, Shared& shared) { close(shared.fd); }

    class End {
      public:
        End(const Plan& plan, const Shared& shared, Path path)
            : _streams(plan.pattern == Pattern::STREAM), _there(path == Path::FORWARD) {
            void* const at =
                mmap(nullptr, sizeof(Lines), PROT_READ | PROT_WRITE, MAP_SHARED, shared.fd, 0);
            expect(at != MAP_FAILED, "no memory");
            _lines = static_cast<Lines*>(at);
        }
        void meet() {}

      protected:
        Line& next() {
            return _streams ? _lines->ring[_number % Lines::SLOTS] : _lines->to_and_fro;
        }
        bool turn() const { return _streams ? Lines::turn(_number) : _there; }

        const bool _streams, _there;
        Lines* _lines;
        std::uint64_t _number = 0;
    };
    struct Sender : End {
        Sender(const Plan& plan, const Shared& shared, Path path, unsigned)
            : End(plan, shared, path) {}
        void send(auto&& write) {
            while (_streams && _number - _taken >= Lines::SLOTS) {
                _taken = _lines->taken.load(std::memory_order_acquire);
                _mm_pause();
            }
            alignas(LINE) std::uint64_t message[LINE / 8];
            write(message);
            next().put(message, turn());
            ++_number;
        }
        std::uint64_t _taken = 0;
    };
    struct Receiver : End {
        Receiver(const Plan& plan, const Shared& shared, Path path, unsigned)
            : End(plan, shared, path) {}
        void receive(auto&& look) {
            next().await(turn());
            alignas(LINE) std::uint64_t message[LINE / 8];
            next().get(message);
            look(message);
            ++_number;
            if (_streams && _number % Lines::TOLD_AFTER == 0)
                _lines->taken.store(_number, std::memory_order_release);
        }
    };
};

}  // namespace

int main(int count, char** words) { return Launcher<Raw>::main(count, words); }
