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
bool is_shared(u64 address, u64 bytes) {
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
        const auto reply = share_with_records(op::FindGroup{.object = address_});
        if (reply.status == Status::miss || reply.status == Status::not_held) return -EINVAL;
        if (reply.status != Status::ok) return error_of(reply.status);
        if (reply.group != address_) return -EINVAL;  // a root
        view_.group = address_;
        view_.index = reply.index;
        view_.born = side().born.load();  // the group stays while this process holds it
    }
    return is_up_to_date() || collect_parts() ? 0 : -ENOMEM;
}

bool GroupScope::collect_parts() {
    view_.freezes = pool.freezes.load(std::memory_order_relaxed);
    view_.newest = side().next_extent.load();
    view_.shared = true;
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
        view_.shared = view_.shared && is_shared(address, bytes);
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

bool group_received(Received& received) {
    received.group = received.object;
    const GroupScope hands(received.group);
    if (hands.error() != 0) return false;
    const u32 root = hands.record().root.load();
    if (root != NO_RECORD) {
        received.object = reinterpret_cast<void*>(export_at(root).address.load());
        received.bytes = export_at(root).bytes.load();
    }
    return true;
}

void group_dropped(u64 group) {
    GroupView& view = group_view_of(group);
    const LockScope scope(view.lock);
    if (view.group == group) view.group = 0;
}

void forget_groups() {
    for (GroupView& view : group_views) {
        view.lock.reset();
        view.group = 0;
    }
}

}  // namespace aep
