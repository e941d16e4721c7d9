// Purpose: fuzz target: what clients write into the context, and what a completer writes into the
//          host's slot, neither ends the host nor leads it to a wrong address.
// Who calls it: ci/fuzz.sh; build/fuzz/tests/fuzz/fuzz_context.
// Crash rule: the host's memory is put back after each input.
//
// An input edits what clients can write (a byte of region, then input.hpp's edit), up to 24 times;
// the rest says what comes of the host's operations. Then the host tells who shares what, takes dead clients back, sweeps,
// lets one in, checks.
#include <errno.h>
#include <sys/mman.h>

#include <map>
#include <vector>

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/op/heap_ops.hpp"
#include "dsm-core/sharing/share_ops.hpp"
#include "dsm-core/sharing/topics.hpp"
#include "node/believed.hpp"
#include "tests/fuzz/fuzz_host.hpp"
#include "tests/fuzz/input.hpp"

namespace {

using namespace aep;

/// The provider's side: any outcome, any reply.
class AnyCompletion final : public Completion {
  public:
    SlotOutcome complete(u32 slot) override {
        if (slot >= context().max_slots) fuzz::broken("asked for a slot that is none");
        return outcome();
    }
    SlotOutcome begin_operation(u32 slot) override {
        if (slot != host_slot()) fuzz::broken("began in another slot");
        const Done status{static_cast<aep::Status>(input->take<u8>() % 3)};
        const u64 rest = fuzz::strange(*input);
        u8(&reply)[MESSAGE_BYTES.reply] = slot_at(slot).reply;
        for (usize at = 0; at < sizeof reply; at += sizeof rest)
            std::memcpy(reply + at, &rest, sizeof rest);
        std::memcpy(reply, &status, sizeof status);
        const SlotOutcome o = outcome();
        if (o == SlotOutcome::completed) slot_at(slot).sequence.fetch_add(2);
        return o;
    }
    bool performs_here() const override { return false; }

    fuzz::Input* input = nullptr;

  private:
    SlotOutcome outcome() {
        constexpr SlotOutcome OUTCOMES[] = {SlotOutcome::completed, SlotOutcome::completed,
                                            SlotOutcome::pending, SlotOutcome::no_capture};
        return OUTCOMES[input->take<u8>() % 4];
    }
};

/// A part of memory that clients write, and what was in it.
struct Region {
    u8* at;
    std::vector<u8> sound;

    Region(const void* address, usize bytes)
        : at(static_cast<u8*>(const_cast<void*>(address))), sound(at, at + bytes) {}
    void restore() const { std::memcpy(at, sound.data(), sound.size()); }
};

struct World {
    fuzz::Folder folder{"context"};
    AnyCompletion completion;
    NodeHost host{folder.options("c"), completion, fuzz::silent()};
    std::vector<Region> regions;
    ContextConstants constants = context();

    World() {
        host.set_provider(Provider::ebpf);  // what is not completed is undone
        // A client that is dead: recovery has something to do.
        ClientEntry& entry = client_at(1);
        entry.state = static_cast<u32>(ClientState::live);
        entry.generation = 1;
        slot_at(0).owner = SlotOwner::make(1, 1).bits;
        chunk_owner(2) = 1;
        share();
        const auto add = [&](const void* at, usize bytes) { regions.emplace_back(at, bytes); };
        add(&context().node, sizeof(ContextWords));
        add(&client_at(0), (context().max_clients + 1) * sizeof(ClientEntry));
        add(&slot_at(0), context().max_slots * SLOT_STRIDE);
        add(&chunk_owner(0), context().chunk_count * sizeof(u32));
        add(&log_ring(), sizeof(LogRing));
        add(&sharing(), sizeof(ShareHeader));
        add(&undo_log_of(0), sizeof(UndoLog));
        add(&undo_log_of(host_slot()), sizeof(UndoLog));
        add(&share_client(0), (context().max_clients + 1) * sizeof(ShareClient));
        add(&chunk_exports(0), context().chunk_count * sizeof(u32));
        add(&export_at(0), 64 * sizeof(Export));
        add(&holder_at(0), 64 * sizeof(Holder));
        add(ring_of(1), 4096);
        add(chunk_desc(ChunkIndex{2}), sizeof(ChunkDesc));
        add(desc_of(first_slice(ChunkIndex{2})), SLICES_PER_CHUNK * DESCS.stride);
        add(&host.pool().tables.words[0], host.pool().tables.chunk_count * sizeof(u64));
        add(&host.pool().tables.nodes[0], host.pool().tables.node_count * sizeof(PoolNodeEntry));
        // And those parts of them that the dead client leads the host to: an edit of all of a table rarely finds one.
        add(&slot_at(0), sizeof(Slot));
        add(&slot_at(host_slot()), sizeof(Slot));
        add(&client_at(1), sizeof(ClientEntry));
        add(&chunk_owner(0), 8 * sizeof(u32));
        add(&share_client(1), sizeof(ShareClient));
        add(&undo_log_of(0), CACHE_LINE);
        add(&undo_log_of(0).entries[0], 2 * sizeof(UndoEntry));
        add(&export_at(1), 2 * sizeof(Export));
        add(&holder_at(1), 2 * sizeof(Holder));
        add(&share_client(6), 2 * sizeof(ShareClient));
        add(ring_of(7), 4 * sizeof(Message));
        add(&inbox_at(FIRST_FURTHER), 2 * sizeof(Inbox));
        add(ring_of(FIRST_FURTHER), 2 * sizeof(Message));
        add(&topic_at(first_topic()), 2 * sizeof(Topic));
        add(&topic_user_at(1), 2 * sizeof(TopicUser));
        add(&inbox_at(first_topic()), sizeof(Inbox));
    }

    /// Two that take part, none of them the dead client, whose recovery would wait for an answer that is any, share an
    /// object and a group; the second references wait in a mailbox. The group's memory, which is the pool's, says nonsense.
    void share() {
        const u64 object = HEAP_BASE + 3 * CHUNK_SIZE, group = object + 64 * KiB;
        const auto ask = [](u32 client, const auto& o) {
            if (perform(Caller{client, client}, o).status != Status::ok)
                fuzz::broken("cannot share");
        };
        chunk_owner(3) = 6;
        ask(6, op::AddRecords{.exports = 64, .holders = 64});
        for (const u32 client : {6u, 7u}) ask(client, op::Open{});
        ask(6, op::MakeGroup{.block = group, .bytes = 8 * KiB});
        const ShareId other = id_of(7, share_client(7).inbox.generation);
        ask(6, op::Send{object, other, 1000});
        ask(6, op::Send{group, other, 8 * KiB});
        ask(7, op::OpenInbox{FIRST_FURTHER});
        ask(6, op::Send{object, id_of(FIRST_FURTHER), 1000});
        ask(6, op::OpenTopic{.name = {"topic"}, .topic = first_topic()});
        ask(7, op::OpenTopic{.name = {"topic"}, .topic = first_topic()});
        ask(6, op::Publish{.use = TopicUse::make(1, 1), .object = object, .bytes = 1000});
        std::vector<u64> nonsense(8 * KiB / sizeof(u64), ~u64{0});
        const auto at =
            static_cast<off_t>(host.pool().file.superblock.chunks_offset + (group - HEAP_BASE));
        if (pwrite(host.watched().pool_fd, nonsense.data(), 8 * KiB, at) != 8 * KiB)
            fuzz::broken("cannot write to the pool");
    }
};

/// What is said of who shares what: numbers of things that there are.
void judge(const ObjectSurvey& seen, usize most) {
    if (seen.largest.size() > most) fuzz::broken("more objects are named than were asked for");
    const u64 pool_bytes = u64{context().chunk_count} * CHUNK_SIZE;
    for (const SharedObject& o : seen.largest) {
        if (o.owner > context().max_clients && o.owner != OWNER_ELSEWHERE)
            fuzz::broken("an object is said to be of a client that there is not");
        if (o.writer > context().max_clients) fuzz::broken("a group is written by nobody");
        if (o.deferred > o.bytes) fuzz::broken("more is deferred than there is");
        if (o.extents == 0 && o.bytes > pool_bytes)
            fuzz::broken("an object is larger than the pool");
        if (o.holders > context().max_clients || o.held.size() > o.holders)
            fuzz::broken("more hold an object than there are");
        for (const Held& held : o.held)
            if (held.client == 0 || held.client > context().max_clients)
                fuzz::broken("nobody holds an object");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t bytes) {
    static World* const world = new World;  // a finding ends the process: ci/fuzz.sh cleans up
    static const int at_exit = std::atexit([] { delete world; });
    (void)at_exit;
    World& w = *world;
    for (const Region& region : w.regions) region.restore();
    fuzz::Input input(data, bytes);
    w.completion.input = &input;
    const u32 edits = input.take<u8>() % 24;
    for (u32 i = 0; i < edits && !input.empty(); ++i) {
        const Region& region = w.regions[input.take<u8>() % w.regions.size()];
        fuzz::edit(input, region.at, region.sound.size());
    }
    const fuzz::Quiet quiet;
    judge(w.host.survey_objects(3, 2'000'000), 3);
    w.host.poison_text();
    for (u32 i = 1; i <= context().max_clients; ++i) facts_of(i);
    w.host.recover(1);
    w.host.sweep(input.take<u16>());
    AskMessage ask{};
    ask.slot = input.take<u32>() % 32;
    const AnswerMessage answer = w.host.complete_slot(static_cast<pid_t>(input.take<u16>()), ask);
    if (ask.slot >= context().max_slots && answer.error != EINVAL)
        fuzz::broken("a slot that there is not was looked at");
    ask.magic = PROTOCOL_MAGIC;
    ask.version = PROTOCOL_VERSION;
    ask.layout_hash = CONTEXT_LAYOUT_HASH;
    ask.image_hash = BUILT_IMAGE_HASH;
    std::memset(ask.name, input.take<u8>(), sizeof ask.name);
    {
        const Admission admission = w.host.admit(getpid(), geteuid(), ask);
        if (admission.answer.error == 0 && admission.answer.client > context().max_clients)
            fuzz::broken("admitted as nobody");
    }
    w.host.sweep(60'000);
    w.host.check(5'000'000);
    for (u32 i = 0; i < context().max_slots; ++i)
        if (owner_of(slot_at(i)).client() > context().max_clients)
            fuzz::broken("a slot is said to be of a client that there is not");
    if (std::memcmp(&w.constants, &context(), sizeof w.constants) != 0)
        fuzz::broken("a constant has changed");
    return 0;
}
