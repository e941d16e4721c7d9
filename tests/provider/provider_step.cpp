// Purpose: a client is killed at every instruction that its operations execute in the image, each
//          of them once, by single steps; every operation is completed and the heap is sound.
// Who calls it: ctest, label provider.

#include <functional>
#include <set>
#include <vector>

#include "dsm-core/context/node_ops.hpp"
#include "tests/provider/stepper.hpp"

namespace aep::test {
namespace {

/// A way to one operation: what leads to it runs untraced.
struct Way {
    const char* name;
    std::function<void(Session&)> go;
    // What the client did before is lost with it unless the operation begins: it dies later.
    bool only_open = false;
};

Heap* heap_of(Session& session) {
    // The former victim's: there is one thread at a time.
    return session.heaps[0] != nullptr ? session.heaps[0] : take_heap(session, 0);
}

[[maybe_unused]] void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }

PageDesc* new_page(Heap* heap, u32 size_class) {
    const Run run = take_run(0, heap, 1);
    const auto reply =
        perform_in_image(0, op::Refill{.heap = heap, .size_class = size_class, .run = run});
    return reply.page;
}

/// A malloc from the page: the bit of the block, which nobody touches.
u32 page_pop_one(PageDesc* d) {
    uptr block = base_of(d);
    page_take(d, block);
    return block_index(static_cast<u32>(block - base_of(d)), d->magic);
}

const Way WAYS[] = {
    {"acquire_heap", [](Session&) { traced(op::AcquireHeap{}); }},
    {"abandon_heap",
     [](Session& s) {
         Heap* heap = take_heap(s, 0);
         new_page(heap, 4);
         s.heaps[0] = nullptr;
         traced(op::AbandonHeap{.heap = heap, .now = 1});
     }},
    {"take_run",
     [](Session& s) {
         perform_in_image(0, op::GiveRun{.first = take_run(0, nullptr, 3).first, .slices = 3});
         traced(op::TakeRun{.heap = heap_of(s), .slices = 3, .alignment = 1});
     }},
    {"take_run across chunks",
     [](Session& s) { traced(op::TakeRun{.heap = heap_of(s), .slices = 70, .alignment = 1}); }},
    {"give_run",
     [](Session&) {
         const Run run = take_run(0, nullptr, 2);
         traced(op::GiveRun{.first = run.first, .slices = 2, .now = 1});
     }},
    {"refill with a run",
     [](Session& s) {
         Heap* heap = heap_of(s);
         const Run run = take_run(0, heap, 1);
         traced(op::Refill{.heap = heap, .size_class = 9, .run = run});
     }},
    {"refill with a chunk",
     [](Session& s) {
         op::Refill ask{.heap = heap_of(s), .size_class = 9, .fresh = true};
         const auto claimed = perform_in_image(0, op::ClaimChunks{.count = 1});
         ask.chunks = {.first = claimed.first, .count = 1, .committed = true};
         traced(ask);
     }},
    {"refill", [](Session& s) { traced(op::Refill{.heap = heap_of(s), .size_class = 9}); }},
    {"refill that adopts",
     [](Session& s) {
         Heap* other = take_heap(s, 0);
         page_pop_one(new_page(other, 20));
         Heap* heap = take_heap(s, 0);
         perform_in_image(0, op::AbandonHeap{.heap = other});
         traced(op::Refill{.heap = heap, .size_class = 30});
     }},
    {"queue_page",
     [](Session& s) {
         PageDesc* d = new_page(take_heap(s, 0), 6);
         page_mark_remote(d, page_pop_one(d));
         traced(op::QueuePage{.page = d});
     }},
    {"trim with remote frees",
     [](Session& s) {
         Heap* heap = take_heap(s, 0);
         PageDesc* d = new_page(heap, 6);
         page_pop_one(d);
         page_mark_remote(d, page_pop_one(d));
         perform_in_image(0, op::QueuePage{.page = d});
         traced(op::Trim{.heap = heap, .now = 1});
     }},
    {"refile_page",
     [](Session& s) {
         Heap* heap = take_heap(s, 0);
         PageDesc* d = new_page(heap, 50);
         u32 index = 0;
         do {
             while (page_hand(d) != 0) index = page_pop_one(d);
         } while (perform_in_image(0, op::Refill{.heap = heap, .size_class = 50}).status ==
                  Status::ok);
         page_clear_bit(d, index);
         page_regain(d);
         traced(op::RefilePage{.heap = heap, .page = d, .now = 1});
     },
     true},
    {"make_large",
     [](Session&) {
         const Run run = take_run(0, nullptr, 2);
         traced(op::MakeLarge{.run = run});
     }},
    {"free_large",
     [](Session&) {
         const Run run = take_run(0, nullptr, 2);
         perform_in_image(0, op::MakeLarge{.run = run});
         traced(op::FreeLarge{.address = run.address(), .now = 1});
     }},
    {"grow_large",
     [](Session&) {
         const Run run = take_run(0, nullptr, 2);
         perform_in_image(0, op::MakeLarge{.run = run});
         traced(op::GrowLarge{.address = run.address(), .slices = 3});
     }},
    {"trim",
     [](Session& s) {
         Heap* heap = heap_of(s);
         new_page(heap, 15);
         traced(op::Trim{.heap = heap, .now = 1});
     }},
    {"take_back",
     [](Session& s) {
         Heap* heap = take_heap(s, 0);
         PageDesc* d = new_page(heap, 50);
         do {
             while (page_hand(d) != 0) page_pop_one(d);
         } while (perform_in_image(0, op::Refill{.heap = heap, .size_class = 50}).status ==
                  Status::ok);
         for (u32 i = 0; i < d->capacity; ++i) page_mark_remote(d, i);
         perform_in_image(0, op::QueuePage{.page = d});
         traced(op::TakeBack{.heap = heap, .now = 1});
     }},
    {"begin_purge",
     [](Session&) {
         const Run run = take_run(0, nullptr, 2);
         perform_in_image(0, op::GiveRun{.first = run.first, .slices = 2, .now = 1});
         traced(op::BeginPurge{.decay_ms = 0, .now = 100});
     }},
    {"claim_chunks", [](Session&) { traced(op::ClaimChunks{.count = 1}); }},
    {"claim_chunks aligned", [](Session&) { traced(op::ClaimChunks{.count = 2, .alignment = 2}); }},
    {"claim_chunks in vain",
     [](Session&) {
         // The second of the two is the client's already: the first one goes back.
         perform_in_image(0, op::ClaimChunks{.count = 1, .at = ChunkIndex{1}});
         traced(op::ClaimChunks{.count = 2, .at = ChunkIndex{0}});
     }},
    {"return_chunk clean",
     [](Session&) {
         const auto claimed = perform_in_image(0, op::ClaimChunks{.count = 1});
         traced(op::ReturnChunk{.chunk = claimed.first, .clean = true});
     }},
    {"return_chunk to the cache",
     [](Session&) {
         const auto claimed = perform_in_image(0, op::ClaimChunks{.count = 1});
         traced(op::ReturnChunk{.chunk = claimed.first, .clean = false});
     }},
    {"add_chunks",
     [](Session&) {
         const auto claimed = perform_in_image(0, op::ClaimChunks{.count = 1});
         traced(op::AddChunks{.first = claimed.first, .count = 1, .committed = true});
     }},
};

class ProviderStep : public ::testing::TestWithParam<Way> {};

TEST_P(ProviderStep, KilledAtEveryInstruction) {
    AEP_NEED_EBPF();
    const Way way = GetParam();
    Node node(Node::With::provider, 8 * GiB);
    std::set<u64> killed_at;
    u32 kills = 0, open = 0, longest = 0;
    // Each victim dies at the first instruction, counted from the beginning, where none died yet;
    // the last one finds none and leaves the image.
    for (bool found = true; found;) {
        Stepper victim(node, [&] { way.go(*node.session); });
        ASSERT_TRUE(victim.alive()) << "the way to the operation failed";
        found = false;
        u32 steps = 0;
        for (; victim.inside(); ++steps) {
            const bool too_early = way.only_open && slot_at(0).sequence % 2 == 0 && steps < 10;
            if (!too_early && killed_at.insert(victim.rip()).second) {
                found = true;
                break;
            }
            ASSERT_TRUE(victim.step());
        }
        longest = std::max(longest, steps);
        victim.kill_it();
        ++kills;
        open += node.recover();
        ASSERT_FALSE(HasFailure()) << way.name << ", after " << steps << " steps";
    }
    printf("%s: killed at %zu instructions (up to %u steps in); %u open operations completed\n",
           way.name, killed_at.size(), longest, open);
    EXPECT_GT(open, 10u);
    EXPECT_GE(open + 6,
              kills);  // all but those before the first and after the last change of the sequence
}

INSTANTIATE_TEST_SUITE_P(Ways, ProviderStep, ::testing::ValuesIn(WAYS), [](const auto& each) {
    std::string name = each.param.name;
    for (char& c : name)
        if (c == ' ') c = '_';
    return name;
});

}  // namespace
}  // namespace aep::test
