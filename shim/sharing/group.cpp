// Purpose: see group.hpp.
// Who calls it: see group.hpp.
// Crash rule: see group.hpp. Views are private to the process.
#include "shim/sharing/group.hpp"

#include <errno.h>

#include "dsm-core/sharing/group_ops.hpp"
#include "shim/backing/pool_attach.hpp"
#include "shim/context/join.hpp"
#include "shim/driver/allocator.hpp"
#include "shim/sharing/group_arena.hpp"

namespace aep {
namespace {

constexpr u32 VIEWS = 64;
constexpr usize FIRST_BLOCK = 8 * KiB;
constexpr usize FIRST_EXTENT = 64 * KiB;
/// Above it a group grows by an eighth of what it has: MAX_EXTENTS suffice for any pool.
constexpr usize DOUBLES_UP_TO = 64 * MiB;

/// What this process knows of a group: a cache of the table of exports. Its lock is what makes the
/// threads of a writer take turns; other processes never allocate in the group meanwhile.
struct View {
    Lock lock;
    u64 group;   // 0: of none
    u32 index;   // of its export
    u32 born;    // Export::born: an address, a record and both may be another group's later
    u32 newest;  // extent; 0: none
    u32 freezes;
    u32 count;                         // of parts; 0: to be looked up
    bool shared;                       // false: some of it is private to this process since a fork
    GroupPart parts[MAX_EXTENTS + 1];  // newest first, the group's own block last
};
View views[VIEWS];
std::atomic<u32> freezes{0};

View& view_of(u64 group) { return views[(group >> 12) * 0x9e37'79b9'7f4a'7c15 >> 58]; }
static_assert(VIEWS == 1 << 6);

/// Whether others can see what we write there, and we what they do.
bool is_shared(u64 address, u64 bytes) {
    const ChunkSpan span = chunks_of(address, bytes);
    for (u32 c = span.first; c < span.end; ++c) {
        const Here state = pool.state(c);
        if (state != Here::ours && state != Here::guest) return false;
    }
    return true;
}

/// One group in this thread's hands; a scope.
class Hands {
  public:
    explicit Hands(const void* group)
        : address_(reinterpret_cast<u64>(group)), view_(view_of(address_)), lock_(view_.lock) {
        error_ = look_up();
        if (error_ != 0) view_.group = 0;
    }

    /// 0: this process holds the group, and all of it is accessible.
    long error() const { return error_; }
    /// 0: and it may allocate in it.
    long writer_error() const {
        if (error_ != 0) return error_;
        if (record().writer.load() != this_client.index) return -EPERM;
        return view_.shared ? 0 : -EXDEV;
    }

    const Export& record() const { return export_at(view_.index); }
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
        return root == NO_RECORD ? 0 : u64{export_at(root).address};
    }

    /// An operation of the writer's.
    ShareReply ask(ShareOp op, u64 b = 0, u64 mask = 0) const {
        return share_with_records(op, {.a = address_, .b = b, .mask = mask});
    }
    long extend(usize bytes, usize alignment);
    /// After an extension.
    bool look_again() {
        view_.count = 0;
        return look_up() == 0;
    }

  private:
    long look_up();
    bool collect_parts();

    u64 address_;
    View& view_;
    LockScope lock_;
    long error_ = 0;
};

long Hands::look_up() {
    if (!sharing_open.load(std::memory_order_acquire)) return -ENOTCONN;
    if (!in_heap_window(address_)) return -EINVAL;
    const Export* e = &record();
    if (view_.group != address_ || e->born.load() != view_.born) {
        view_.count = 0;
        const ShareReply reply = ask(ShareOp::group_find);
        if (reply.status == Status::miss || reply.status == Status::not_held) return -EINVAL;
        if (reply.status != Status::ok) return error_of(reply.status);
        if (reply.value != address_) return -EINVAL;  // a root
        view_.group = address_;
        view_.index = static_cast<u32>(reply.mask);
        e = &record();
        view_.born = e->born.load();  // the group stays while this process holds it
    }
    const bool same = view_.count != 0 && view_.newest == e->next_extent.load() &&
                      view_.freezes == freezes.load(std::memory_order_relaxed);
    return same || collect_parts() ? 0 : -ENOMEM;
}

bool Hands::collect_parts() {
    view_.freezes = freezes.load(std::memory_order_relaxed);
    view_.newest = record().next_extent.load();
    view_.shared = true;
    view_.count = 0;
    u32 at = view_.newest == NO_RECORD ? view_.index : view_.newest;
    for (u32 n = 0; n <= MAX_EXTENTS && at != NO_RECORD && at < MAX_EXPORTS; ++n) {
        const Export& e = export_at(at);
        const bool own = at == view_.index;
        if (e.group != view_.index || !in_heap_window(e.address)) break;
        if (own && e.bytes < 2 * sizeof(GroupHeader)) break;  // not made by us
        if (!make_accessible(e.address, e.bytes)) break;
        view_.shared = view_.shared && is_shared(e.address, e.bytes);
        view_.parts[n] = {e.address + (own ? sizeof(GroupHeader) : 0), e.address + e.bytes};
        if (own) {
            view_.count = n + 1;
            return true;
        }
        at = e.next_extent.load();
        if (at == NO_RECORD) at = view_.index;
    }
    return false;
}

/// More memory, for a block of at least that.
long Hands::extend(usize bytes_wanted, usize alignment) {
    const usize needed = group_bytes_for(bytes_wanted, alignment);
    if (needed == 0) return -ENOMEM;
    const usize have = bytes();
    usize grown = have;
    if (grown > DOUBLES_UP_TO) grown = have / 8 > DOUBLES_UP_TO ? have / 8 : DOUBLES_UP_TO;
    if (grown > GROUP_LARGEST) grown = GROUP_LARGEST;
    for (const usize least : {grown, FIRST_EXTENT}) {
        usize size = least > FIRST_EXTENT ? least : FIRST_EXTENT;
        if (size < needed) size = needed;
        void* p = allocate(size);
        if (p == nullptr) continue;
        const usize bytes = mark_shared(p);
        long error = -ENOMEM;  // a signal handler's memory is none to share
        if (bytes != 0) {
            error =
                can_be_shared(p, bytes)
                    ? error_of(ask(ShareOp::group_extend, reinterpret_cast<u64>(p), bytes).status)
                    : -EXDEV;
        }
        if (error == 0) {
            if (!look_again()) return -ENOMEM;
            arena().part_added();
            return 0;
        }
        deallocate(p);
        return error;
    }
    return -ENOMEM;
}

/// Whether nobody else refers to the group any more; an operation, asked only if it matters.
bool readers_are_gone(const void* group, const GroupArena& arena) {
    if (arena.deferred() == 0) return false;
    const ShareFacts facts = share_query(group);
    return facts.references == facts.own;
}

}  // namespace

long group_create(usize hint, void*& group) {
    if (share_self().bits == 0) return -ENOTCONN;
    if (hint > GROUP_LARGEST) return -ENOMEM;
    usize size = sizeof(GroupHeader) + hint + hint / 4;
    if (size < FIRST_BLOCK) size = FIRST_BLOCK;
    void* p = allocate(size);
    if (p == nullptr) return -ENOMEM;
    const usize bytes = mark_shared(p);
    if (bytes == 0 || !can_be_shared(p, bytes)) {
        deallocate(p);
        return bytes == 0 ? -ENOMEM : -EXDEV;
    }
    const u64 address = reinterpret_cast<u64>(p);
    const ShareReply reply = share_with_records(ShareOp::group_make, {.a = address, .mask = bytes});
    if (reply.status != Status::ok) {
        deallocate(p);
        return error_of(reply.status);
    }
    {
        const Hands hands(p);
        if (hands.error() == 0) {
            hands.arena().begin(reply.mask);
            group = p;
            return 0;
        }
    }
    share_drop(p);
    share_collect();
    return -ENOMEM;
}

long group_allocate(void* group, usize bytes, usize alignment, void*& block) {
    Hands hands(group);
    if (const long error = hands.writer_error(); error != 0) return error;
    u64 at = hands.arena().allocate(bytes, alignment);
    if (AEP_UNLIKELY(at == 0)) {
        GroupArena arena = hands.arena();
        const bool alone = readers_are_gone(group, arena);
        if (arena.worth_a_sweep(alone)) {
            arena.sweep(alone);
            at = arena.allocate(bytes, alignment);
        }
    }
    if (AEP_UNLIKELY(at == 0)) {
        if (const long error = hands.extend(bytes, alignment); error != 0) return error;
        at = hands.arena().allocate(bytes, alignment);
    }
    block = reinterpret_cast<void*>(at);
    return at != 0 ? 0 : -ENOMEM;
}

long group_free(void* group, void* block) {
    const Hands hands(group);
    if (const long error = hands.writer_error(); error != 0) return error;
    if (hands.root() == reinterpret_cast<u64>(block)) return -EBUSY;
    // One is our own. Others who come later come by a root from which it is not reached any more.
    const bool readers = hands.record().references.load() != 1 ||
                         (shares_between_nodes() && references_elsewhere(hands.record()) != 0);
    return hands.arena().free(reinterpret_cast<u64>(block), readers) ? 0 : -EINVAL;
}

long group_set_root(void* group, void* object) {
    const Hands hands(group);
    if (const long error = hands.writer_error(); error != 0) return error;
    const u64 root = reinterpret_cast<u64>(object);
    const GroupArena arena = hands.arena();
    if (root != 0 && !arena.is_live(root)) return -EINVAL;
    const usize bytes = root == 0 ? 0 : arena.usable(root);
    return error_of(hands.ask(ShareOp::group_root, root, bytes).status);
}

long group_root(void* group, void*& root) {
    const Hands hands(group);
    if (hands.error() != 0) return hands.error();
    root = reinterpret_cast<void*>(hands.root());
    return root != nullptr ? 0 : -ENOENT;
}

long group_bytes(void* group, usize& bytes) {
    const Hands hands(group);
    if (hands.error() == 0) bytes = hands.bytes();
    return hands.error();
}

long group_of(const void* root, void*& group) {
    if (share_self().bits == 0) return -ENOTCONN;
    const ShareReply reply =
        share_with_records(ShareOp::group_find, {.a = reinterpret_cast<u64>(root)});
    if (reply.status == Status::miss) return -EINVAL;
    group = reinterpret_cast<void*>(reply.value);
    return error_of(reply.status);
}

long group_hand_over(void* group, ShareId to) {
    const Hands hands(group);
    if (const long error = hands.writer_error(); error != 0) return error;
    if (to.bits == 0) return -ESRCH;
    if (is_elsewhere(to)) return -EXDEV;
    return error_of(hands.ask(ShareOp::group_writer, to.bits).status);
}

long group_close(void* group) {
    {
        const Hands hands(group);
        const long error = hands.writer_error();
        if (error != 0 && error != -EXDEV) return error;
        const ShareReply reply = hands.ask(ShareOp::group_writer, 0);
        if (reply.status != Status::ok) return error_of(reply.status);
    }
    share_drop(group);
    share_collect();
    return 0;
}

bool group_received(Received& received) {
    received.group = received.object;
    const Hands hands(received.group);
    if (hands.error() != 0) return false;
    const u32 root = hands.record().root.load();
    if (root != NO_RECORD) {
        received.object = reinterpret_cast<void*>(u64{export_at(root).address});
        received.bytes = export_at(root).bytes;
    }
    return true;
}

void group_dropped(u64 group) {
    View& view = view_of(group);
    const LockScope scope(view.lock);
    if (view.group == group) view.group = 0;
}

void groups_froze() { freezes.fetch_add(1, std::memory_order_relaxed); }

void forget_groups() {
    for (View& view : views) {
        view.lock.reset();
        view.group = 0;
    }
}

}  // namespace aep
