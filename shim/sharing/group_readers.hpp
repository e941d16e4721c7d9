// Purpose: when a group's readers look at it: a table in the group's header, in which each of them that says so tells
//          since when it looks, or that it does not.
// Who calls it: group.cpp and group_view.cpp; tests.
// Crash rule: an entry is one word. A reader that is killed leaves one that says which client, of which generation, it
//             was: nobody takes it for another's, and the next reader that has none takes its place.
//
// What the writer frees belongs to a *period*. A reader that begins to look notes the period there is, and then reads;
// the writer begins the next one when it has unlinked what it freed. So who noted a period has never seen what was freed
// in those before. Both put a full barrier between their store and their load: either the writer finds the
// reader's note, or the reader finds all unlinked that the writer has freed by then.
//
// Anybody who holds the group can overwrite the table. Then blocks may be used again that somebody reads, or never: the
// holders' own contents, and nothing else, for all that is read here is compared and never followed.
#pragma once

#include "dsm-core/sharing/group_header.hpp"

namespace aep {

/// Periods count round, odd and even ones by turns; this one is none.
inline constexpr u64 NOT_LOOKING = 0;
inline constexpr u64 LAST_PERIOD = 0xfffe;

inline u64 period_after(u64 period) { return period >= LAST_PERIOD ? 1 : period + 1; }

/// One word of the table: a client, and since when it looks.
struct GroupReader {
    u64 bits;
    static constexpr GroupReader make(u32 client, u32 generation, u64 since) {
        return {u64{generation} << 32 | (since & 0xffff) << 16 | (client & 0xffff)};
    }
    u32 client() const { return static_cast<u32>(bits) & 0xffff; }
    u32 generation() const { return static_cast<u32>(bits >> 32); }
    u64 since() const { return bits >> 16 & 0xffff; }
    bool is(u32 client, u32 generation) const {
        return (bits & ~(u64{0xffff} << 16)) == make(client, generation, 0).bits;
    }
};

/// What the writer learns from the table.
struct GroupReadersSeen {
    op::CountUnknown question;  // names those that it has learned of
    bool all_rest = true;       // none of them looks
    bool all_recent = true;     // none has looked since before this period
};

/// In the header of a group.
class GroupReaders {
  public:
    explicit GroupReaders(u64* words) : words_(words) {}

    /// The place of the reader; GROUP_READERS: it has none. `since`: what it has noted there.
    u32 find(u32 client, u32 generation, u64& since) const;
    /// A place for the reader, which has none and does not look. GROUP_READERS: there are too many.
    u32 enter(u32 client, u32 generation);
    /// The reader at that place begins or (`since` NOT_LOOKING) ends a look. False: the place is not its own any more.
    bool note(u32 place, u32 client, u32 generation, u64 since);
    /// Asks for all of them but the writer. `period`: the one there is.
    GroupReadersSeen look(uptr group, u32 writer, u64 period) const;

  private:
    u64* words_;
};

}  // namespace aep
