// Purpose: messages by Boost's lock-free queue of one producer and one consumer in memory of Boost.Interprocess, one for each pair of
//          processes. Messages of up to 1 KiB lie in the queue and are read there; of larger ones it holds handles of blocks,
//          which come back to the sender by a second queue, so that nothing is copied and the same memory is used again.
// Who calls it: bench/ipc.py.
// Crash rule: a measuring program; the name of the shared memory goes when all have opened it.
#include <immintrin.h>

#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/lockfree/spsc_queue.hpp>

#include "bench/ipc/launcher.hpp"

namespace {

using namespace aep::bench;
using namespace aep::bench::ipc;
namespace bip = boost::interprocess;
namespace lockfree = boost::lockfree;

constexpr std::size_t SLOTS = 1024;

template <class T>
using Queue = lockfree::spsc_queue<T, lockfree::capacity<SLOTS>>;
template <std::size_t SIZE>
struct Message {
    std::uint64_t words[SIZE / 8];
};
using Handle = bip::managed_shared_memory::handle_t;

/// A block of a larger message: who of its readers is the last one gives it back.
struct alignas(LINE) Block {
    std::atomic<unsigned> readers;
};

struct Spsc {
    struct Shared {
        int launcher;
        std::string name() const { return "aep-bench-" + std::to_string(launcher) + "-spsc"; }
    };
    template <class T>
    static std::string queue(Path path, unsigned lane) {
        return std::to_string(sizeof(T)) + " " + std::to_string(Plan::lane(path, lane));
    }
    static std::string returned(Path path, unsigned lane) {
        return "returned " + queue<Handle>(path, lane);
    }

    static void make(const Plan& plan, Shared& shared) {
        expect(plan.polls(), "nobody can sleep at this queue");
        shared.launcher = getpid();
        const std::size_t queues = std::size_t{16} << 20;
        const std::size_t blocks =
            (plan.senders() + (plan.back() ? 1 : 0)) * plan.depth() * (plan.size + 4 * LINE);
        bip::managed_shared_memory memory(bip::create_only, shared.name().c_str(), queues + blocks);
        const auto create = [&](Path path) {
            for (unsigned i = 0; i < plan.lane_count(path); ++i) {
                memory.construct<Queue<Message<64>>>(queue<Message<64>>(path, i).c_str())();
                memory.construct<Queue<Message<1024>>>(queue<Message<1024>>(path, i).c_str())();
                memory.construct<Queue<Handle>>(queue<Handle>(path, i).c_str())();
                memory.construct<Queue<Handle>>(returned(path, i).c_str())();
            }
        };
        create(Path::FORWARD);
        if (plan.back()) create(Path::BACK);
    }
    static void unmake(const Plan&, Shared& shared) {
        bip::shared_memory_object::remove(shared.name().c_str());
    }

    class End {
      public:
        void meet() {}

      protected:
        End(const Plan& plan, const Shared& shared, Path path, unsigned self, bool sends)
            : _memory(bip::open_only, shared.name().c_str()), _size(plan.size_of(path)) {
            const unsigned own = sends ? plan.senders() : plan.receivers();
            const unsigned lanes = own == 1 ? plan.lane_count(path) : 1;
            for (unsigned i = 0; i < lanes; ++i) {
                const unsigned lane = own == 1 ? i : self;
                find(_small, queue<Message<64>>(path, lane));
                find(_middle, queue<Message<1024>>(path, lane));
                find(_handles, queue<Handle>(path, lane));
                find(_returned, returned(path, lane));
            }
        }
        template <class T>
        void find(std::vector<Queue<T>*>& queues, const std::string& name) {
            queues.push_back(_memory.find<Queue<T>>(name.c_str()).first);
            expect(queues.back() != nullptr, "no queue");
        }

        bip::managed_shared_memory _memory;
        const std::size_t _size;
        std::vector<Queue<Message<64>>*> _small;
        std::vector<Queue<Message<1024>>*> _middle;
        std::vector<Queue<Handle>*> _handles, _returned;
    };

    class Sender : public End {
      public:
        Sender(const Plan& plan, const Shared& shared, Path path, unsigned self)
            : End(plan, shared, path, self, true) {
            if (_size <= sizeof(Message<1024>)) return;
            for (unsigned i = 0; i < plan.depth(); ++i)
                _free.push_back(new (_memory.allocate(sizeof(Block) + _size)) Block);
        }
        void send(auto&& write) {
            if (_size == sizeof(Message<64>)) return copy(_small, write);
            if (_size <= sizeof(Message<1024>)) return copy(_middle, write);
            Block* const block = take();
            write(block + 1);
            block->readers.store(static_cast<unsigned>(_handles.size()), std::memory_order_relaxed);
            for (auto* to : _handles) push(*to, _memory.get_handle_from_address(block));
        }

      private:
        template <class T>
        static void push(Queue<T>& to, const T& value) {
            while (!to.push(value)) _mm_pause();
        }
        template <class T>
        static void copy(const std::vector<Queue<T>*>& queues, auto&& write) {
            T message;
            write(&message);
            for (auto* to : queues) push(*to, message);
        }
        Block* take() {
            while (_free.empty()) {
                for (auto* from : _returned)
                    from->consume_all([&](Handle handle) {
                        _free.push_back(
                            static_cast<Block*>(_memory.get_address_from_handle(handle)));
                    });
                if (_free.empty()) _mm_pause();
            }
            Block* const block = _free.back();
            _free.pop_back();
            return block;
        }
        std::vector<Block*> _free;
    };

    class Receiver : public End {
      public:
        Receiver(const Plan& plan, const Shared& shared, Path path, unsigned self)
            : End(plan, shared, path, self, false) {}
        void receive(auto&& look) {
            if (_size == sizeof(Message<64>))
                return consume(_small, [&](const auto& message, auto) { look(&message); });
            if (_size <= sizeof(Message<1024>))
                return consume(_middle, [&](const auto& message, auto) { look(&message); });
            consume(_handles, [&](Handle handle, std::size_t lane) {
                Block* const block = static_cast<Block*>(_memory.get_address_from_handle(handle));
                look(block + 1);
                if (block->readers.fetch_sub(1, std::memory_order_acq_rel) == 1)
                    expect(_returned[lane]->push(handle), "more blocks than there are");
            });
        }

      private:
        /// The next message of any lane, in turn.
        template <class T>
        void consume(const std::vector<Queue<T>*>& queues, auto&& look) {
            for (;;) {
                _last = _last + 1 == queues.size() ? 0 : _last + 1;
                if (queues[_last]->consume_one([&](T& message) { look(message, _last); })) return;
                _mm_pause();
            }
        }
        std::size_t _last = 0;
    };
};

}  // namespace

int main(int count, char** words) { return Launcher<Spsc>::main(count, words); }
