// Purpose: writes where the heap's and the context's state lies, as this build has it, for gdb's commands (aep.py): a
//          library without debug information can be looked into all the same.
// Who calls it: the build, which installs what it prints.
// Crash rule: none needed.
#include <cstddef>
#include <cstdio>

#include "dsm-core/context/format.hpp"
#include "dsm-core/heap/arena.hpp"
#include "dsm-core/heap/domain.hpp"
#include "dsm-core/sharing/format.hpp"
#include "shim/watch/inspected.hpp"

namespace {

using namespace aep;

const char* separator = "";

void constant(const char* name, u64 value) {
    std::printf("%s\n  \"%s\": %llu", separator, name, static_cast<unsigned long long>(value));
    separator = ",";
}

void field(const char* name, usize offset, usize size) {
    std::printf("%s\n  \"%s\": [%zu, %zu]", separator, name, offset, size);
    separator = ",";
}

template <class T, class M>
constexpr usize size_of(M T::*) {
    return sizeof(M);  // NOLINT(bugprone-sizeof-expression): of pointers, too
}

// Of types that derive or have private members it is conditionally supported: gcc and clang do.
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
#define FIELD(type, member) field(#type "." #member, offsetof(type, member), size_of(&type::member))
#define CONSTANT(name) constant(#name, static_cast<u64>(name))
#define SIZE(type) constant(#type, sizeof(type))

void heap() {
    CONSTANT(HEAP_BASE);
    CONSTANT(HEAP_WINDOW);
    CONSTANT(SLICE_SHIFT);
    CONSTANT(CHUNK_SHIFT);
    CONSTANT(SLICES_PER_CHUNK);
    CONSTANT(BLOCKS_A_WORD);
    CONSTANT(DOMAINS_BASE);
    CONSTANT(DOMAIN_STRIDE);
    CONSTANT(HEAP_IDS);
    CONSTANT(TAG_OWNER_SHIFT);
    CONSTANT(TAG_KIND_MASK);
    CONSTANT(TAG_PAGE);
    CONSTANT(TAG_TAIL);
    CONSTANT(TAG_LARGE);
    CONSTANT(TAG_RESERVED);
    CONSTANT(TAG_SHARED);
    constant("DESCS", DESCS.base);
    constant("DESCS_STRIDE", DESCS.stride);
    constant("BLOCK_BITS", BLOCK_BITS.base);
    constant("BLOCK_BITS_STRIDE", BLOCK_BITS.stride);
    constant("CHUNK_DESCS", CHUNK_DESCS.base);
    constant("CHUNK_DESCS_STRIDE", CHUNK_DESCS.stride);
    constant("CHUNK_DESC_LINES", 64);  // chunk_desc()
    constant("CHUNK_DESC_LINE", 64);
    FIELD(PageDesc, hand);
    FIELD(PageDesc, hand_base);
    FIELD(PageDesc, block_size);
    FIELD(PageDesc, extended);
    FIELD(PageDesc, tag);
    FIELD(PageDesc, committed);
    FIELD(PageDesc, slices);
    FIELD(PageDesc, capacity);
    FIELD(BlockBits, live);
    FIELD(BlockBits, freed);
    SIZE(BlockBits);
    FIELD(ChunkDesc, free);
    FIELD(ChunkDesc, dirty);
    FIELD(ChunkDesc, holder);
    FIELD(Domain, heaps_used);
    FIELD(Domain, abandoned_count);
}

void watching() {
    constant("INSPECTED_MAGIC", Inspected::MAGIC);
    SIZE(Inspected);
    FIELD(Inspected, magic);
    FIELD(Inspected, bytes);
    FIELD(Inspected, domain);
    FIELD(Inspected, window_slices);
    FIELD(Inspected, watch);
    FIELD(Watch, on);
    FIELD(Watch, rate);
}

void context_and_sharing() {
    CONSTANT(CONTROL_BASE);
    CONSTANT(CONTEXT_MAGIC);
    CONSTANT(CONTEXT_VERSION);
    CONSTANT(CONTEXT_CONSTANTS_BYTES);
    CONSTANT(SLOT_STRIDE);
    FIELD(ContextConstants, magic);
    FIELD(ContextConstants, version);
    FIELD(ContextConstants, name);
    FIELD(ContextConstants, max_clients);
    FIELD(ContextConstants, max_slots);
    FIELD(ContextConstants, chunk_count);
    FIELD(ContextConstants, era_objects);
    FIELD(ContextConstants, clients_offset);
    FIELD(ContextConstants, slots_offset);
    FIELD(ContextWords, state);
    FIELD(ContextWords, provider);
    SIZE(ClientEntry);
    FIELD(ClientEntry, state);
    FIELD(ClientEntry, pid);
    FIELD(ClientEntry, name);
    FIELD(ClientEntry, chunks);
    FIELD(Slot, sequence);
    FIELD(Slot, op);
    FIELD(Slot, owner);
    FIELD(Slot, tid);
    FIELD(Slot, completer);
    FIELD(Slot, operations);
    CONSTANT(SHARE_OFFSET);
    CONSTANT(SHARE_HEADER_AT);
    // They begin at the same place in every context.
    constant("SHARE_CLIENTS", share_layout(1, 1, 1, 0).clients);
    SIZE(ShareClient);
    FIELD(ShareClient, inbox);
    FIELD(Inbox, open);
    FIELD(Inbox, messages);
    FIELD(ShareClient, exports);
    FIELD(ShareClient, foreign);
    FIELD(ShareClient, groups);
    FIELD(ShareClient, objects_held);
    FIELD(ShareClient, sent);
    FIELD(ShareClient, received);
    FIELD(ShareClient, name_words);
}

}  // namespace

int main() {
    std::printf("{");
    heap();
    watching();
    context_and_sharing();
    std::printf(",\n  \"operations\": [");
    // By number; none has "".
    constexpr u32 MOST = 256;
    for (u32 i = 0; i < MOST; ++i)
        std::printf("%s\"%s\"", i == 0 ? "" : ", ", is_operation(i) ? name_of(i) : "");
    std::printf("]\n}\n");
    return std::fflush(stdout) == 0 ? 0 : 1;
}
