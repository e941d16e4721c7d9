// Purpose: what this process knows of the groups that it holds: their parts and roots, looked up in
//          the table of exports once.
// Who calls it: group.cpp; sharing.cpp when a group comes or goes.
// Crash rule: private to the process; what the table knows changes in one operation a call.
#pragma once

#include <errno.h>

#include "dsm-core/base/lock.hpp"
#include "dsm-core/sharing/group_ops.hpp"
#include "shim/backing/pool_attach.hpp"
#include "shim/context/client.hpp"
#include "shim/sharing/group_arena.hpp"
#include "shim/sharing/held_lock.hpp"
#include "shim/sharing/received.hpp"
#include "shim/sharing/share_operation.hpp"

namespace aep {

/// What this process knows of a group: a cache of the table of exports. Its lock is what makes the
/// threads of a writer take turns; other processes never allocate in the group meanwhile.
struct GroupView {
    Lock lock;
    std::atomic<u64> group;  // 0: of none. Without the lock it may become that
    u64 born;    // ExportSide::born: an address, a record and both may be another group's later
    u32 index;   // of its export
    u32 newest;  // extent; 0: none
    u32 freezes;
    u32 count;     // of parts; 0: to be looked up
    bool shared;   // false: some of it is private to this process since a fork
    bool written;  // it can be written although what is received cannot
    bool says;     // when it looks: at `place` of the group's readers
    bool looks;    // since it said so; else it always does
    u32 place;
    GroupPart parts[MAX_EXTENTS + 1];  // newest first, the group's own block last
};

inline constexpr u32 GROUP_VIEWS = 64;
extern GroupView group_views[GROUP_VIEWS] __attribute__((visibility("hidden")));
inline GroupView& group_view_of(u64 group) {
    static_assert(GROUP_VIEWS == 1 << 6);
    return group_views[(group >> 12) * 0x9e37'79b9'7f4a'7c15 >> 58];
}

/// One group in this thread's hands.
class GroupScope {
  public:
    explicit GroupScope(const void* group)
        : address_(reinterpret_cast<u64>(group)),
          view_(group_view_of(address_)),
          lock_(view_.lock, HeldKind::view) {
        if (AEP_UNLIKELY(lock_.refused())) {
            error_ = -EDEADLK;
            return;
        }
        if (AEP_LIKELY(is_known() && is_up_to_date())) return;
        error_ = look_up();
        if (error_ != 0) view_.group = 0;
    }

    /// 0: this process holds the group, and all of it is accessible.
    long error() const { return error_; }
    /// 0: and it may allocate in it.
    long writer_error() const {
        if (error_ != 0) return error_;
        if (record().writer.load() != this_client.index) return -EPERM;
        if (!view_.shared) return -EXDEV;
        const bool locked = pool.guests_read_only.load(std::memory_order_relaxed);
        return AEP_LIKELY(!locked) || unlock_parts() ? 0 : -ENOMEM;
    }
    /// False: some of it is private to this process since a fork.
    bool is_shared() const { return view_.shared; }

    const Export& record() const { return export_at(view_.index); }
    const ExportSide& side() const { return side_at(view_.index); }
    GroupArena arena() const {
        return {*reinterpret_cast<GroupHeader*>(address_), {view_.parts, view_.count}};
    }
    usize bytes() const {
        usize sum = sizeof(GroupHeader);
        for (u32 i = 0; i < view_.count; ++i) sum += view_.parts[i].end - view_.parts[i].begin;
        return sum;
    }
    u64 root() const {
        const u32 root = record().root.load();
        return root == NO_RECORD ? 0 : export_at(root).address.load();
    }

    uptr address() const { return address_; }
    /// From here on this process may be reading what the root leads to.
    void begin_look() const {
        if (AEP_UNLIKELY(view_.says && !view_.looks)) note_look();
    }
    /// It is not until the next begin_look(). Nothing for who reads a copy, from another node, or as one too many.
    void end_look() const;
    /// After an extension.
    bool look_again() {
        view_.count = 0;
        return look_up() == 0;
    }

  private:
    /// Makes the parts writable that others made. False: too many mappings.
    bool unlock_parts() const;
    /// Whether the view is this group's, and it is the one that was looked up.
    bool is_known() const {
        return sharing_open.load(std::memory_order_acquire) && view_.group == address_ &&
               side().born.load() == view_.born;
    }
    bool is_up_to_date() const {
        return view_.count != 0 && view_.newest == side().next_extent.load() &&
               view_.freezes == pool.freezes.load(std::memory_order_relaxed);
    }
    long look_up();
    bool collect_parts();
    void note_look() const;
    bool is_readers_table_ours() const;

    u64 address_;
    GroupView& view_;
    HeldLock lock_;
    long error_ = 0;
};

/// Completes a message whose object is a group: its root, all of it accessible. False: it cannot
/// be made accessible.
bool group_received(Received& received);
/// This process does not hold the group any more.
void group_dropped(u64 group);
/// In a forked child: groups are the parent's.
void forget_groups();

}  // namespace aep
