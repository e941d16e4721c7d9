// Purpose: see group.hpp.
// Who calls it: see group.hpp.
// Crash rule: see group.hpp. Views are private to the process.
#include "shim/sharing/group.hpp"

#include <errno.h>

#include "shim/driver/allocator.hpp"
#include "shim/sharing/group_view.hpp"
#include "shim/sharing/guests.hpp"
#include "shim/sharing/sendable.hpp"
#include "shim/sharing/share_wait.hpp"

namespace aep {
namespace {

constexpr usize FIRST_BLOCK = 8 * KiB;
constexpr usize FIRST_EXTENT = 64 * KiB;
/// Above it a group grows by an eighth of what it has: MAX_EXTENTS suffice for any pool.
constexpr usize DOUBLES_UP_TO = 64 * MiB;

/// Memory that others can see, also after a fork.
void* allocate_sendable(usize size) {
    void* p = allocate(size);
    return p == nullptr ? p : make_sendable(p, size, MIN_ALIGNMENT, 0);
}

/// More memory, for a block of at least that.
long extend(GroupScope& hands, usize bytes_wanted, usize alignment) {
    const usize needed = group_bytes_for(bytes_wanted, alignment);
    if (needed == 0) return -ENOMEM;
    const usize have = hands.bytes();
    usize grown = have;
    if (grown > DOUBLES_UP_TO) grown = have / 8 > DOUBLES_UP_TO ? have / 8 : DOUBLES_UP_TO;
    if (grown > GROUP_LARGEST) grown = GROUP_LARGEST;
    for (const usize least : {grown, FIRST_EXTENT}) {
        usize size = least > FIRST_EXTENT ? least : FIRST_EXTENT;
        if (size < needed) size = needed;
        void* p = allocate_sendable(size);
        if (p == nullptr) continue;
        const usize bytes = mark_shared(p);
        long error = -ENOMEM;  // a signal handler's memory is none to share
        if (bytes != 0) {
            error = can_be_shared(p, bytes)
                        ? error_of(share_with_records(
                                       op::ExtendGroup{.group = hands.address(),
                                                       .extent = reinterpret_cast<uptr>(p),
                                                       .bytes = bytes})
                                       .status)
                        : -EXDEV;
        }
        if (error == 0) {
            if (!hands.look_again()) return -ENOMEM;
            hands.arena().part_added();
            return 0;
        }
        deallocate(p);
        return error;
    }
    return -ENOMEM;
}

/// Which deferred blocks nobody can be reading any more; an operation, asked only if it matters. `hopeful`: if they do
/// not go on looking, it will be more.
Unread unread_of(const GroupScope& hands, const GroupArena& arena, bool& hopeful) {
    hopeful = false;
    if (arena.deferred() == 0) return Unread::none;
    const GroupReadersSeen seen =
        arena.readers().look(hands.address(), this_client.index, arena.period());
    const auto reply = share_operation(seen.question);
    if (reply.status != Status::ok || reply.unknown != 0) return Unread::none;
    hopeful = true;
    if (seen.all_rest) return Unread::all;
    return seen.all_recent ? Unread::older : Unread::none;
}

/// How long the growth of a group is put off whose memory is for the most part kept for readers.
constexpr u64 GRACE_NS = 20'000'000;

/// Before the group grows. True: free blocks have been joined, with what nobody reads any more among them.
bool take_in(const GroupScope& hands) {
    GroupArena arena = hands.arena();
    static constinit std::atomic<u32> nothing{0};
    Naps naps;
    for (u64 end = 0;;) {
        bool hopeful;
        const Unread unread = unread_of(hands, arena, hopeful);
        const bool worth = arena.worth_a_sweep(unread);
        if (worth) arena.sweep(unread);
        // Who begins to look from here on has not seen what was freed so far. If that is nothing, this period goes on: no
        // number may come round to who looks for long.
        const bool freed_now = arena.deferred() != arena.older();
        if (freed_now && (unread != Unread::none || arena.older() == 0)) arena.next_period();
        if (worth || !hopeful || arena.deferred() < hands.bytes() / 2) return worth;
        const u64 now = now_ns();
        if (end == 0) end = now + GRACE_NS;
        if (now >= end) return false;
        sleep_while(nothing, 0, now + naps.next(now));
    }
}

}  // namespace

long group_create(usize hint, void*& group) {
    if (share_self().bits == 0) return -ENOTCONN;
    if (hint > GROUP_LARGEST) return -ENOMEM;
    usize size = sizeof(GroupHeader) + hint + hint / 4;
    if (size < FIRST_BLOCK) size = FIRST_BLOCK;
    void* p = allocate_sendable(size);
    if (p == nullptr) return -ENOMEM;
    const usize bytes = mark_shared(p);
    if (bytes == 0 || !can_be_shared(p, bytes)) {
        deallocate(p);
        return bytes == 0 ? -ENOMEM : -EXDEV;
    }
    const u64 address = reinterpret_cast<u64>(p);
    const auto reply = share_with_records(op::MakeGroup{.block = address, .bytes = bytes});
    if (reply.status != Status::ok) {
        deallocate(p);
        return error_of(reply.status);
    }
    {
        const GroupScope hands(p);
        if (hands.error() == 0) {
            hands.arena().begin(reply.number);
            group = p;
            return 0;
        }
    }
    share_drop(p);
    share_collect();
    return -ENOMEM;
}

long group_allocate(void* group, usize bytes, usize alignment, void*& block) {
    GroupScope hands(group);
    if (const long error = hands.writer_error(); error != 0) return error;
    u64 at = hands.arena().allocate(bytes, alignment);
    if (AEP_UNLIKELY(at == 0) && take_in(hands)) at = hands.arena().allocate(bytes, alignment);
    if (AEP_UNLIKELY(at == 0)) {
        if (const long error = extend(hands, bytes, alignment); error != 0) return error;
        at = hands.arena().allocate(bytes, alignment);
    }
    block = reinterpret_cast<void*>(at);
    return at != 0 ? 0 : -ENOMEM;
}

long group_free(void* group, void* block) {
    const GroupScope hands(group);
    if (const long error = hands.writer_error(); error != 0) return error;
    if (hands.root() == reinterpret_cast<u64>(block)) return -EBUSY;
    // One is our own. Others who come later come by a root from which it is not reached any more.
    const bool readers = hands.record().references.load() != 1 ||
                         (shares_between_nodes() && references_elsewhere(hands.record()) != 0);
    GroupArena arena = hands.arena();
    if (!arena.free(reinterpret_cast<u64>(block), readers)) return -EINVAL;
    if (readers && arena.older() == 0 && arena.worth_a_sweep(Unread::all)) arena.next_period();
    return 0;
}

long group_set_root(void* group, void* object) {
    const GroupScope hands(group);
    if (const long error = hands.writer_error(); error != 0) return error;
    const u64 root = reinterpret_cast<u64>(object);
    const GroupArena arena = hands.arena();
    if (root != 0 && !arena.is_live(root)) return -EINVAL;
    const usize bytes = root == 0 ? 0 : arena.usable(root);
    return error_of(
        share_with_records(op::SetRoot{.group = hands.address(), .root = root, .bytes = bytes})
            .status);
}

long group_root(void* group, void*& root) {
    const GroupScope hands(group);
    if (hands.error() != 0) return hands.error();
    hands.begin_look();
    root = reinterpret_cast<void*>(hands.root());
    return root != nullptr ? 0 : -ENOENT;
}

long group_quiesce(void* group) {
    const GroupScope hands(group);
    if (hands.error() == 0) hands.end_look();
    return hands.error();
}

long group_take_over(void* group) {
    GroupScope hands(group);
    if (hands.error() != 0) return hands.error();
    if (!hands.is_shared()) return -EXDEV;
    if (hands.record().writer.load() == this_client.index) return 0;
    const Status status = share_with_records(op::TakeGroup{.group = hands.address()}).status;
    if (status != Status::ok) return error_of(status);
    // The former writer may have let it grow until just now.
    if (!hands.look_again()) {
        share_with_records(op::SetWriter{.group = hands.address()});
        return -ENOMEM;
    }
    hands.arena().take_over();
    return 0;
}

long group_inspect(void* group, GroupFacts& facts) {
    const GroupScope hands(group);
    if (hands.error() != 0) return hands.error();
    const Export& e = hands.record();
    const u32 writer = e.writer.load();
    facts = {.bytes = hands.bytes(),
             .deferred = hands.arena().deferred(),
             .references = e.references.load() + references_elsewhere(e),
             .writer = writer == 0 ? ShareId{} : id_of(writer)};
    return 0;
}

long group_bytes(void* group, usize& bytes) {
    const GroupScope hands(group);
    if (hands.error() == 0) bytes = hands.bytes();
    return hands.error();
}

long group_of(const void* root, void*& group) {
    if (share_self().bits == 0) return -ENOTCONN;
    const auto reply = share_with_records(op::FindGroup{.object = reinterpret_cast<uptr>(root)});
    if (reply.status == Status::miss) return -EINVAL;
    group = reinterpret_cast<void*>(reply.group);
    return error_of(reply.status);
}

long group_hand_over(void* group, ShareId to) {
    const GroupScope hands(group);
    if (const long error = hands.writer_error(); error != 0) return error;
    if (to.bits == 0) return -ESRCH;
    if (is_elsewhere(to)) return -EXDEV;
    return error_of(
        share_with_records(op::SetWriter{.group = hands.address(), .writer = to}).status);
}

long group_close(void* group) {
    {
        const GroupScope hands(group);
        const long error = hands.writer_error();
        if (error != 0 && error != -EXDEV) return error;
        const auto reply = share_with_records(op::SetWriter{.group = hands.address()});
        if (reply.status != Status::ok) return error_of(reply.status);
    }
    share_drop(group);
    share_collect();
    return 0;
}

}  // namespace aep
