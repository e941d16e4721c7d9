// Purpose: fuzz target: the tables that nodes share, written over anywhere, neither end who uses
//          them nor lead him out of them.
// Who calls it: ci/fuzz.sh; build/fuzz/tests/fuzz/fuzz_era.
// Crash rule: the tables lie between pages without access: whoever leaves them ends.
//
// An input edits the tables of three nodes at work (a byte of part, then input.hpp's edit), up to
// 32 times. Then node 1 sends, receives and releases, recovers node 0, node 2 undoes its own former
// life, and both are checked.
#include <sys/mman.h>

#include "dsm-core/era/mailbox.hpp"
#include "dsm-core/era/recovery.hpp"
#include "dsm-core/era/region.hpp"
#include "tests/fuzz/fuzz_host.hpp"
#include "tests/fuzz/input.hpp"

namespace aep::era {
namespace {

constexpr Shape SHAPE{.nodes = 3, .lanes = 2, .refs = 6, .objects = 6, .slots = 4, .clients = 2};
constexpr Layout AT = layout_of(SHAPE);
constexpr usize GUARD = 16 * MiB;

u8* tables_between_guards() {
    const usize bytes = round_up(AT.bytes, OS_PAGE_SIZE);
    void* at = mmap(nullptr, bytes + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    u8* const begin = static_cast<u8*>(at) + GUARD;
    if (at == MAP_FAILED || mprotect(begin, bytes, PROT_READ | PROT_WRITE) != 0)
        fuzz::broken("no memory");
    return begin + bytes - AT.bytes;  // the end is exact
}

/// Nodes 0, 1 and 2 live and hold an object each; a message is under way from 0 to 1.
void make_sound(LocalMemory& m, const Tables& t, NodeWord (&words)[3]) {
    std::memset(t.base, 0, AT.bytes);
    for (u32 i = 0; i < SHAPE.nodes; ++i) {
        words[i] = join(m, t, i);
        Lane(m, t, i, 0, words[i]).create(i * 2, i * 2);
        t.object(i * 2).serial = 1;
        t.object(i * 2).address = HEAP_BASE + i * CHUNK_SIZE;
        t.object(i * 2).bytes = 64;
    }
    Lane sender(m, t, 0, 0, words[0]);
    send(sender, 1, 0, {1, 2});
}

void damage(fuzz::Input& input, const Tables& t) {
    const usize parts[][2] = {
        {0, AT.lanes},          {AT.lanes, AT.seen},        {AT.seen, AT.refs}, {AT.refs, AT.rings},
        {AT.rings, AT.objects}, {AT.objects, AT.directory}, {0, AT.bytes}};
    for (u32 i = 0; i < 32 && !input.empty(); ++i) {
        const auto& part = parts[input.take<u8>() % 7];
        fuzz::edit(input, t.base + part[0], part[1] - part[0]);
    }
}

/// One input.
void run(const u8* data, usize bytes) {
    static u8* const base = tables_between_guards();
    LocalMemory m;
    const Tables t = tables_at(base, SHAPE);
    NodeWord words[3];
    make_sound(m, t, words);
    fuzz::Input input(data, bytes);
    damage(input, t);
    // Itself a node is that recovers: its own word may have been written over, too.
    words[1] = NodeWord::make(NodeState::live, words[1].generation());
    t.node(1) = words[1].bits;

    const Disposal disposal{nullptr,
                            [](void*, u32 object) {
                                if (object >= SHAPE.objects) fuzz::broken("no such object");
                            },
                            [](void*, u32) { return true; },
                            [](void*, const Damage& d) {
                                if (d.offset >= AT.bytes) fuzz::broken("damage outside");
                            }};
    Lane lane(m, t, 1, 0, words[1]);
    u32 object = 0;
    receive(lane, 0, 1, object);
    send(lane, 2, 2, {3, 4});
    for (u32 i = 0; i < SHAPE.refs; ++i)
        if (lane.release(i) == Status::last) lane.reclaimed();
    each_message_to(m, t, 1, 0, [](const RemoteMessage& w) { return w.from > 77; });
    Lane recoverer(m, t, 1, SHAPE.lanes - 1, words[1]);
    Recovery<LocalMemory> recovery(recoverer, disposal);
    recovery.recover(0);
    if (t.node(1).load() == words[1].bits &&
        NodeWord{t.node(0).load()}.state() != NodeState::free && recovery.recover(0) == Status::ok)
        fuzz::broken("a recovered node is not free");
    recover_former(m, t, 2, disposal);
    each_damage(
        m, t,
        [](const Damage& d) {
            if (d.offset >= AT.bytes) fuzz::broken("damage outside");
        });
    each_living_span(t, 4, [](u32 first, u32 end) {
        if (first >= end || end > 4) fuzz::broken("a span outside");
    });
}

}  // namespace
}  // namespace aep::era

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, size_t bytes) {
    aep::era::run(data, bytes);
    return 0;
}
