// Purpose: see check_sharing.hpp.
// Who calls it: see check_sharing.hpp.
// Crash rule: see check_sharing.hpp. Nothing is locked: a daemon that dies here holds up nobody.
#include "node/check_sharing.hpp"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <string>
#include <vector>

#include "dsm-core/base/copied.hpp"
#include "dsm-core/sharing/group_ops.hpp"
#include "dsm-core/sharing/inbox.hpp"
#include "dsm-core/sharing/records.hpp"
#include "dsm-core/sharing/topics.hpp"
#include "node/quiet_moment.hpp"
#include "node/reference_tree.hpp"

namespace aep {
namespace {

std::string named(const char* what, u64 index) { return fmt::format("{} {}", what, index); }

/// One walk over tables that may change meanwhile: every index is checked before it is used.
class Walk {
  public:
    explicit Walk(Findings& found) : found_(found) {}

    void run() {
        const ShareHeader& s = sharing();
        exports_ = std::min(s.exports_used.load(), MAX_EXPORTS - 1);
        holders_ = std::min(s.holders_used.load(), MAX_HOLDERS - 1);
        counted_.assign(exports_ + 1, 0);
        parts_.assign(exports_ + 1, 0);
        in_chunk_.assign(context().chunk_count, 0);
        of_clients_.assign(holders_ + 1, false);
        written_.assign(exports_ + 1, false);
        free_exports_.assign(exports_ + 1, false);
        free_holders_.assign(holders_ + 1, false);
        of_owners_.assign(exports_ + 1, false);
        returned_.assign(exports_ + 1, false);
        for (u32 i = 1; i <= context().max_clients && !over(); ++i) client(i);
        further_inboxes_of_nobody();
        topics();
        for (u32 i = 1; i <= exports_ && !over(); ++i) {
            const ExportFields e = copied<ExportFields>(export_at(i));
            if (e.group == i && is_whole(e)) group(i, e);
        }
        u64 live = 0, orphans = 0, foreign = 0, waiting = 0, visiting = 0;
        for (u32 i = 1; i <= exports_ && !over(); ++i) {
            const ExportFields e = copied<ExportFields>(export_at(i));
            if (is(e, ExportState::free)) continue;
            if (is(e, ExportState::root) || is(e, ExportState::extent)) part(i, e);
            wrong(named("export", i), "it has come back, or is on a list of such", returned_[i],
                  is(e, ExportState::returned));
            if (is(e, ExportState::root)) continue;
            ++live;
            orphans += e.owner == 0;
            foreign += e.owner == OWNER_ELSEWHERE;
            if (e.listed) ++(e.owner == OWNER_ELSEWHERE && e.group != i ? visiting : waiting);
            object(i, e);
            if (shares_between_nodes()) between_nodes(i, e);
        }
        if (over()) return;
        const ShareCounts all = count_shares();
        wrong("sharing", "lists of owners have lost an export", owned_, live - orphans - foreign);
        wrong("sharing", "the count of exports is wrong", all.exports, live);
        wrong("sharing", "the count of exports of dead owners is wrong", all.orphans, orphans);
        wrong("sharing", "the count of holders is wrong", all.holders, held_);
        wrong("sharing", "the count of exports that wait is wrong", s.deferred.count.load(),
              waiting);
        wrong("sharing", "the count of exports that visit is wrong", s.visiting.count.load(),
              visiting);
        wrong("sharing", "the count of groups is wrong", all.groups, groups_);
        wrong("sharing", "the count of extents is wrong", all.extents, extents_);
        records();
        for (u32 c = 0; c < context().chunk_count && !over(); ++c) {
            const u64 expected = in_chunk_[c];
            wrong(named("chunk", c), "the count of its exports is wrong", chunk_exports(c).load(),
                  expected);
            if (chunk_owner(c).load() == OWNER_KEPT && expected == 0)
                found_.add(named("chunk", c), "it is kept, but no export lies in it", 0, 1);
        }
    }

  private:
    void wrong(const std::string& where, const char* what, u64 is, u64 expected) {
        if (is != expected) found_.add(where, what, is, expected);
    }

    static bool is(const ExportFields& e, ExportState state) {
        return e.state == static_cast<u32>(state);
    }

    bool over() { return found_.over(); }
    ExportFields export_or_none(u32 index) const {
        return index != NO_RECORD && index <= exports_ ? copied<ExportFields>(export_at(index))
                                                       : ExportFields{};
    }

    /// Comes by a record, which is in one place of all that `seen` is of. False: there is none, or it has been come by.
    bool come_by(const std::string& where, u32 index, std::vector<bool>& seen) {
        if (index >= seen.size()) {
            found_.add(where, "its list leads nowhere", index, seen.size() - 1);
            return false;
        }
        if (seen[index]) {
            found_.add(where, "its list has no end, or another's", index, 0);
            return false;
        }
        seen[index] = true;
        return true;
    }

    /// Calls f(index, holder) for each in a client's tree.
    template <class F>
    void each_holder(const std::string& where, u32 tree, F&& f) {
        const auto leads_somewhere = [&](u32 at, const Branch& branch) {
            const auto is_none = [](const Logged<u32>& way) { return way == NO_RECORD; };
            if (std::all_of(std::begin(branch.ways), std::end(branch.ways), is_none))
                found_.add(where, "a branch leads nowhere", at, 0);
        };
        each_reference(
            tree, [&](u32 at) { return !over() && come_by(where, at, of_clients_); },
            leads_somewhere, f);
    }

    /// Counts what hangs on it; whether that is what it should be is seen at each part.
    void group(u32 index, const ExportFields& e) {
        ++groups_;
        u32 extents = 0;
        // Of another node's group only the first block is known.
        bool root_inside = e.root == NO_RECORD || e.owner == OWNER_ELSEWHERE;
        const ExportFields root = export_or_none(e.root);
        for (u32 p = index; p != NO_RECORD && p <= exports_ && extents <= MAX_EXTENTS && !over();) {
            const ExportFields memory = copied<ExportFields>(export_at(p));
            if (p != index) ++parts_[p], ++extents;
            wrong(named("export", p), "it is on another group's list", memory.group, index);
            root_inside =
                root_inside || (e.root <= exports_ && root.address - memory.address < memory.bytes);
            p = copied(side_at(p)).next_extent;
            if (p == index) {
                found_.add(named("group", index), "its list of extents has no end", extents, 0);
                break;
            }
        }
        extents_ += extents;
        if (e.root != NO_RECORD && e.root <= exports_) ++parts_[e.root];
        if (extents > MAX_EXTENTS)
            found_.add(named("group", index), "it has too many extents", extents, MAX_EXTENTS);
        if (!root_inside) found_.add(named("group", index), "its root is outside", 0, 1);
        if (e.writer == 0) return;
        if (!written_[index])
            found_.add(named("group", index), "its writer does not hold it", e.writer, 0);
    }

    void part(u32 index, const ExportFields& e) {
        const ExportFields whole = export_or_none(e.group);
        const bool of_group = whole.group == e.group && e.group != NO_RECORD && is_whole(whole);
        wrong(named("export", index), "it is part of no group", of_group, 1);
        wrong(named("export", index), "so many groups have it", parts_[index], 1);
        if (of_group && is(e, ExportState::root))
            wrong(named("export", index), "its group has another root", whole.root, index);
    }

    void client(u32 index) {
        const ShareClient& c = share_client(index);
        wrong(named("client", index), "it sends as another than it is", c.sends_as.load(),
              c.takes_part() ? u64{c.inbox.generation.load()} + 1 : 0);
        wrong(named("client", index), "who follows its peers is told otherwise of it",
              attendance_of(index).stays.load() % 2, c.takes_part());
        if (!c.takes_part()) {
            const bool left = has_shares(c);
            // A dead client that is being taken back may still have some.
            if (client_at(index).state.load() == static_cast<u32>(ClientState::free))
                wrong(named("client", index), "it is gone, but has references", left, 0);
            if (!left) return;
        }
        each_inbox(index, [&](u32 number) { inbox(number); });
        u64 held = 0;
        each_holder(named("client", index), c.first_reference.load(), [&](u32 at, const Holder& h) {
            wrong(named("holder", at), "it holds nothing", h.count == 0, 0);
            wrong(named("holder", at), "it is another client's", h.client, index);
            count(named("holder", at), h.object, u64{h.count} + h.spare);
            const ExportFields e = export_or_none(h.object);
            if (h.object <= exports_) {
                wrong(named("holder", at), "it is looked for by another address", h.address,
                      e.address);
                if (e.writer == index) written_[h.object] = true;
            }
            ++held;
        });
        wrong(named("client", index), "the count of its objects is wrong", c.objects_held.load(),
              held);
        const u64 owned_before = owned_;
        held_ += held;
        const std::string where = named("client", index);
        for (u32 at = c.first_export.load();
             at != NO_RECORD && !over() && come_by(where, at, of_owners_);
             at = copied(side_at(at)).next_of_owner) {
            wrong(named("export", at), "it is on another owner's list",
                  copied<ExportFields>(export_at(at)).owner, index);
            ++owned_;
        }
        wrong(where, "the count of its exports is wrong", c.exports.load(), owned_ - owned_before);
        returned(index, c.taken_back.load());
        returned(index, c.inbox.first_returned.load());
    }

    /// Objects that have come back, from that one on.
    void returned(u32 client, u32 first) {
        const std::string where = named("client", client);
        for (u32 at = first; at != NO_RECORD && !over() && come_by(where, at, returned_);) {
            const ExportFields e = copied<ExportFields>(export_at(at));
            wrong(named("export", at), "it has come back to another client", e.owner, client);
            at = e.next_returned;
        }
    }

    void inbox(u32 number) {
        const Inbox& in = inbox_at(number);
        const std::string where = is_topic(number)     ? named("topic", number - first_topic())
                                  : is_further(number) ? named("inbox", number)
                                                       : named("client", number);
        u32 gaps = 0, kib = 0;
        each_message_in(number, [&](u32 place, const Message& m) {
            if (place != 0 && m.object == NO_RECORD) {
                ++gaps;
                return;
            }
            count(where, m.object, 1);
            if (m.object <= exports_)
                kib += kib_of(copied<ExportFields>(export_at(m.object)).bytes);
        });
        wrong(where, "the count of messages that were taken early is wrong", in.gaps.load(), gaps);
        wrong(where, "it is said to have another number of KiB", in.kib.load(), kib);
    }

    /// Whose list a further one is on says it.
    void further_inboxes_of_nobody() {
        std::vector<bool> listed(further_inboxes(context().max_clients));
        for (u32 c = 1; c <= context().max_clients; ++c)
            each_inbox(c, [&](u32 number) {
                if (number >= FIRST_FURTHER) listed[number - FIRST_FURTHER] = true;
            });
        for (u32 i = 0; i < listed.size(); ++i) {
            const Inbox& in = inbox_at(FIRST_FURTHER + i);
            if (listed[i]) continue;
            const std::string where = named("inbox", FIRST_FURTHER + i);
            wrong(where, "it is on no client's list, but a client's", in.client.load(), 0);
            wrong(where, "it is nobody's, but open", in.open.load(), 0);
            wrong(where, "it is nobody's, but has messages", in.messages.load(), 0);
        }
    }

    /// Who has a topic open is on its list and on a client's.
    void topics() {
        const u32 users = most_topic_users(context().max_clients);
        std::vector<bool> of_topics(users + 1), of_clients(users + 1);
        for (u32 i = 0; i < MOST_TOPICS && !over(); ++i) {
            const Topic& t = topic_at(first_topic() + i);
            const std::string where = named("topic", i);
            const Inbox& ring = inbox_at(first_topic() + i);
            wrong(where, "somebody has it open, or it is", ring.open.load(),
                  t.first_user.load() != 0);
            if (t.first_user.load() == 0)
                wrong(where, "it is nobody's, but keeps something", ring.messages.load(), 0);
            inbox(first_topic() + i);
            for (u32 at = t.first_user.load(); at != 0 && !over() && come_by(where, at, of_topics);
                 at = topic_user_at(at).next_of_topic.load()) {
                wrong(named("topic user", at), "it is on another topic's list",
                      topic_user_at(at).topic.load(), first_topic() + i);
                subscriber(at, t, t.head.load() - ring.messages.load());
            }
        }
        for (u32 c = 1; c <= context().max_clients; ++c)
            for (u32 at = share_client(c).first_topic_user.load();
                 at != 0 && !over() && come_by(named("client", c), at, of_clients);
                 at = topic_user_at(at).next_of_client.load())
                wrong(named("topic user", at), "it is on another client's list",
                      topic_user_at(at).client.load(), c);
        std::vector<bool> free(users + 1);
        for (u32 at = sharing().free_topic_users.load();
             at != 0 && !over() && come_by("sharing", at, free);
             at = topic_user_at(at).next_of_client.load())
            ;
        const u32 used = std::min(sharing().topic_users_used.load(), users);
        for (u32 i = 1; i <= users && !over(); ++i) {
            const std::string where = named("topic user", i);
            const bool some = topic_user_at(i).client.load() != 0;
            wrong(where, "it is on so many lists", of_topics[i] + of_clients[i], some ? 2 : 0);
            wrong(where, "it is nobody's, or is not", free[i], i <= used && !some);
        }
    }

    /// `tail`: publications before the oldest that the topic keeps.
    void subscriber(u32 index, const Topic& t, u64 tail) {
        const TopicUser& user = topic_user_at(index);
        const Behind behind = user.behind.load();
        const std::string where = named("topic user", index);
        if (behind == Behind::none) return;
        const bool ahead =
            user.next.load() > t.head.load() || user.next_kib.load() > t.head_kib.load();
        wrong(where, "it has taken what was not published", ahead, 0);
        if (behind == Behind::drop_oldest) return;
        wrong(where, "it has lost what it may not miss", user.next.load() < tail, 0);
        wrong(where, "it may be further behind than it is said to",
              t.room_until.load() > user.next.load() + user.most_messages.load() ||
                  t.room_until_kib.load() > user.next_kib.load() + user.most_kib.load(),
              0);
    }

    /// References that a holder or a message is.
    void count(const std::string& where, u64 object, u64 references) {
        if (object <= exports_)
            counted_[object] += references;
        else
            found_.add(where, "it refers to no export", object, exports_);
    }

    void object(u32 index, const ExportFields& e) {
        wrong(named("export", index), "its count of references is wrong", e.references,
              counted_[index]);
        if (e.state == static_cast<u32>(ExportState::live) && e.references == 0 && e.pins == 0)
            found_.add(named("export", index), "nobody refers to it, but it is there", 0, 1);
        if (is(e, ExportState::lingering) && !e.listed && e.pins == 0)
            found_.add(named("export", index), "it lingers, but is on no list", 0, 1);
        if (e.owner == OWNER_ELSEWHERE && e.address == 0 && e.references == 0)
            return;  // on its way in, or refused
        const ChunkSpan span = chunks_of(e.address, e.bytes);
        if (span.first >= span.end || span.end > context().chunk_count) {
            found_.add(named("export", index), "it lies outside the pool", e.address, 0);
            return;
        }
        if (e.owner == OWNER_ELSEWHERE) return;  // its memory is another node's
        for (u32 c = span.first; c < span.end; ++c) {
            ++in_chunk_[c];
            const u32 owner = chunk_owner(c).load();
            if (owner != e.owner && !(e.owner == 0 && owner == OWNER_KEPT) &&
                !(e.owner == 0 && still_dying(owner)))
                found_.add(named("export", index), "its chunk is another's", owner, e.owner);
        }
    }

    /// Free records are at some client's hand, or on a list of such as a dead one had; each once.
    void records() {
        const ShareHeader& s = sharing();
        const auto next_export = [](u32 i) -> u32 { return export_at(i).next.load(); };
        const auto next_holder = [](u32 i) -> u32 { return holder_at(i).next.load(); };
        for (u32 c = 0; c <= context().max_clients && !over(); ++c) {
            const ShareClient& client = share_client(c);
            at_hand(named("client", c), client.export_records, free_exports_, next_export);
            at_hand(named("client", c), client.holder_records, free_holders_, next_holder);
        }
        for (u32 at = s.export_lists.load(); at != NO_RECORD && at <= exports_ && !over();) {
            const u32 next = export_at(at).next_returned.load();
            each_free("sharing", at, free_exports_, next_export);
            at = next;
        }
        for (u32 at = s.holder_lists.load(); at != NO_RECORD && at <= holders_ && !over();) {
            const u32 next = static_cast<u32>(holder_at(at).address.load());
            each_free("sharing", at, free_holders_, next_holder);
            at = next;
        }
        for (u32 i = 1; i <= exports_ && !over(); ++i) {
            const bool in_use = !is(copied<ExportFields>(export_at(i)), ExportState::free);
            wrong(named("export", i), "it is in use, or at hand", free_exports_[i] + in_use, 1);
        }
        for (u32 i = 1; i <= holders_ && !over(); ++i)
            wrong(named("holder", i), "it is in use, or at hand", free_holders_[i] + of_clients_[i],
                  1);
    }
    template <class Next>
    void at_hand(const std::string& where, const Supply& own, std::vector<bool>& seen,
                 Next&& next) {
        each_free(where, own.free.load(), seen, next);
        for (u32 i = own.next.load(); i != own.end.load() && !over() && come_by(where, i, seen);)
            ++i;
    }
    template <class Next>
    void each_free(const std::string& where, u32 first, std::vector<bool>& seen, Next&& next) {
        for (u32 i = first; i != NO_RECORD && !over() && come_by(where, i, seen);) i = next(i);
    }

    /// A group that has not let go of its parts.
    static bool is_whole(const ExportFields& e) {
        return is(e, ExportState::live) || is(e, ExportState::lingering);
    }

    /// The node's own reference, which the tables in the pool must show; of an extent what it is a
    /// part of.
    void between_nodes(u32 index, const ExportFields& e) {
        if (is(e, ExportState::extent)) {
            const ExportFields group = export_or_none(e.group);
            if (e.object == 0 || group.pins != 0) return;
            if (e.object > context().era_objects) {
                found_.add(named("extent", index), "its number is out of range", e.object, 0);
                return;
            }
            const era::ObjectEntry& entry = era_tables().object(e.object - 1);
            const u32 whole = group.object;
            if (whole == 0) return;  // a send that did not happen: it is told anew with the next
            wrong(named("extent", index), "other nodes know it as another group's",
                  entry.root.load(), whole);
            if (!era::is_living(era_tables(), entry))
                found_.add(named("extent", index), "other nodes take it for gone", 0, 1);
            return;
        }
        if (e.node_ref == NodeRef::none) {
            wrong(named("export", index), "it has a number, but the node no reference", e.object,
                  0);
            return;
        }
        const u32 object = e.object - 1;
        if (object >= context().era_objects) {
            found_.add(named("export", index), "its number is out of range", e.object, 0);
            return;
        }
        wrong(named("export", index), "another export has its number",
              export_of_object(object).load(), index);
        if (e.node_ref != NodeRef::held || e.pins != 0) return;  // an operation is at it
        const era::Tables t = era_tables();
        wrong(named("export", index), "the node's reference is not in the pool",
              t.ref(context().era_node, object).load(), era::Cell::of(object).bits);
        if (e.address != t.object(object).address.load()) {
            found_.add(named("export", index), "its address is another one in the pool",
                       t.object(object).address.load(), e.address);
        }
    }

    /// A client whose exports have lost their owner, and whose chunks are still to be kept.
    static bool still_dying(u32 owner) {
        return owner != 0 && owner <= context().max_clients && !share_client(owner).takes_part();
    }

    Findings& found_;
    u32 exports_ = 0, holders_ = 0;
    u64 held_ = 0, owned_ = 0, groups_ = 0, extents_ = 0;
    std::vector<u64> counted_, in_chunk_;
    std::vector<bool> of_clients_, of_owners_, returned_;  // see come_by()
    std::vector<bool> free_exports_, free_holders_;
    std::vector<bool> written_;  // groups whose writer holds them
    std::vector<u64> parts_;     // extents and roots: how many groups have them
};

}  // namespace

void check_sharing(Findings& found) {
    constexpr int TRIES = 1000;
    for (int attempt = 0; attempt < TRIES && !found.over(); ++attempt) {
        const QuietMoment moment;
        if (moment.began()) {
            Findings seen(found.end_ns());
            Walk(seen).run();
            if (moment.lasted()) {
                found.add(seen);
                return;
            }
        }
        sched_yield();
    }
    // What is said in every walk is wrong whatever happens meanwhile; this is not.
    found.add("sharing", "the walk never found a quiet moment: repeat it", 0, 0);
}

}  // namespace aep
