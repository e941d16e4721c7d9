// Purpose: our side of the comparison with the flat baseline: a client of a context measures its
//          own heap and its references; two of them exchange what ends.hpp says.
// Who calls it: bench/driver/dsm.py, with our library preloaded and a context to join.
// Crash rule: a measuring program.
//
//   aep_bench_dsm CASE N PEER|- [LATENCY_NS]
//     operations BATCHES   alloc, free                 transfers BATCHES  send, receive, drop
//     refills BLOCKS       new_page, used_page, ...     flushed BATCHES    alloc, free, with the
//     threadtest THREADS   pair                          lines of metadata flushed each time
//     metadata OBJECTS     bytes of local metadata for an object of 64, 256, 1024 bytes
//     survivor MS          what it does in each 10 ms; first, when it began (monotonic clock)
//     serve 1 NAME         the other end, under that name: says "ready", ends when told
//     rpc CALLS PEER       stream COUNT PEER
//     list NODES PEER      tree HEIGHT PEER    in one block; *_blocks: each node a block
//   PEER may be on another node: what is called is the same.
#include <cpuid.h>
#include <sys/prctl.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <string_view>

#include "bench/dsm/cases.hpp"
#include "bench/dsm/ends.hpp"
#include "bench/flat/emulated.hpp"
#include "bench/micro/spin.hpp"
#include "dsm-core/heap/page.hpp"
#include "include/aep/dsm.h"

namespace {

using namespace aep::bench;

void attach(const char* name) {
    if (dsm_attach(name) != 0) {
        std::perror("dsm_attach");
        std::exit(1);
    }
}

/// Objects sent to oneself: the same operations as to another client, without its processor.
struct Ours {
    using Object = void*;
    dsm_id self = 0;

    void* allocate(std::size_t size) {
        void* block = std::malloc(size);
        expect(block != nullptr, "no memory");
        return block;
    }
    void drop(void* block) { std::free(block); }
    void* address(void* block) { return block; }
    void send(void* block) { expect(dsm_send(self, block) == 0, "a send failed"); }
    void* receive() {
        void* block = dsm_recv(self, 0, nullptr);
        expect(block != nullptr, "a message is lost");
        return block;
    }
    void drop_received(void* block) { expect(dsm_free(block) == 0, "not ours to drop"); }
    std::uint64_t page_of(void* block) {
        return reinterpret_cast<std::uintptr_t>(block) >> aep::SLICE_SHIFT;
    }
    std::uint64_t chunk_of(void* block) {
        return reinterpret_cast<std::uintptr_t>(block) >> aep::CHUNK_SHIFT;
    }
};

/// Our heap as if its metadata had to survive the machine: after each malloc and free, the lines
/// that it wrote are flushed under one fence.
struct Flushed : Ours {
    aep::era::CxlMemory memory;
    aep::u64 wait = 0;

    void flush(void* block) {
        const auto address = reinterpret_cast<std::uintptr_t>(block);
        const aep::PageDesc* d = aep::desc_at(address);
        const aep::u32 index =
            aep::block_index(static_cast<aep::u32>(address - aep::base_of(d)), d->magic);
        line(d);
        line(&d->bits[index / aep::BLOCKS_A_WORD]);
        memory.fence();
        if (wait != 0) aep::flat::wait_ticks(wait);
    }
    void* allocate(std::size_t size) {
        void* block = Ours::allocate(size);
        flush(block);
        return block;
    }
    void drop(void* block) {
        Ours::drop(block);
        flush(block);
    }

  private:
    void line(const void* at) {
        memory.flush(*reinterpret_cast<const aep::era::Word*>(reinterpret_cast<std::uintptr_t>(at) &
                                                              ~std::uintptr_t{7}));
    }
};

/// One of two processes.
struct OurEnd {
    using Object = void*;
    dsm_id peer = DSM_ANY;  // to whom we send: who is named, or who sent last
    dsm_id from = DSM_ANY;  // whom we listen to: if it dies, we do not wait

    void* allocate(std::size_t size) {
        void* block = dsm_malloc(size);
        expect(block != nullptr, "no memory");
        return block;
    }
    void drop(void* block) { expect(dsm_free(block) == 0, "not ours to drop"); }
    void* address(void* block) { return block; }
    void send(void* block) { expect(dsm_send_wait(peer, block, -1) == 0, "a send failed"); }
    void* receive() {
        dsm_info info{};
        void* block = dsm_recv(from, -1, &info);
        expect(block != nullptr, "a receive failed");
        peer = info.sender;
        return block;
    }
    static const Node* node(std::uint64_t handle) { return reinterpret_cast<const Node*>(handle); }
    std::uint64_t walk_list(std::uint64_t handle) {
        std::uint64_t sum = 0;
        for (; handle != 0; handle = node(handle)->left) sum += node(handle)->value;
        return sum;
    }
    std::uint64_t walk_tree(std::uint64_t handle) {
        if (handle == 0) return 0;
        const Node* n = node(handle);
        return n->value + walk_tree(n->left) + walk_tree(n->right);
    }
};

/// Builds in one block whose first node's place has the message, or, `apart`, in a block a node. A
/// receiver can access the chunks in which it was sent an object, so it gets one of each chunk.
Times structure(OurEnd& end, Command command, std::uint64_t count, unsigned height, bool apart) {
    std::vector<void*> blocks;
    blocks.reserve(apart ? count : 0);
    const double begin = thread_ns();
    void* message = end.allocate((apart ? 1 : count + 1) * sizeof(Node));
    Node* free_node = static_cast<Node*>(message) + 1;
    const auto make = [&]() -> Made {
        Node* node = free_node;
        if (apart) {
            node = static_cast<Node*>(end.allocate(sizeof(Node)));
            blocks.push_back(node);
        } else {
            ++free_node;
        }
        return {reinterpret_cast<std::uint64_t>(node), node};
    };
    std::uint64_t number = 0;
    const std::uint64_t root =
        command == Command::walk_tree ? build_tree(height, number, make) : build_list(count, make);
    const double built = thread_ns();
    std::vector<void*> one_a_chunk;
    std::uintptr_t chunk = reinterpret_cast<std::uintptr_t>(message) >> aep::CHUNK_SHIFT;
    for (void* block : blocks) {
        const auto its = reinterpret_cast<std::uintptr_t>(block) >> aep::CHUNK_SHIFT;
        if (its != chunk) one_a_chunk.push_back(block);
        chunk = its;
    }
    const double walked = walk(end, message, command, root, count, one_a_chunk);
    const double begin_drop = thread_ns();
    for (void* block : blocks) end.drop(block);
    end.drop(message);
    return {built - begin, walked, thread_ns() - begin_drop};
}

/// Resident bytes of this process's mappings where heap metadata lies.
double metadata_bytes() {
    std::FILE* smaps = std::fopen("/proc/self/smaps", "re");
    expect(smaps != nullptr, "no /proc/self/smaps");
    char line[512];
    bool inside = false;
    double bytes = 0;
    while (std::fgets(line, sizeof line, smaps) != nullptr) {
        unsigned long long from = 0;
        unsigned long long to = 0;
        unsigned long long rss = 0;
        if (std::sscanf(line, "%llx-%llx ", &from, &to) == 2) {
            const bool descriptors =
                from >= aep::DESCS_BASE &&
                to <= aep::DESCS_BASE + aep::MAX_SLICES * sizeof(aep::PageDesc);
            inside =
                descriptors || (from >= aep::META_BASE && to <= aep::META_BASE + aep::META_WINDOW);
        } else if (inside && std::sscanf(line, "Rss: %llu", &rss) == 1) {
            bytes += static_cast<double>(rss) * 1024;
        }
    }
    std::fclose(smaps);
    return bytes;
}

void metadata(unsigned objects) {
    for (const std::size_t size : {64, 256, 1024}) {
        std::vector<void*> blocks(objects);
        const double before = metadata_bytes();
        for (void*& block : blocks) block = std::malloc(size);
        const double after = metadata_bytes();
        expect(blocks.back() != nullptr && before > 0, "no memory, or no metadata found");
        print(("bytes_" + std::to_string(size)).c_str(), (after - before) / objects);
        for (void* block : blocks) std::free(block);
    }
}

int in_one_process(std::string_view what, unsigned n, unsigned latency) {
    Ours ours;
    if (what == "operations") {
        operations(ours, n);
    } else if (what == "flushed") {
        Flushed flushed;
        unsigned a = 0, b = 0, c = 0, d = 0;
        flushed.memory.clwb = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b >> 24 & 1) != 0;
        flushed.wait = static_cast<aep::u64>(latency * aep::flat::ticks_per_ns());
        operations(flushed, n);
    } else if (what == "refills") {
        refills(ours, n, aep::flat::ticks_per_ns());
    } else if (what == "transfers") {
        attach(nullptr);
        ours.self = dsm_self();
        transfers(ours, n);
    } else if (what == "threadtest") {
        threadtest(
            n, 40, [&ours](unsigned) -> Ours& { return ours; });
    } else if (what == "survivor") {
        const double begin = now_ns();
        std::printf("begin_ns %.0f\n", begin);
        std::fflush(stdout);
        survive(ours, n, begin).print_all();
    } else if (what == "metadata") {
        metadata(n);
    } else {
        return 2;
    }
    return 0;
}

int with_peer(std::string_view what, unsigned n, const char* peer) {
    OurEnd end;
    bind_to_processor(what == "serve" ? 1 : 0);
    if (what == "serve") {
        attach(peer);
        std::puts("ready");
        std::fflush(stdout);
        serve(end);
        return 0;
    }
    attach(nullptr);
    end.peer = end.from = dsm_lookup(peer);
    expect(end.peer != 0, "no such peer");
    const bool apart = what.ends_with("_blocks");
    if (what == "rpc") {
        rpc(end, n);
    } else if (what == "stream") {
        stream(end, n);
    } else if (what.starts_with("list")) {
        print_structure(
            n, [&] { return structure(end, Command::walk_list, n, 0, apart); });
    } else if (what.starts_with("tree")) {
        const std::uint64_t nodes = (std::uint64_t{2} << n) - 1;
        print_structure(nodes, [&] { return structure(end, Command::walk_tree, nodes, n, apart); });
    } else {
        return 2;
    }
    void* last = new_message(end, Command::end);
    end.send(last);
    end.drop(last);
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int status = 2;
    if (count == 4 || count == 5) {
        const unsigned n = static_cast<unsigned>(std::strtoul(arguments[2], nullptr, 10));
        const char* peer = arguments[3];
        const unsigned latency =
            count == 5 ? static_cast<unsigned>(std::strtoul(arguments[4], nullptr, 10)) : 0;
        status = *peer == '-' ? in_one_process(arguments[1], n, latency)
                              : with_peer(arguments[1], n, peer);
    }
    if (status == 2) std::fputs("usage: aep_bench_dsm CASE N PEER|- [LATENCY_NS]\n", stderr);
    return status;
}
