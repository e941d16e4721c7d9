// Purpose: references between nodes as a context takes part in them: a node has several lanes, of
//          which a client borrows one for an operation, and one reference (NodeRef) for each
//          object that it shares with other nodes, however many of its clients use it.
// Who calls it: bench/driver/dsm.py.
// Crash rule: a measuring program.
//
//   aep_bench_nodes transfers BATCHES [LATENCY_NS]   send, receive, drop, ns; export: the first
//                                                    reference of an object made and dropped
//   aep_bench_nodes recovery OBJECTS [LATENCY_NS]    a node that shares so many is recovered: ms
#include <memory>
#include <string_view>

#include "bench/dsm/cases.hpp"
#include "bench/dsm/region.hpp"
#include "dsm-core/era/mailbox.hpp"
#include "dsm-core/era/recovery.hpp"

namespace {

using namespace aep::bench;
using namespace aep;
using era::Status;

constexpr u32 NODES = 2;
constexpr u32 LANES = 8;

template <class Memory>
class Node {
  public:
    Node(Memory& memory, const era::Tables& tables, u32 number)
        : standing_(era::join(memory, tables, number)) {
        expect(standing_.bits != 0, "the node cannot join");
        for (u32 i = 0; i < LANES; ++i) lanes_.emplace_back(memory, tables, number, i, standing_);
    }

    /// Calls `operation` with a lane that is nobody else's meanwhile.
    template <class Operation>
    auto with_lane(Operation&& operation) {
        for (u32 i = 0;; i = (i + 1) % LANES) {
            if (busy_[i].exchange(1, std::memory_order_acquire) == 0) {
                const auto result = operation(lanes_[i]);
                busy_[i].store(0, std::memory_order_release);
                return result;
            }
        }
    }

    void create(u32 ref, u32 object) {
        with_lane([&](auto& lane) { return good(lane.create(ref, object)); });
    }
    /// Whether it was the last reference.
    bool release(u32 ref) {
        return with_lane([&](auto& lane) {
            const Status status = lane.release(ref);
            if (status == Status::last) {
                lane.reclaimed();
                return true;
            }
            return !good(status);
        });
    }
    void send(u32 to, u32 object) {
        with_lane([&](auto& lane) { return good(era::send(lane, to, object)); });
    }
    u32 receive(u32 from, u32 ref) {
        u32 object = 0;
        with_lane([&](auto& lane) { return good(era::receive(lane, from, ref, object)); });
        return object;
    }
    era::Lane<Memory>& lane() { return lanes_[0]; }

  private:
    static bool good(Status status) {
        expect(status == Status::ok, "an operation between nodes failed");
        return true;
    }
    era::NodeWord standing_;
    std::vector<era::Lane<Memory>> lanes_;
    std::atomic<u32> busy_[LANES] = {};
};

template <class Memory>
struct World {
    World(u32 objects, u64 latency)
        : shape{.nodes = NODES, .lanes = LANES, .refs = objects, .objects = objects, .slots = 512},
          region(era::layout_of(shape).bytes, latency),
          tables(era::tables_at(region.base(), shape)),
          memory{region.memory<Memory>(), region.memory<Memory>()},
          nodes{std::make_unique<Node<Memory>>(memory[0], tables, 0),
                std::make_unique<Node<Memory>>(memory[1], tables, 1)} {
        region.populate(region.base(),
                        static_cast<u8*>(region.base()) + era::layout_of(shape).bytes);
    }
    era::Shape shape;
    Region region;
    era::Tables tables;
    Memory memory[2];
    std::unique_ptr<Node<Memory>> nodes[2];
};

/// The objects of a batch, as cases.hpp wants them: an object is its number, and on both nodes that
/// of its reference.
template <class Memory>
class Between {
  public:
    using Object = u32;
    explicit Between(World<Memory>& world) : world_(world) {}

    u32 allocate(usize) {
        world_.nodes[0]->create(next_, next_);
        return next_++;
    }
    void drop(u32 object) {
        expect(world_.nodes[0]->release(object), "a reference is left");
        --next_;
    }
    void send(u32 object) { world_.nodes[0]->send(1, object); }
    u32 receive() { return world_.nodes[1]->receive(0, arrived_++ % BATCH); }
    void drop_received(u32) { world_.nodes[1]->release(dropped_++ % BATCH); }

  private:
    World<Memory>& world_;
    u32 next_ = 0;
    u32 arrived_ = 0;
    u32 dropped_ = 0;
};

template <class Memory>
void transfer(unsigned batches, u64 latency) {
    World<Memory> world(BATCH, latency);
    Between<Memory> s(world);
    transfers(s, batches);
    std::vector<double> exports;
    for (unsigned i = 0; i < batches; ++i) {
        const double begin = now_ns();
        for (unsigned k = 0; k < BATCH; ++k) s.drop(s.allocate(BLOCK));
        exports.push_back((now_ns() - begin) / BATCH);
    }
    print("export", median(exports));
}

template <class Memory>
void recovery(u32 objects, u64 latency) {
    World<Memory> world(objects, latency);
    for (u32 i = 0; i < objects; ++i) world.nodes[1]->create(i, i);
    u32 reclaimed = 0;
    era::Disposal disposal;
    disposal.context = &reclaimed;
    disposal.reclaim = [](void* count, u32) { ++*static_cast<u32*>(count); };
    const double begin = thread_ns();
    const Status status = era::Recovery<Memory>(world.nodes[0]->lane(), disposal).recover(1);
    const double ns = thread_ns() - begin;
    expect(status == Status::ok && reclaimed == objects, "the recovery failed");
    print("ms", ns / 1e6);
    print("objects_per_second", objects / ns * 1e9);
}

template <class Memory>
int run(std::string_view what, unsigned n, u64 latency) {
    if (what == "transfers")
        transfer<Memory>(n, latency);
    else if (what == "recovery")
        recovery<Memory>(n, latency);
    else
        return 2;
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    int status = 2;
    if (count == 3 || count == 4) {
        const unsigned n = static_cast<unsigned>(std::strtoul(arguments[2], nullptr, 10));
        const u64 latency = count == 4 ? std::strtoull(arguments[3], nullptr, 10) : 0;
        status = n == 0         ? 2
                 : latency == 0 ? run<era::CxlMemory>(arguments[1], n, 0)
                                : run<flat::EmulatedMemory>(arguments[1], n, latency);
    }
    if (status == 2)
        std::fputs("usage: aep_bench_nodes transfers|recovery N [LATENCY_NS]\n", stderr);
    return status;
}
