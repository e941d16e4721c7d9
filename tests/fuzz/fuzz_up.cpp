// Purpose: fuzz target: a pool that was written over is refused with a reason, or served: it never
//          ends the daemon that takes it into use, nor those of the other nodes.
// Who calls it: ci/fuzz.sh; build/fuzz/tests/fuzz/fuzz_up.
// Crash rule: what a finding leaves is in a folder that ci/fuzz.sh removes.
//
// An input edits a pool of 64 MiB in which node 1 died at work (a byte of part, then input.hpp's
// edit), up to 16 times; bit 7 of the first byte makes the superblock's checksum right afterwards.
// Then node 2 takes the pool into use, recovers, checks and leaves.
#include <sys/mman.h>

#include <vector>

#include "dsm-core/era/mailbox.hpp"
#include "node/node_error.hpp"
#include "tests/fuzz/fuzz_host.hpp"
#include "tests/fuzz/input.hpp"

namespace {

using namespace aep;

NodeOptions node_in(const fuzz::Folder& folder, u32 node) {
    NodeOptions options = folder.options("n" + std::to_string(node));
    options.pool = folder.path() + "/pool";
    options.nodes.node = node;
    return options;
}

/// The pool's tables as node 1 left them.
struct World {
    fuzz::Folder folder{"up"};
    u8* at = nullptr;
    Superblock superblock;
    std::vector<u8> sound;
    NoCompletion completion;

    World() {
        const fuzz::Quiet quiet;
        {
            NodeHost host(node_in(folder, 0), completion, fuzz::silent());
            superblock = host.pool().file.superblock;
            const int fd = open((folder.path() + "/pool").c_str(), O_RDWR | O_CLOEXEC);
            void* mapped = mmap(nullptr, end(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            close(fd);
            if (mapped == MAP_FAILED) fuzz::broken("cannot map the pool");
            at = static_cast<u8*>(mapped);
            const era::Tables& t = host.membership()->tables();
            era::LocalMemory m;
            era::Lane lane(
                m, t, 0, 0,
                era::NodeWord::make(era::NodeState::live, host.membership()->generation()));
            lane.create(0, 0);
            lane.create(3, 3);
        }
        sound.assign(at, at + end());
    }
    usize end() const { return superblock.era_offset + superblock.era_bytes; }

    void damage(fuzz::Input& input) {
        const era::Layout l = era::layout_of(superblock.era);
        const usize era = superblock.era_offset;
        const usize parts[][2] = {{0, offsetof(Superblock, reserved)},
                                  {superblock.nodes_offset, 1024},
                                  {superblock.chunk_words_offset, superblock.chunk_count * 8},
                                  {era, l.lanes},
                                  {era + l.lanes, 16 * sizeof(era::LaneEntry)},
                                  {era + l.refs, 1024},
                                  {era + l.rings, 16 * l.ring},
                                  {era + l.objects, 1024},
                                  {era + l.directory, 1024}};
        const u8 first = input.take<u8>();
        for (u32 i = 0; i < first % 16u && !input.empty(); ++i) {
            const auto& part = parts[input.take<u8>() % std::size(parts)];
            fuzz::edit(input, at + part[0], part[1]);
        }
        if ((first & 0x80) != 0) {
            Superblock& s = *reinterpret_cast<Superblock*>(at);
            s.checksum = fnv1a(at, offsetof(Superblock, checksum));
        }
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t bytes) {
    static World* const world = new World;
    static const int at_exit = std::atexit([] { delete world; });
    (void)at_exit;
    World& w = *world;
    std::memcpy(w.at, w.sound.data(), w.sound.size());
    fuzz::Input input(data, bytes);
    w.damage(input);
    const fuzz::Quiet quiet;
    NodeOptions options = node_in(w.folder, 1);
    try {
        NodeHost host(options, w.completion, fuzz::silent());
        for (u64 now = 1; now < 4; ++now) host.sweep(now * 1000);
        host.check(5'000'000);
    } catch (const NodeError&) {
    }
    std::filesystem::remove_all(options.paths.directory);
    return 0;
}
