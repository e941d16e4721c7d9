// Purpose: the flat baseline's side of the comparison: the same loops as ours.cpp, with clients of
//          bench/flat on a pool of their own.
// Who calls it: bench/driver/dsm.py.
// Crash rule: a measuring program.
//
//   aep_bench_flat RULE CASE N [LATENCY_NS]
//     RULE: published or durable (bench/flat/client.hpp)
//     operations, refills, transfers, threadtest, metadata, rpc, stream, list, tree: as
//     aep_bench_dsm; the other end is a child process
//     costs 1              flushes and fences of each operation, counted
//     recovery OBJECTS     a client with that many is recovered: ms, objects_per_second
//     survivor MS          what a client does in each 10 ms, while others are recovered
#include <sys/prctl.h>
#include <sys/wait.h>

#include <csignal>
#include <memory>
#include <string>
#include <string_view>

#include "bench/dsm/cases.hpp"
#include "bench/dsm/ends.hpp"
#include "bench/dsm/region.hpp"
#include "bench/flat/client.hpp"
#include "bench/micro/spin.hpp"

namespace {

using namespace aep::bench;
using namespace aep;
using flat::Geometry;
using flat::Pool;
using flat::Ref;
using flat::Status;

constexpr u32 BLOCKS_OF_A_PAGE = 1024;

/// A pool for `objects` objects of at most `size` bytes from each of `clients` clients.
constexpr Geometry geometry_for(u32 clients, u32 objects, usize size = BLOCK) {
    const u32 blocks = static_cast<u32>(SLICE_SIZE / class_size(flat::flat_class_of(size)));
    return {.clients = clients, .refs = objects + 1024, .pages = clients * (objects / blocks + 64)};
}

/// A region, the pool in it, and clients.
template <class Memory>
class World {
  public:
    World(const Geometry& geometry, u64 latency)
        : region(Pool::bytes(geometry), latency), pool(region.base(), geometry) {}

    /// Memory for the clients' first `objects` objects of 64 bytes, together.
    void populate(u32 objects) {
        const era::Tables& t = pool.tables();
        const u32 pages = objects / BLOCKS_OF_A_PAGE + 1;
        region.populate(&t.count(0), &t.count(pages * BLOCKS_OF_A_PAGE - 1) + 1);
        region.populate(&pool.header(0), &pool.header(pages));
        region.populate(pool.page_address(0), pool.page_address(pages));
        for (u32 i = 0; i < pool.geometry().clients; ++i)
            region.populate(&t.ref(i, 0), &t.ref(i, std::min(objects, t.shape.refs - 1)) + 1);
    }

    const Region region;
    const Pool pool;
};

template <class Memory>
struct Member {
    Member(World<Memory>& world, u32 number)
        : memory(world.region.template memory<Memory>()), client(memory, world.pool, number) {
        expect(client.joined(), "the client's place is taken");
    }
    Memory memory;
    flat::Client<Memory> client;
};

/// Two clients in one thread.
template <class Memory>
struct Flat {
    using Object = Ref;
    Member<Memory> first;
    Member<Memory> second;

    explicit Flat(World<Memory>& world, u32 number = 0)
        : first(world, number), second(world, number + 1) {}

    Ref allocate(usize size) {
        Ref ref{};
        expect(first.client.allocate(size, ref) == Status::ok, "no memory");
        return ref;
    }
    void drop(Ref ref) { expect(first.client.release(ref) == Status::ok, "not ours to drop"); }
    void* address(Ref ref) { return first.client.address(ref.object); }
    void send(Ref ref) {
        expect(first.client.send(second.client.number(), ref) == Status::ok, "a send failed");
    }
    Ref receive() {
        Ref ref{};
        expect(second.client.receive(first.client.number(), ref) == Status::ok,
               "a message is lost");
        return ref;
    }
    void drop_received(Ref ref) {
        expect(second.client.release(ref) == Status::ok, "not ours to drop");
    }
    u64 page_of(Ref ref) { return ref.object / BLOCKS_OF_A_PAGE; }
    u64 chunk_of(Ref) { return 0; }
};

/// One of two processes; `me` is 0 or 1. Handles are object numbers + 1.
template <class Memory>
struct FlatEnd {
    using Object = Ref;
    Member<Memory> member;
    u32 other;

    FlatEnd(World<Memory>& world, u32 me) : member(world, me), other(1 - me) {}

    flat::Client<Memory>& client() { return member.client; }
    Ref allocate(usize size) {
        Ref ref{};
        expect(client().allocate(size, ref) == Status::ok, "no memory");
        return ref;
    }
    void drop(Ref ref) { expect(client().release(ref) == Status::ok, "not ours to drop"); }
    void* address(Ref ref) { return client().address(ref.object); }
    void send(Ref ref) {
        wait([&] { return client().has_room(other); });
        expect(client().send(other, ref) == Status::ok, "a send failed");
    }
    /// Long spins: the other end answers in microseconds, but for a time slice of a neighbour's.
    template <class Ready>
    static void wait(Ready&& ready) {
        for (u32 spins = 0; !ready(); ++spins)
            if (spins < 20'000)
                _mm_pause();
            else
                sched_yield();
    }
    Ref receive() {
        Ref ref{};
        wait([&] { return client().has_message(other); });
        expect(client().receive(other, ref) == Status::ok, "a receive failed");
        return ref;
    }
    /// A reference for as long as the node is looked at. The published code follows the references
    /// in an object without taking any, for the root keeps them all.
    Ref take(u64 handle) {
        Ref ref{0, static_cast<u32>(handle) - 1};
        if constexpr (!flat::is_published<Memory>)
            expect(client().attach(ref.object, ref) == Status::ok, "a node is gone");
        return ref;
    }
    void let_go(Ref ref) {
        if constexpr (!flat::is_published<Memory>) drop(ref);
    }
    u64 walk_list(u64 handle) {
        u64 sum = 0;
        Ref ref = take(handle);
        for (;;) {
            const Node* n = static_cast<const Node*>(address(ref));
            sum += n->value;
            if (n->left == 0) {
                let_go(ref);
                return sum;
            }
            const Ref next = take(n->left);
            let_go(ref);
            ref = next;
        }
    }
    u64 walk_tree(u64 handle) {
        if (handle == 0) return 0;
        const Ref ref = take(handle);
        const Node* n = static_cast<const Node*>(address(ref));
        const u64 sum = n->value + walk_tree(n->left) + walk_tree(n->right);
        let_go(ref);
        return sum;
    }
};

template <class Memory>
Times structure(FlatEnd<Memory>& end, Command command, u64 count, unsigned height) {
    std::vector<Ref> refs;
    refs.reserve(count);
    const double begin = thread_ns();
    const auto make = [&]() -> Made {
        const Ref ref = end.allocate(sizeof(Node));
        refs.push_back(ref);
        return {u64{ref.object} + 1, static_cast<Node*>(end.address(ref))};
    };
    const Ref message = end.allocate(sizeof(Node));
    u64 number = 0;
    const u64 root =
        command == Command::walk_tree ? build_tree(height, number, make) : build_list(count, make);
    const double built = thread_ns();
    const double walked = walk(end, message, command, root, count);
    const double begin_drop = thread_ns();
    for (const Ref ref : refs) end.drop(ref);
    end.drop(message);
    return {built - begin, walked, thread_ns() - begin_drop};
}

template <class Memory>
int with_peer(std::string_view what, unsigned n, u64 latency) {
    const u64 nodes = what == "list" ? n : what == "tree" ? (u64{2} << n) - 1 : 0;
    World<Memory> world(geometry_for(2, static_cast<u32>(nodes) + 1024), latency);
    world.populate(static_cast<u32>(nodes) + 2048);
    std::fflush(stdout);
    const pid_t child = fork();
    expect(child >= 0, "fork failed");
    bind_to_processor(child == 0 ? 1 : 0);
    FlatEnd<Memory> end(world, child == 0 ? 1 : 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(end);
        _exit(0);
    }
    const auto joined = [&] {
        return era::NodeWord{world.pool.tables().node(1).load()}.state() == era::NodeState::live;
    };
    wait_until(joined);
    if (what == "rpc") {
        rpc(end, n);
    } else if (what == "stream") {
        stream(end, n);
    } else {
        const Command command = what == "list" ? Command::walk_list : Command::walk_tree;
        print_structure(nodes, [&] { return structure(end, command, nodes, n); });
    }
    const Ref last = new_message(end, Command::end);
    end.send(last);
    int status = 0;
    waitpid(child, &status, 0);
    expect(status == 0, "the other end failed");
    return 0;
}

/// Pool bytes that metadata takes, and bytes of the client's own memory.
template <class Memory>
void metadata(u32 objects) {
    for (const usize size : {usize{64}, usize{256}, usize{1024}}) {
        World<Memory> world(geometry_for(2, objects, size), 0);
        Member<Memory> member(world, 0);
        const usize bytes = Pool::metadata_bytes(world.pool.geometry());
        const usize before = Region::resident(world.region.base(), bytes);
        for (u32 i = 0; i < objects; ++i) {
            Ref ref{};
            expect(member.client.allocate(size, ref) == Status::ok, "no memory");
        }
        const usize after = Region::resident(world.region.base(), bytes);
        const std::string suffix = std::to_string(size);
        print(("bytes_" + suffix).c_str(), static_cast<double>(after - before) / objects);
        print(("local_bytes_" + suffix).c_str(),
              static_cast<double>(member.client.local_bytes()) / objects);
    }
}

flat::CountingMemory& counting(flat::CountingMemory& memory) { return memory; }
flat::CountingMemory& counting(flat::PublishedMemory<flat::CountingMemory>& memory) {
    return memory.under();
}

/// Flushes and fences of each operation.
template <class Memory>
void costs() {
    World<Memory> world(geometry_for(2, 4096), 0);
    Flat<Memory> s(world);
    std::vector<Ref> objects(BATCH);
    std::vector<Ref> received(BATCH);
    const auto counted = [&](const char* name, Memory& of_client, auto&& operation) {
        flat::CountingMemory& memory = counting(of_client);
        memory.flushes = memory.fences = 0;
        for (u32 i = 0; i < BATCH; ++i) operation(i);
        print((std::string(name) + "_flushes").c_str(), double(memory.flushes) / BATCH);
        print((std::string(name) + "_fences").c_str(), double(memory.fences) / BATCH);
    };
    for (Ref& ref : objects) ref = s.allocate(BLOCK);
    for (const Ref& ref : objects) s.drop(ref);
    counted(
        "alloc", s.first.memory, [&](u32 i) { objects[i] = s.allocate(BLOCK); });
    counted(
        "send", s.first.memory, [&](u32 i) { s.send(objects[i]); });
    counted(
        "receive", s.second.memory, [&](u32 i) { received[i] = s.receive(); });
    counted(
        "drop", s.second.memory, [&](u32 i) { s.drop_received(received[i]); });
    counted("free_shared", s.first.memory, [&](u32 i) { s.drop(objects[i]); });
    for (Ref& ref : objects) ref = s.allocate(BLOCK);
    counted("free", s.first.memory, [&](u32 i) { s.drop(objects[i]); });
}

template <class Memory>
void recovery(u32 objects, u64 latency) {
    World<Memory> world(geometry_for(2, objects), latency);
    world.populate(objects);
    Member<Memory> survivor(world, 0);
    Member<Memory> victim(world, 1);
    for (u32 i = 0; i < objects; ++i) {
        Ref ref{};
        expect(victim.client.allocate(BLOCK, ref) == Status::ok, "no memory");
    }
    const double begin = thread_ns();
    expect(survivor.client.recover(1) == Status::ok, "the recovery failed");
    const double ns = thread_ns() - begin;
    print("ms", ns / 1e6);
    print("objects_per_second", objects / ns * 1e9);
}

/// Victims with 100,000 objects are recovered one after the other by a third client, while client 0
/// works.
template <class Memory>
void survivor(u32 milliseconds, u64 latency) {
    constexpr u32 OBJECTS = 100'000;
    constexpr u32 LAST_MS = 800;  // no victim begins later, so that its recovery is seen
    World<Memory> world(geometry_for(4, OBJECTS), latency);
    world.populate(OBJECTS + 8192);
    const double begin = now_ns();
    Bins bins;
    std::thread survivor([&] {
        Flat<Memory> s(world);
        bins = survive(s, milliseconds, begin);
    });
    Member<Memory> recoverer(world, 2);
    const auto elapsed = [begin] { return (now_ns() - begin) / 1e6; };
    while (elapsed() + LAST_MS < milliseconds) {
        Member<Memory> victim(world, 3);
        for (u32 i = 0; i < OBJECTS; ++i) {
            Ref ref{};
            expect(victim.client.allocate(BLOCK, ref) == Status::ok, "no memory");
        }
        usleep(200'000);
        print("kill_ms", elapsed());
        expect(recoverer.client.recover(3) == Status::ok, "the recovery failed");
        print("end_ms", elapsed());
        usleep(100'000);
    }
    survivor.join();
    bins.print_all();
}

template <class Memory>
int run_case(std::string_view what, unsigned n, u64 latency) {
    if (what == "operations" || what == "transfers") {
        World<Memory> world(geometry_for(2, 4096), latency);
        world.populate(8192);
        Flat<Memory> s(world);
        what == "operations" ? operations(s, n) : transfers(s, n);
    } else if (what == "refills") {
        World<Memory> world(geometry_for(2, n), latency);
        Flat<Memory> s(world);
        refills(s, n, flat::ticks_per_ns());
    } else if (what == "threadtest") {
        World<Memory> world(geometry_for(2 * n, 100'000 / n), latency);
        world.populate(100'000 + 2048 * n);
        std::vector<std::unique_ptr<Flat<Memory>>> systems;
        for (u32 i = 0; i < n; ++i) systems.push_back(std::make_unique<Flat<Memory>>(world, 2 * i));
        threadtest(n, 2, [&systems](unsigned i) -> Flat<Memory>& { return *systems[i]; });
    } else if (what == "metadata") {
        metadata<era::CxlMemory>(n);
    } else if (what == "recovery") {
        recovery<Memory>(n, latency);
    } else if (what == "survivor") {
        survivor<Memory>(n, latency);
    } else if (what == "rpc" || what == "stream" || what == "list" || what == "tree") {
        return with_peer<Memory>(what, n, latency);
    } else {
        return 2;
    }
    return 0;
}

/// `Rule<Memory>` is the memory of a client by the rule.
template <template <class> class Rule>
int run(std::string_view what, unsigned n, u64 latency) {
    if (what == "costs") {
        costs<Rule<flat::CountingMemory>>();
        return 0;
    }
    return latency == 0 ? run_case<Rule<era::CxlMemory>>(what, n, 0)
                        : run_case<Rule<flat::EmulatedMemory>>(what, n, latency);
}

template <class Memory>
using Durable = Memory;

}  // namespace

int main(int count, char** arguments) {
    int status = 2;
    if (count == 4 || count == 5) {
        const std::string_view rule = arguments[1];
        const unsigned n = static_cast<unsigned>(std::strtoul(arguments[3], nullptr, 10));
        const u64 latency = count == 5 ? std::strtoull(arguments[4], nullptr, 10) : 0;
        if (n != 0 && rule == "durable") status = run<Durable>(arguments[2], n, latency);
        if (n != 0 && rule == "published")
            status = run<flat::PublishedMemory>(arguments[2], n, latency);
    }
    if (status == 2)
        std::fputs("usage: aep_bench_flat published|durable CASE N [LATENCY_NS]\n", stderr);
    return status;
}
