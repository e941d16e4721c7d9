// Purpose: see live_words.hpp.
// Who calls it: see live_words.hpp.
// Crash rule: see live_words.hpp.
#include "tests/undo/live_words.hpp"
#include "dsm-core/sharing/topics.hpp"

#include <algorithm>
#include <cstring>

namespace aep::test {
namespace {

template <class T>
void add(Words& words, const T& word) {
    u64 value = 0;
    static_assert(sizeof word <= sizeof value);
    std::memcpy(&value, static_cast<const void*>(&word), sizeof word);
    words.emplace_back(reinterpret_cast<uptr>(&word), value);
}

void add_export(Words& w, u32 index) {
    const Export& e = export_at(index);
    const ExportSide& side = side_at(index);
    add(w, e.address), add(w, e.bytes), add(w, e.state), add(w, e.owner), add(w, e.references);
    add(w, e.next), add(w, e.group), add(w, e.writer), add(w, e.root);
    add(w, side.next_extent), add(w, side.born), add(w, e.object), add(w, e.pins),
        add(w, e.node_ref), add(w, e.listed);
    // Links of lists that it is not on say nothing.
    if (e.owner != OWNER_ELSEWHERE && e.owner != 0) {
        add(w, side.next_of_owner);
        if (share_client(e.owner).first_export != index) add(w, side.previous_of_owner);
    }
    if (e.state == static_cast<u32>(ExportState::returned)) add(w, e.next_returned);
    if (e.listed) add(w, side.next_lingering);
}

/// A client's tree of references; `steps`: where there is damage there may be a circle.
void add_references(Words& w, u32 link, u32& steps) {
    if (link == NO_RECORD || steps == 0) return;
    --steps;
    if ((link & IS_BRANCH) != 0) {
        for (const Logged<u32>& way : branch_at(link).ways) {
            add(w, way);
            add_references(w, way, steps);
        }
        return;
    }
    const Holder& h = holder_at(link);
    add(w, h.address), add(w, h.object), add(w, h.count), add(w, h.next), add(w, h.spare);
    add_references(w, h.next, steps);
}

void add_inbox(Words& w, u32 inbox) {
    const Inbox& in = inbox_at(inbox);
    add(w, in.open), add(w, in.generation), add(w, in.client), add(w, in.next), add(w, in.watched);
    add(w, in.first_returned), add(w, in.first_message), add(w, in.messages), add(w, in.gaps);
    add(w, in.kib), add(w, in.most_kib);
    for (u32 i = 0; i < in.messages && i < MAILBOX_MESSAGES; ++i) {
        const Message& m = ring_of(inbox)[(in.first_message + i) % MAILBOX_MESSAGES];
        add(w, m.object), add(w, m.version), add(w, m.sender), add(w, m.tag), add(w, m.type);
    }
}

void add_topic(Words& w, u32 number) {
    const Topic& t = topic_at(number);
    add_inbox(w, number);
    add(w, t.first_user);
    if (t.first_user == 0) return;
    add(w, t.most_messages), add(w, t.head), add(w, t.head_kib);
    add(w, t.room_until), add(w, t.room_until_kib);
    for (const auto& word : t.name_words) add(w, word);
}

void add_topic_user(Words& w, u32 index) {
    const TopicUser& u = topic_user_at(index);
    add(w, u.client), add(w, u.generation);
    if (u.client != 0 || u.generation != 0) add(w, u.next_of_client);
    if (u.client == 0) return;
    add(w, u.topic), add(w, u.next_of_topic), add(w, u.behind);
    if (u.behind == Behind::none) return;
    add(w, u.most_messages), add(w, u.most_kib), add(w, u.next), add(w, u.next_kib);
}

void add_client(Words& w, u32 index) {
    const ShareClient& c = share_client(index);
    add(w, c.first_reference), add(w, c.first_export);
    add(w, c.objects_held), add(w, c.exports), add(w, c.foreign), add(w, c.groups),
        add(w, c.extents);
    for (const auto& word : c.name_words) add(w, word);
    add(w, c.taken_back), add(w, c.sends_as), add(w, c.first_topic_user);
    const Attendance& attendance = attendance_of(index);
    add(w, attendance.stays), add(w, attendance.names), add(w, attendance.died);
    add_inbox(w, index);
    u32 steps = sharing().holders_used;
    add_references(w, c.first_reference, steps);
}

void add_header(Words& w) {
    const ShareHeader& s = sharing();
    add(w, s.exports_present), add(w, s.holders_present);
    add(w, s.topic_users_used), add(w, s.free_topic_users);
    for (const Lingering* list : {&s.deferred, &s.visiting})
        add(w, list->first), add(w, list->last), add(w, list->count), add(w, list->bytes);
}

/// The references, the objects, the messages and who can be found.
void add_between_nodes(Words& w) {
    const era::Tables t = era_tables();
    for (u32 i = 0; i < context().max_slots; ++i) add(w, pin_of(i));
    for (u32 i = 0; i < context().era_objects; ++i)
        if (export_of_object(i) != 0) add(w, export_of_object(i));
    for (u32 i = 0; i < MAX_LANES; ++i) add(w, lane_taken(i));
    for (u32 i = 0; i < t.shape.objects; ++i) {
        const u64 count = era::CountWord{t.count(i).load()}.count();
        if (count == 0) continue;
        w.emplace_back(reinterpret_cast<uptr>(&t.count(i)), count);  // not who wrote it last
    }
    for (u32 node = 0; node < t.shape.nodes; ++node) {
        if (t.node(node).load() == 0) continue;
        for (u32 i = 0; i < t.shape.refs; ++i)
            if (t.ref(node, i).load() != 0) add(w, t.ref(node, i));
        for (u32 to = 0; to < t.shape.nodes; ++to) {
            for (u32 i = 0; to != node && i < t.shape.slots; ++i) {
                const era::MessageEntry& entry = t.message_entry(node, to, i);
                if (entry.cell.load() == 0) continue;
                add(w, entry.cell), add(w, entry.to), add(w, entry.from);
            }
        }
        for (u32 i = 1; i <= context().max_clients; ++i) {
            const era::DirectoryEntry& entry = t.client(node, i);
            add(w, entry.claim), add(w, entry.attendance);
            if (entry.id.load() == 0) continue;
            add(w, entry.id);
        }
    }
}

}  // namespace

Words live_words(bool pool) {
    Words w;
    const ShareHeader& s = sharing();
    add_header(w);
    for (u32 i = 0; i < STRIPES; ++i)
        for (const Logged<u32>& chain : stripe_at(i).chains)
            if (chain != NO_RECORD) add(w, chain);
    for (u32 c = 0; c < context().chunk_count; ++c) {
        add(w, chunk_exports(c));
        add(w, chunk_owner(c));
    }
    for (u32 i = 0; i <= context().max_clients; ++i) add_client(w, i);
    for (u32 i = 0; i < further_inboxes(context().max_clients); ++i)
        add_inbox(w, FIRST_FURTHER + i);
    for (u32 i = 0; i < MOST_TOPICS; ++i) add_topic(w, first_topic() + i);
    for (u32 i = 1; i <= s.topic_users_used; ++i) add_topic_user(w, i);
    for (u32 i = 1; i <= s.exports_used; ++i) {
        const Export& e = export_at(i);
        if (e.state == static_cast<u32>(ExportState::free)) continue;
        if (e.state == static_cast<u32>(ExportState::root))
            add(w, e.state), add(w, e.address), add(w, e.bytes), add(w, e.group), add(w, e.next);
        else
            add_export(w, i);
    }
    if (pool) add_between_nodes(w);
    std::sort(w.begin(), w.end());
    return w;
}

Words supply_words() {
    Words w;
    const ShareHeader& s = sharing();
    add(w, s.exports_used), add(w, s.holders_used), add(w, s.export_lists), add(w, s.holder_lists);
    for (u32 i = 0; i <= context().max_clients; ++i) {
        const ShareClient& c = share_client(i);
        for (const Supply* own : {&c.export_records, &c.holder_records})
            add(w, own->free), add(w, own->next), add(w, own->end);
        u32 steps = s.holders_used;
        for (u32 h = c.holder_records.free; h != NO_RECORD && steps-- != 0; h = holder_at(h).next)
            add(w, holder_at(h).next);
        steps = s.exports_used;
        for (u32 e = c.export_records.free; e != NO_RECORD && steps-- != 0; e = export_at(e).next)
            add(w, export_at(e).next), add(w, export_at(e).state);
    }
    std::sort(w.begin(), w.end());
    return w;
}

std::string place_of(uptr address) {
    const auto in = [&](const auto& what, const char* name) {
        const uptr at = reinterpret_cast<uptr>(&what);
        return address >= at && address < at + sizeof what
                   ? std::string(name) + " + " + std::to_string(address - at)
                   : std::string();
    };
    std::string text = in(sharing(), "the header");
    for (u32 i = 1; i <= context().max_clients && text.empty(); ++i)
        text = in(share_client(i), "a client");
    for (u32 i = 1; i <= sharing().exports_used && text.empty(); ++i)
        text = in(export_at(i), "an export") + in(side_at(i), "an export's side");
    for (u32 i = 1; i <= sharing().holders_used && text.empty(); ++i)
        text = in(holder_at(i), "a holder");
    return text.empty() ? "control area + " + std::to_string(address - CONTROL_BASE) : text;
}

std::string difference(const Words& a, const Words& b) {
    std::string text;
    const auto tell = [&](uptr address, const std::string& one, const std::string& other) {
        if (text.size() < 400) text += place_of(address) + ": " + one + ", " + other + "; ";
    };
    auto x = a.begin(), y = b.begin();
    while (x != a.end() || y != b.end()) {
        if (y == b.end() || (x != a.end() && x->first < y->first)) {
            tell(x->first, std::to_string(x->second), "none");
            ++x;
        } else if (x == a.end() || y->first < x->first) {
            tell(y->first, "none", std::to_string(y->second));
            ++y;
        } else {
            if (x->second != y->second)
                tell(x->first, std::to_string(x->second), std::to_string(y->second));
            ++x, ++y;
        }
    }
    return text;
}

}  // namespace aep::test
