// Purpose: what this process has been told of one client, and what there is to tell when that is compared with what is.
// Who calls it: peer_table.cpp (clients of its node), peers_elsewhere.cpp (those of others).
// Crash rule: private to the process.
#pragma once

#include "dsm-core/sharing/format.hpp"

namespace aep {

enum class PeerChange : u32 { came = 1, left = 2, died = 3, renamed = 4 };

struct PeerEvent {
    PeerChange change = PeerChange::came;
    u32 missed = 0;  // stays at that place that began and ended before, and were not told of
    ShareId peer{};
    ShareName name{};  // its new one; of who has gone the one that was told of
};

/// Zeroes: nobody was ever there.
struct ToldPeer {
    u32 stays = 0;  // Attendance: odd: it is there, as far as was told
    u32 names = 0;
    ShareId id{};
    ShareName name{};

    bool is_there() const { return stays % 2 != 0; }

    /// Nothing of what was before is to be told; who is there has just come.
    void begin(u32 stays_now) { *this = {.stays = stays_now & ~1u}; }

    /// Compares with what is, which is told of from then on. False: it is as it was told.
    bool tell(const op::LookAtPeer::Reply& now, PeerEvent& event) {
        if (is_there() && stays != now.stays) return goes(now, event);
        const bool same = now.stays == stays, there = now.stays % 2 != 0;
        const bool renamed = same && there && names != now.names;
        const i32 more = static_cast<i32>(now.stays - stays);
        *this = {.stays = now.stays, .names = now.names, .id = now.id, .name = now.name};
        // Fewer stays: what had been told was undone.
        if ((same && !renamed) || (more < 0 && !there)) return false;
        event = {.missed = more > 0 ? static_cast<u32>(more) / 2 : 0, .peer = id, .name = name};
        if (renamed) {
            event.change = PeerChange::renamed;
        } else if (!there) {
            event.change = now.died != 0 ? PeerChange::died : PeerChange::left;
            --event.missed;  // of these stays it is the last
        }
        return true;
    }

    /// Who was there is no more, for its node is not.
    bool tell_lost(PeerEvent& event) {
        if (!is_there()) return false;
        event = {.change = PeerChange::died, .peer = id, .name = name};
        ++stays;
        return true;
    }

  private:
    /// Others may have come since.
    bool goes(const op::LookAtPeer::Reply& now, PeerEvent& event) {
        // Of its last stay it is known; of one before that by whether its process has been followed by another one.
        const bool died = now.stays == stays + 1 ? now.died != 0 : now.id != id;
        event = {.change = died ? PeerChange::died : PeerChange::left, .peer = id, .name = name};
        ++stays;
        return true;
    }
};

}  // namespace aep
