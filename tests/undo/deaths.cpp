// Purpose: see deaths.hpp.
// Who calls it: see deaths.hpp.
// Crash rule: see deaths.hpp.
#include "tests/undo/deaths.hpp"

#include <algorithm>

#include "dsm-core/sharing/away.hpp"
#include "dsm-core/sharing/topics.hpp"
#include "dsm-core/sharing/undo.hpp"
#include "tests/node/sharing_tables.hpp"

namespace aep::test {
namespace {

/// Whether the log of the operation that is under way tells of the word.
bool is_logged(uptr address) {
    const UndoLog& log = undo_log();
    for (u32 i = 0; i < log.length; ++i) {
        const UndoEntry& entry = log.entries[i];
        if (address - entry.address() < entry.size()) return true;
    }
    return false;
}

/// Of a dead slot that was recovered.
std::string what_is_left(u32 slot) {
    if (slot_at(slot).owes.load() != 0) return "a debt";
    if (slot_at(slot).turns.load() % 2 != 0) return "a turn";
    if (sharing().names_version.load() % 2 != 0) return "a change of names";
    const auto held = [](const SlotLock& lock) { return lock.holder() != SlotLock::NO_SLOT; };
    const ShareHeader& s = sharing();
    if (held(s.names) || held(s.records) || held(s.numbers) || held(s.lingering)) return "a lock";
    for (u32 i = 0; i <= context().max_clients; ++i)
        if (share_client(i).lock.is_held() || held(share_client(i).inbox.lock))
            return "a client's lock";
    for (u32 i = 0; i < MOST_TOPICS; ++i)
        if (held(inbox_at(first_topic() + i).lock)) return "a topic's lock";
    for (u32 i = 0; i < STRIPES; ++i)
        if (held(stripe_at(i).lock)) return "a stripe's lock";
    for (u32 i = 0; i <= s.exports_used; ++i)
        if (held(export_at(i).lock)) return "an export's lock";
    return walk();
}

}  // namespace

void recover_slots(u32 victim) {
    // One that died in recovery comes first: it may hold what the other's needs.
    for (const u32 slot : {host_slot(), victim}) {
        undo_operation(slot, [](uptr, u64) { return true; });
        if (shares_between_nodes()) {
            settle_lanes(slot, pin_of(slot));
            if (pin_of(slot) != NO_RECORD || may_have_told_a_name(slot))
                perform(Caller{0, host_slot()}, op::FinishAway{.slot = slot});
        }
        pay_what_is_owed(slot);
        give_forgotten_chunks();
    }
}

void Exhaustion::fault(const Step& step, u64 at, const std::string& what) {
    faults.push_back(std::string(step.name) + ", dead at store " + std::to_string(at) + ": " +
                     what);
}

/// A store to a word that something reads must be in the log before.
void Exhaustion::judge(const Step& step, const Words& before, const Store& store) {
    const auto word =
        std::lower_bound(before.begin(), before.end(), std::pair(store.address, u64{0}));
    if (word == before.end() || word->first != store.address) return;
    ++stores;
    const bool of_sharing = store.address - CONTROL_BASE < CONTROL_WINDOW;
    const bool of_owners = store.address >= reinterpret_cast<uptr>(&chunk_owner(0)) &&
                           store.address < reinterpret_cast<uptr>(&chunk_owner(0)) +
                                               context().chunk_count * sizeof(u32);
    const bool of_lanes =
        pool && store.address >= reinterpret_cast<uptr>(&lane_taken(0)) &&
        store.address < reinterpret_cast<uptr>(&lane_taken(0)) + MAX_LANES * CACHE_LINE;
    if (!of_sharing || of_owners || of_lanes || is_logged(store.address)) return;
    fault(step, test::stores.count(), "the log does not tell of " + place_of(store.address));
}

/// What the tables say when the dead slot is recovered; of a client that leaves, when it has left.
Words Exhaustion::recovered(const Caller& caller, const Step& step) {
    recover_slots(caller.slot);
    if (step.leaves)
        while (step.perform(caller) == Status::ok) continue;
    return live_words(pool);
}

Status Exhaustion::run(const Step& step) {
    Stores& s = test::stores;
    step.enter();
    const auto perform = [&] { step.perform(step.caller); };
    const usize begin = s.mark();
    const Words before = live_words(pool);
    Words judged = supply_words();
    judged.insert(judged.end(), before.begin(), before.end());
    std::sort(judged.begin(), judged.end());
    // How many stores it has, and what it leaves.
    s.run(perform, 0, [&](const Store& store) { judge(step, judged, store); });
    const u64 count = s.count();
    Words after;
    s.run([&] { after = recovered(step.caller, step); });
    s.take_back(begin);
    if (const std::string left = difference(before, live_words(pool)); !left.empty())
        fault(step, 0, "the test cannot take it back: " + left);
    bool happened = false;
    for (u64 at = 1; at <= count; ++at) {
        if (s.run(perform, at)) {
            fault(step, at, "it came to its end");
            break;
        }
        ++deaths;
        const usize died = s.mark();
        s.run([&] { recover_slots(step.caller.slot); });
        const u64 recovery = s.count();
        Words found;
        if (!s.run([&] { found = recovered(step.caller, step); })) {
            fault(step, at, "recovery does not end");
            s.take_back(begin);
            continue;
        }
        const std::string undone = difference(before, found);
        const std::string done = difference(after, found);
        if (!undone.empty() && !done.empty())
            fault(step, at, "neither undone (" + undone + ") nor done (" + done + ")");
        else if (happened && !done.empty())
            fault(step, at, "it had happened before");
        happened = happened || done.empty();
        if (const std::string left = what_is_left(step.caller.slot); !left.empty())
            fault(step, at, left + " is left");
        s.take_back(died);
        // What a dead client has is given up in many like steps: some of them will do.
        const u64 sample = step.leaves ? 16 * every_recovery : every_recovery;
        for (u64 j = 1; at % sample == 0 && j <= recovery; ++j) {
            s.run([&] { recover_slots(step.caller.slot); }, j);
            ++recovery_deaths;
            Words again;
            s.run([&] { again = recovered(step.caller, step); });
            if (const std::string other = difference(found, again); !other.empty())
                fault(step, at, "recovered again after store " + std::to_string(j) + ": " + other);
            s.take_back(died);
        }
        s.take_back(begin);
    }
    Status status = Status::ok;
    s.run([&] { status = step.perform(step.caller); });
    return status;
}

}  // namespace aep::test
