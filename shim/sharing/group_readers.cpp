// Purpose: see group_readers.hpp.
// Who calls it: see group_readers.hpp.
// Crash rule: see group_readers.hpp.
#include "shim/sharing/group_readers.hpp"

#include "dsm-core/sharing/format.hpp"

namespace aep {
namespace {

std::atomic_ref<u64> word(u64* words, u32 place) { return std::atomic_ref<u64>(words[place]); }

/// Whether that client takes part now; else nobody writes the word any more.
bool is_present(GroupReader reader) {
    if (reader.client() == 0 || reader.client() > context().max_clients) return false;
    const Inbox& main = share_client(reader.client()).inbox;
    return main.open.load() != 0 && main.generation.load() == reader.generation();
}

}  // namespace

u32 GroupReaders::find(u32 client, u32 generation, u64& since) const {
    for (u32 i = 0; i < GROUP_READERS; ++i) {
        const GroupReader seen{word(words_, i).load(std::memory_order_relaxed)};
        if (!seen.is(client, generation)) continue;
        since = seen.since();
        return i;
    }
    return GROUP_READERS;
}

u32 GroupReaders::enter(u32 client, u32 generation) {
    const u64 resting = GroupReader::make(client, generation, NOT_LOOKING).bits;
    for (u32 i = 0; i < GROUP_READERS; ++i) {
        u64 seen = word(words_, i).load(std::memory_order_relaxed);
        if (seen != 0 && is_present({seen})) continue;
        // release: what it has read so far it has read. Another reader may have been faster.
        if (word(words_, i).compare_exchange_strong(seen, resting, std::memory_order_release))
            return i;
    }
    return GROUP_READERS;
}

bool GroupReaders::note(u32 place, u32 client, u32 generation, u64 since) {
    const GroupReader seen{word(words_, place).load(std::memory_order_relaxed)};
    if (!seen.is(client, generation)) return false;
    const u64 noted = GroupReader::make(client, generation, since).bits;
    if (since == NOT_LOOKING)
        word(words_, place).store(noted, std::memory_order_release);  // what it read it has read
    else
        word(words_, place).store(noted, std::memory_order_seq_cst);  // before it reads anything
    return true;
}

GroupReadersSeen GroupReaders::look(uptr group, u32 writer, u64 period) const {
    GroupReadersSeen seen{.question = {.group = group}};
    // Between the stores that unlinked what was freed and the loads that follow.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    for (u32 i = 0; i < GROUP_READERS; ++i) {
        const GroupReader reader{word(words_, i).load(std::memory_order_acquire)};
        if (reader.bits == 0 || reader.client() == writer || !is_present(reader)) continue;
        seen.question.known[i] = static_cast<u16>(reader.client());
        if (reader.since() == NOT_LOOKING) continue;
        seen.all_rest = false;
        if (reader.since() != period) seen.all_recent = false;
    }
    return seen;
}

}  // namespace aep
