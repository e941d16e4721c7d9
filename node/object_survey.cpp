// Purpose: see object_survey.hpp.
// Who calls it: see object_survey.hpp.
// Crash rule: see object_survey.hpp.
#include "node/object_survey.hpp"

#include <algorithm>
#include <cstddef>
#include <map>
#include <unordered_map>

#include "dsm-core/sharing/group_header.hpp"
#include "node/believed.hpp"
#include "node/process_facts.hpp"
#include "node/quiet_moment.hpp"
#include "node/reference_tree.hpp"

namespace aep {
namespace {

u32 exports_used() { return std::min(sharing().exports_used.load(), MAX_EXPORTS - 1); }
u32 holders_used() { return std::min(sharing().holders_used.load(), MAX_HOLDERS - 1); }

bool is(const ExportFields& e, ExportState state) { return e.state == static_cast<u32>(state); }

/// Whether it is an object, or the first block of a group: not a group's further memory, nor a name of its root.
bool is_object(const ExportFields& e) {
    return is(e, ExportState::live) || is(e, ExportState::lingering) ||
           is(e, ExportState::returned);
}

/// Of another node's object that is on its way in, or was refused, nothing is known yet.
bool is_to_come(const ExportFields& e) { return e.owner == OWNER_ELSEWHERE && e.address == 0; }

bool is_client(u32 client) { return client <= context().max_clients; }

/// Whether all of it lies in the pool, and its owner can be one: else a client has written what no operation writes.
bool makes_sense(const ExportFields& e) {
    const u64 all = u64{context().chunk_count} * CHUNK_SIZE;
    const u64 from = e.address - HEAP_BASE;
    return e.address >= HEAP_BASE && from < all && e.bytes <= all - from &&
           (is_client(e.owner) || e.owner == OWNER_ELSEWHERE);
}

class Survey {
  public:
    Survey(const NodePool& pool, usize most, u64 end_ns)
        : pool_(pool), most_(most), end_ns_(end_ns) {}

    ObjectSurvey run() {
        exports_ = exports_used();
        seen_.assign(holders_used() + 1, false);
        // Each record is copied once: sums, order and what is told of an object are of the same moment of it.
        for (u32 i = 1; i <= exports_ && !over(); ++i) object(i);
        add_extents();
        for (auto i = groups_.begin(); i != groups_.end() && !over(); ++i) look_into(*i);
        for (u32 i = 1; i <= context().max_clients && !over(); ++i) client(i);
        choose();
        for (u32 i = 1; i <= context().max_clients && !over(); ++i) holders(i);
        return std::move(out_);
    }

  private:
    struct Known {
        u64 bytes = 0;
        u32 owner = 0;
        u32 extents = 0;   // of a group: its first block and what came to it
        u64 deferred = 0;  // of a group
    };
    /// Further memory of a group.
    struct Extent {
        u64 bytes;
        u32 group;
    };
    struct Group {
        u64 address;
        u32 index;
    };

    /// Whether the time is up. To be asked at every step.
    bool over() {
        if (++steps_ % 256 == 0 && monotonic_ns() > end_ns_) out_.complete = false;
        return !out_.complete;
    }

    void object(u32 index) {
        const ExportFields e = copied<ExportFields>(export_at(index));
        const bool is_extent = is(e, ExportState::extent);
        if ((!is_extent && !is_object(e)) || is_to_come(e)) return;
        if (!makes_sense(e)) {
            ++out_.damaged;
            return;
        }
        if (is_extent) return extents_.push_back({e.bytes, e.group});
        if (is(e, ExportState::returned)) return out_.returned.add(e.bytes);
        const bool is_group = e.group == index;
        if (is_group) groups_.push_back({e.address, index});
        out_.groups += is_group;
        known_.emplace(index, Known{e.bytes, e.owner, is_group ? 1u : 0u});
        out_.all.add(e.bytes);
        if (e.owner == 0) out_.of_the_dead.add(e.bytes);
        if (e.owner == OWNER_ELSEWHERE) out_.elsewhere.add(e.bytes);
        if (is(e, ExportState::lingering)) out_.lingering.add(e.bytes);
    }

    /// A group's further memory counts as its own.
    void add_extents() {
        for (const Extent& extent : extents_) {
            const auto whole = known_.find(extent.group);
            if (whole == known_.end() || whole->second.extents == 0) continue;
            ++whole->second.extents;
            whole->second.bytes += extent.bytes;
            out_.all.bytes += extent.bytes;
            if (whole->second.owner == 0) out_.of_the_dead.bytes += extent.bytes;
            if (whole->second.owner == OWNER_ELSEWHERE) out_.elsewhere.bytes += extent.bytes;
        }
    }

    /// What a group says of itself.
    void look_into(const Group& group) {
        constexpr usize AT = offsetof(GroupHeader, deferred);
        u64 deferred[2];
        if (!pool_.read(group.address + AT, deferred, sizeof deferred)) return;
        Known& known = known_.at(group.index);
        // Its memory is its holders' to write: no more than there is of it.
        known.deferred = std::min(known.bytes, deferred[0]);
        known.deferred += std::min(known.bytes - known.deferred, deferred[1]);
        if (known.deferred != 0) out_.deferred.add(known.deferred);
    }

    bool come_by(u32 index) {
        if (over() || index >= seen_.size() || seen_[index]) return false;
        seen_[index] = true;
        return true;
    }

    /// Calls f(export, references, those to spare) for each object that the client holds.
    template <class F>
    void each_held(u32 client, F&& f) {
        each_reference(
            share_client(client).first_reference.load(), [this](u32 at) { return come_by(at); },
            [](u32, const Branch&) {},
            [&](u32, const Holder& h) { f(u32{h.object}, u32{h.count}, u32{h.spare}); });
    }

    void client(u32 index) {
        ClientShares c = shares_of(index);
        each_held(index, [&](u32 object, u32, u32) {
            const auto known = known_.find(object);
            if (known == known_.end()) return;
            ++c.objects_held;
            c.bytes_held += known->second.bytes;
        });
        if (!share_client(index).takes_part() && c.messages == 0 && c.objects_held == 0) return;
        place_of_[index] = out_.clients.size();
        out_.clients.push_back(std::move(c));
    }

    /// The largest ones, and what clients own.
    void choose() {
        std::vector<std::pair<u64, u32>> by_size;
        by_size.reserve(known_.size());
        for (const auto& [index, known] : known_) {
            by_size.emplace_back(known.bytes, index);
            const auto place = place_of_.find(known.owner);
            if (place == place_of_.end()) continue;
            ++out_.clients[place->second].objects_owned;
            out_.clients[place->second].bytes_owned += known.bytes;
        }
        const usize told = std::min(most_, by_size.size());
        std::partial_sort(by_size.begin(), by_size.begin() + static_cast<std::ptrdiff_t>(told),
                          by_size.end(), [](const auto& a, const auto& b) {
                              return a.first != b.first ? a.first > b.first : a.second < b.second;
                          });
        for (usize i = 0; i < told; ++i) {
            told_.emplace(by_size[i].second, i);
            out_.largest.push_back(facts_of_object(by_size[i].second));
        }
        seen_.assign(seen_.size(), false);
    }

    SharedObject facts_of_object(u32 index) {
        const ExportFields e = copied<ExportFields>(export_at(index));
        const Known& known = known_.at(index);
        SharedObject o;
        o.address = e.address;
        o.bytes = known.bytes;
        o.owner = known.owner;
        o.lingers = is(e, ExportState::lingering);
        o.references = e.references;
        o.extents = known.extents;
        o.deferred = known.deferred;
        if (o.extents != 0 && is_client(e.writer)) o.writer = e.writer;
        return o;
    }

    /// What one client has of those that are told.
    void holders(u32 index) {
        std::map<usize, Held> has;  // by places in `largest`
        const auto add = [&](u32 object, u64 references, u64 messages, u64 spare) {
            const auto told = told_.find(object);
            if (told == told_.end()) return;
            u64& counted = out_.largest[told->second].references;
            counted -= std::min(counted, spare);
            Held& held = has.try_emplace(told->second, Held{index, 0, 0}).first->second;
            held.references += references + messages;
            held.messages += messages;
        };
        each_held(
            index,
            [&](u32 object, u32 references, u32 spare) { add(object, references, 0, spare); });
        each_message(index, [&](u32, const Message& m) { add(m.object, 0, 1, 0); });
        for (const auto& [place, held] : has) {
            SharedObject& o = out_.largest[place];
            ++o.holders;
            if (o.held.size() < SharedObject::MOST_HOLDERS) o.held.push_back(held);
        }
    }

    const NodePool& pool_;
    usize most_;
    u64 end_ns_;
    u64 steps_ = 0;
    u32 exports_ = 0;
    std::vector<bool> seen_;                // references that have been come by
    std::unordered_map<u32, Known> known_;  // objects by their records' indices
    std::vector<Extent> extents_;
    std::vector<Group> groups_;
    std::unordered_map<u32, usize> told_;      // indices -> places in `largest`
    std::unordered_map<u32, usize> place_of_;  // clients -> places in `clients`
    ObjectSurvey out_;
};

}  // namespace

ClientShares shares_of(u32 client) {
    ClientShares c;
    c.client = client;
    const ShareClient& s = share_client(client);
    if (s.takes_part()) {
        const ClientName name = s.name();
        c.name = printable(name.text, sizeof name.text);
    }
    c.sent = s.sent;
    c.received = s.received;
    const u32 exports = exports_used();
    each_message(client, [&](u32, const Message& m) {
        const u32 object = m.object;
        if (object == NO_RECORD) return;
        ++c.messages;
        if (object <= exports) c.message_bytes += copied<ExportFields>(export_at(object)).bytes;
    });
    return c;
}

ObjectSurvey survey_objects(const NodePool& pool, usize most, u64 longest_ns) {
    constexpr int TRIES = 3;
    const u64 end_ns = monotonic_ns() + longest_ns;
    for (int attempt = 1;; ++attempt) {
        const QuietMoment moment;
        ObjectSurvey seen = Survey(pool, most, end_ns).run();
        seen.quiet = moment.lasted();
        if (seen.quiet || !seen.complete || attempt == TRIES) return seen;
    }
}

}  // namespace aep
