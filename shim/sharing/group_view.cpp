// Purpose: see group_view.hpp.
// Who calls it: see group_view.hpp.
// Crash rule: see group_view.hpp.
#include "shim/sharing/group_view.hpp"

#include "shim/backing/pool_attach.hpp"
#include "shim/sharing/guests.hpp"

namespace aep {

GroupView group_views[GROUP_VIEWS];

namespace {

/// Whether others can see what we write there, and we what they do.
bool others_see(u64 address, u64 bytes) {
    const ChunkSpan span = chunks_of(address, bytes);
    for (u32 c = span.first; c < span.end; ++c) {
        const ChunkView state = pool.state(c);
        if (state != ChunkView::ours && state != ChunkView::guest) return false;
    }
    return true;
}

}  // namespace

long GroupScope::look_up() {
    if (!sharing_open.load(std::memory_order_acquire)) return -ENOTCONN;
    if (!in_heap_window(address_)) return -EINVAL;
    if (!is_known()) {
        view_.count = 0;
        // First: who drops the group meanwhile takes it away (group_dropped).
        view_.group = address_;
        const auto reply = share_with_records(op::FindGroup{.object = address_});
        if (reply.status == Status::miss || reply.status == Status::not_held) return -EINVAL;
        if (reply.status != Status::ok) return error_of(reply.status);
        if (reply.group != address_) return -EINVAL;  // a root
        view_.says = view_.looks = false;
        view_.index = reply.index;
        view_.born = side().born.load();  // the group stays while this process holds it
        if (!collect_parts()) return -ENOMEM;
        if (!is_readers_table_ours()) return 0;
        u64 since = NOT_LOOKING;  // another view of it may have been given up before
        view_.place = arena().readers().find(this_client.index, this_client.generation, since);
        view_.says = view_.place != GROUP_READERS;
        view_.looks = since != NOT_LOOKING;
        return 0;
    }
    return is_up_to_date() || collect_parts() ? 0 : -ENOMEM;
}

/// Whether the writer looks at what this process notes in the group.
bool GroupScope::is_readers_table_ours() const {
    return view_.shared && record().owner.load() != OWNER_ELSEWHERE && is_writable(address_);
}

bool GroupScope::unlock_parts() const {
    for (u32 i = 0; i < view_.count && !view_.written; ++i) {
        const GroupPart& part = view_.parts[i];
        if (!make_writable(part.begin, part.end - part.begin)) return false;
    }
    view_.written = true;
    return true;
}

bool GroupScope::collect_parts() {
    view_.freezes = pool.freezes.load(std::memory_order_relaxed);
    view_.newest = side().next_extent.load();
    view_.shared = true;
    view_.written = false;
    view_.count = 0;
    u32 at = view_.newest == NO_RECORD ? view_.index : view_.newest;
    for (u32 n = 0; n <= MAX_EXTENTS && at != NO_RECORD && at < MAX_EXPORTS; ++n) {
        const Export& e = export_at(at);
        const bool own = at == view_.index;
        const u64 address = e.address.load();
        const u64 bytes = e.bytes.load();
        if (e.group.load() != view_.index || !in_heap_window(address)) break;
        if (own && bytes < 2 * sizeof(GroupHeader)) break;  // not made by us
        if (!make_accessible(address, bytes)) break;
        view_.shared = view_.shared && others_see(address, bytes);
        view_.parts[n] = {address + (own ? sizeof(GroupHeader) : 0), address + bytes};
        if (own) {
            view_.count = n + 1;
            return true;
        }
        at = side_at(at).next_extent.load();
        if (at == NO_RECORD) at = view_.index;
    }
    return false;
}

void GroupScope::note_look() const {
    const GroupArena own = arena();
    view_.says =
        own.readers().note(view_.place, this_client.index, this_client.generation, own.period());
    view_.looks = view_.says;
}

void GroupScope::end_look() const {
    if (!is_readers_table_ours()) return;
    GroupReaders readers = arena().readers();
    if (!view_.says) view_.place = readers.enter(this_client.index, this_client.generation);
    view_.says = view_.place != GROUP_READERS &&
                 readers.note(view_.place, this_client.index, this_client.generation, NOT_LOOKING);
    view_.looks = false;
}

bool group_received(Received& received) {
    received.group = received.object;
    const GroupScope hands(received.group);
    if (hands.error() != 0) return false;
    hands.begin_look();
    const u32 root = hands.record().root.load();
    if (root != NO_RECORD) {
        received.object = reinterpret_cast<void*>(export_at(root).address.load());
        received.bytes = export_at(root).bytes.load();
    }
    return true;
}

void group_dropped(u64 group) {
    // Without the lock: it may be a signal handler that drops, on top of the lock's holder.
    group_view_of(group).group.compare_exchange_strong(group, 0);
}

void forget_groups() {
    for (GroupView& view : group_views) {
        view.lock.reset();
        view.group = 0;
    }
}

}  // namespace aep
