// Purpose: see sharing.hpp.
// Who calls it: see sharing.hpp.
// Crash rule: see sharing.hpp. A process killed while it waits leaves a count of waiters too high,
//             which costs its successor a system call a message until it attaches.
#include "shim/sharing/sharing.hpp"

#include <errno.h>

#include "dsm-core/sharing/directory.hpp"
#include "dsm-core/sharing/records.hpp"
#include "shim/backing/populate.hpp"
#include "shim/context/client.hpp"
#include "shim/context/context_file.hpp"
#include "shim/driver/allocator.hpp"
#include "shim/driver/forking.hpp"
#include "shim/driver/growth.hpp"
#include "shim/sharing/group_view.hpp"
#include "shim/sharing/guests.hpp"
#include "shim/sharing/held_lock.hpp"
#include "shim/sharing/kept_mailboxes.hpp"
#include "shim/sharing/mailboxes.hpp"
#include "shim/sharing/peer_table.hpp"
#include "shim/sharing/share_fd.hpp"
#include "shim/sharing/share_mailbox.hpp"
#include "shim/sharing/wait_for.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {

namespace {

// ---- waiting

Patience for_messages;
Patience for_room;

/// Changes when other nodes send something to this one. Only those that talk are looked at.
u64 sent_to(u32 node) {
    const era::Tables t = era_tables();
    u64 mail = t.entry(node).mail.load(std::memory_order_acquire) & t.all_nodes();
    u64 messages = mail;
    for (; mail != 0; mail &= mail - 1) {
        const u32 from = static_cast<u32>(__builtin_ctzll(mail));
        messages += t.tail(from, node).load(std::memory_order_acquire);
    }
    return messages;
}

/// What that node has taken of what we sent.
u64 taken_at(u32 node) {
    return era_tables().head(context().era_node, node).load(std::memory_order_acquire);
}

}  // namespace

// ---- what others have let go of

namespace {

/// Objects that lingered because other nodes had them: some may go if the doorbell has rung since
/// somebody of this node looked. The daemon looks now and then, too.
[[gnu::noinline]] void settle_what_rang() {
    ShareHeader& s = sharing();
    if (s.deferred.count.load(std::memory_order_relaxed) == 0) return;
    const era::NodeEntry& own = era_tables().entry(context().era_node);
    const u32 bell = static_cast<u32>(own.doorbell.load(std::memory_order_acquire));
    if (s.doorbell.exchange(bell, std::memory_order_relaxed) == bell) return;
    share_with_records(op::Settle{.own_only = true});
}

/// Whether anything has come back is on a line that others write. So a thread looks when it has made so many calls, or has sent so much.
constexpr i64 LOOK_AFTER_CALLS = 12;  // what has come back meanwhile mostly fits into one answer
constexpr i64 LOOK_AFTER_BYTES = 64 * KiB;

__thread i64 left_until_look AEP_TLS = 0;

[[gnu::noinline]] void free_returned() {
    left_until_look = LOOK_AFTER_BYTES;
    while (has_returned(share_client(this_client.index))) {
        const auto reply = share_operation(op::TakeReturned{});
        if (reply.status != Status::ok) return;
        for (u32 i = 0; i < reply.count && i < op::TakeReturned::MOST; ++i)
            deallocate_unshared(reinterpret_cast<void*>(reply.objects[i]));
    }
}

}  // namespace

void share_collect() {
    if (shares_between_nodes()) settle_what_rang();
    free_returned();
}

void share_collect_at_times(usize bytes) {
    if (shares_between_nodes()) settle_what_rang();
    left_until_look -= LOOK_AFTER_BYTES / LOOK_AFTER_CALLS + static_cast<i64>(bytes);
    if (AEP_UNLIKELY(left_until_look <= 0)) free_returned();
}

ShareId share_lookup(const char* name) {
    if (!this_client.attached || name == nullptr || name[0] == '\0') return {};
    const ShareId here = find_here(name);  // sending to it tells whether it still lives
    return here.bits != 0 || !shares_between_nodes() ? here : find_elsewhere(name);
}

long share_lookup_wait(const char* name, int timeout_ms, ShareId& found) {
    found = share_lookup(name);
    if (found.bits != 0) return 0;
    if (!this_client.attached) return -ENOTCONN;
    if (name == nullptr || name[0] == '\0') return -EINVAL;
    if (timeout_ms == 0) return -ENOENT;
    const u64 deadline = deadline_of(now_ns(), timeout_ms);
    const std::atomic<u32> nobody_changes_it{0};
    Naps naps;
    for (;;) {
        const u64 now = now_ns();
        const u64 end = now + naps.next(now);
        const bool last = deadline != 0 && deadline <= end;
        const long slept = sleep_while(nobody_changes_it, 0, last ? deadline : end);
        found = share_lookup(name);
        if (found.bits != 0) return 0;
        if (slept != -ETIMEDOUT || last) return slept;
        if (is_given_up()) return -ENOTRECOVERABLE;
    }
}

bool can_be_sent(const void* p, usize bytes) {
    const ShareFacts facts = share_query(p);
    return facts.own != 0 || (bytes != 0 && facts.references == 0);
}

namespace {

/// A send that found the mailbox full, again.
[[gnu::noinline]] op::Send::Reply send_when_there_is_room(const op::Send& request, int timeout_ms,
                                                          long& result) {
    result = -EAGAIN;
    if (timeout_ms == 0) return {.status = Status::full};
    const ShareId to = request.to;
    const bool away = shares_between_nodes() && is_elsewhere(to);
    // Nobody sleeps for room in another node: those are naps on a word of our own.
    Inbox& receiver = inbox_at(away ? this_client.index : to.inbox());
    return wait_for({receiver.departures, receiver.departure_waiters, Status::full, for_room,
                     away ? taken_at : nullptr, to.node()},
                    timeout_ms, result, [&] { return share_with_records(request); });
}

/// A receive. The first message of a process makes the pool accessible, before it is taken: one that
/// cannot be looked at is dropped. (What comes between the look and the receive is taken first.)
op::Receive::Reply take_message(const op::Receive& request) {
    if (AEP_UNLIKELY(!pool_is_accessible()) && a_message_waits(request.at) &&
        !make_pool_accessible())
        return {Status::limit};
    return share_with_records(request);
}

/// Whether a look is enough to say that nothing has come. (A receiver that asks again and again costs senders nothing
/// then; one that is about to sleep performs the operation: see Turn::wake_after.)
bool nothing_waits(ShareId from, u32 at) {
    const u32 state = context().state.load(std::memory_order_relaxed);
    return from.bits == 0 && state == static_cast<u32>(ContextState::live) && !a_message_waits(at);
}

/// Whether an inbox is open, as far as is known here.
bool seems_open(ShareId id) {
    const bool away = shares_between_nodes() && is_elsewhere(id);
    return away ? is_reachable(era_tables(), id) : is_open(id);
}

/// A receive that found nothing, again.
[[gnu::noinline]] op::Receive::Reply receive_what_comes(const op::Receive& request,
                                                        ShareId while_open, int timeout_ms,
                                                        long& result) {
    Inbox& own = inbox_at(request.at);
    const bool main = request.at == this_client.index;
    const auto attempt = [&] {
        // Before the look: what it had sent before it went is there, then.
        const bool hopeless = while_open.bits != 0 && !seems_open(while_open);
        op::Receive::Reply reply = take_message(request);
        if (hopeless && reply.status == Status::miss) reply.status = Status::gone;
        if (main && reply.status == Status::miss && ends_receives()) reply.status = Status::busy;
        return reply;
    };
    auto reply = wait_for({own.arrivals, own.arrival_waiters, Status::miss, for_messages,
                           shares_between_nodes() ? sent_to : nullptr, context().era_node},
                          timeout_ms, result, attempt);
    if (reply.status == Status::busy) result = -ENOMSG;
    return reply;
}

}  // namespace

long share_send(ShareId to, void* p, usize bytes, int timeout_ms, const Sending& how) {
    if (!takes_part()) return -ENOTCONN;
    share_collect_at_times(bytes);
    const op::Send request{.object = reinterpret_cast<uptr>(p),
                           .to = to,
                           .bytes = bytes,
                           .label = how.label,
                           .as = how.as,
                           .drop = how.drop};
    op::Send::Reply reply = share_with_records(request);
    if (AEP_UNLIKELY(reply.status != Status::ok)) {
        long result = error_of(reply.status);
        if (reply.status == Status::full) {
            // What it is has not been looked at yet.
            if (!can_be_sent(p, bytes)) return -EINVAL;
            reply = send_when_there_is_room(request, timeout_ms, result);
        }
        if (result != 0) return result;
    }
    if (AEP_UNLIKELY(reply.left_group != 0)) group_dropped(reply.left_group);
    if (AEP_UNLIKELY(reply.memory == Memory::yours_to_free)) deallocate_unshared(p);
    return 0;
}

long share_reference(void* p, usize bytes) {
    if (!takes_part()) return -ENOTCONN;
    return error_of(
        share_with_records(op::Reference{.object = reinterpret_cast<uptr>(p), .bytes = bytes})
            .status);
}

long make_usable(ObjectKind kind, Received& received) {
    const bool there =
        kind == ObjectKind::group
            ? group_received(received)
            : make_accessible(reinterpret_cast<uptr>(received.object), received.bytes);
    if (AEP_LIKELY(there)) return 0;
    share_drop(received.object);
    received = {};
    return -ENOMEM;
}

long share_receive(const Wanted& wanted, int timeout_ms, Received& received) {
    if (!takes_part()) return -ENOTCONN;
    if (held_kinds != 0) return -EDEADLK;  // before a message is taken that could not be opened
    share_collect_at_times(0);
    const bool main = wanted.at == 0 || wanted.at == this_client.index;
    const op::Receive request{.from = wanted.from, .at = main ? this_client.index : wanted.at};
    const u32 arrivals = inbox_at(request.at).arrivals.load(std::memory_order_acquire);
    auto reply = nothing_waits(request.from, request.at)
                     ? op::Receive::Reply{.status = Status::miss}
                     : take_message(request);
    if (AEP_UNLIKELY(reply.status != Status::ok)) {
        long result = error_of(reply.status);
        if (reply.status == Status::miss) share_collect();  // there is time for it
        if (reply.status == Status::miss && timeout_ms != 0)
            reply = receive_what_comes(request, wanted.while_open, timeout_ms, result);
        if (reply.status == Status::miss && main) lower_share_fd(arrivals);
        if (reply.status == Status::gone && !takes_part()) return -ENOTCONN;
        if (result != 0) return result;
    }
    return hand_over(reply, received);
}

namespace {

// ---- what the allocator asks, while sharing is open

/// An export stays in the chain of its address as long as it is one, so an empty chain says that there is none. Who may free a
/// block knows of what others have made of it: it was an export then already.
bool may_be_referred_to(const void* p) {
    return chain_of(reinterpret_cast<uptr>(p)).load(std::memory_order_acquire) != NO_RECORD;
}

Dropped drop(void* p) {
    if (is_copy_of_the_parents(p)) return Dropped::no_export;
    const auto reply = share_operation(op::Drop{reinterpret_cast<uptr>(p)});
    switch (reply.status) {
        case Status::ok:
            if (reply.left_group != 0) group_dropped(reply.left_group);
            return reply.memory == Memory::yours_to_free ? Dropped::last : Dropped::kept;
        case Status::miss:
            return Dropped::no_export;
        case Status::not_held:
            return Dropped::not_held;
        default:  // poisoned, or below a handler: it stays until this process ends
            return Dropped::kept;
    }
}

ShareFacts query(const void* p, bool exactly = false) {
    if (is_copy_of_the_parents(p)) return {};
    const auto reply = share_operation(op::Query{reinterpret_cast<uptr>(p), exactly});
    if (reply.status != Status::ok) return {};
    return {reply.references, reply.bytes, reply.own};
}

usize held_bytes(const void* p) {
    const ShareFacts facts = query(p);
    return facts.own != 0 ? facts.bytes : 0;
}

bool is_referred_to(const void* p) { return query(p).references != 0; }

constexpr SharedBlocks ANSWERS = {
    .may_be_referred_to = may_be_referred_to,
    .drop = drop,
    .held_bytes = held_bytes,
    .is_referred_to = is_referred_to,
    .collect = share_collect,
};

/// In a forked child exports are the parent's, and so is what it received.
void forget_sharing() {
    shared_blocks.store(nullptr, std::memory_order_relaxed);
    sharing_open.store(false, std::memory_order_relaxed);
    forget_share_fd();
    forget_peers();
    forget_kept_mailboxes();
    forget_guests();
    forget_groups();
}

constexpr ForkParticipant AT_FORK = {.in_child = forget_sharing};

}  // namespace

Dropped share_drop(void* p) {
    return sharing_open.load(std::memory_order_acquire) ? drop(p) : Dropped::no_export;
}

ShareFacts share_query(const void* p, bool exactly) {
    return sharing_open.load(std::memory_order_acquire) ? query(p, exactly) : ShareFacts{};
}

namespace {

/// Whether the client of the node that has the name is dead, and not yet taken back: the daemon says so, or its process is gone. One in
/// another namespace of pids may look so though it lives.
bool is_name_of_the_dead(const char* name) {
    const ShareId holder = find_here(name);
    if (holder.bits == 0) return false;
    const ClientEntry& client = client_at(holder.inbox());
    if (client.state.load(std::memory_order_acquire) != static_cast<u32>(ClientState::live))
        return true;
    const int pid = static_cast<int>(read_shared(client.pid, std::memory_order_relaxed));
    return sys::tgkill(pid, pid, 0) == -ESRCH;
}

/// Takes part under that name. A name whose client has just died is free soon: who takes another one's place at once gets it.
Status open_under(const ShareName& name) {
    constexpr int LONGEST_MS = 5'000;
    const op::Open open{name, take_part_in_barriers()};
    u64 deadline = 0;
    Naps naps;
    const std::atomic<u32> nobody_changes_it{0};
    for (;;) {
        const Status status = share_with_records(open).status;
        if (AEP_LIKELY(status != Status::exists) || !is_name_of_the_dead(name.text)) return status;
        const u64 now = now_ns();
        if (deadline == 0) deadline = deadline_of(now, LONGEST_MS);
        if (now >= deadline) return status;
        sleep_while(nobody_changes_it, 0, now + naps.next(now));
    }
}

}  // namespace

long share_attach(const char* name) {
    if (!process_start()) return -ENOTCONN;
    if (const long attached = attach_again(); sys::failed(attached))
        return attached == -ENOMEM || attached == -EDEADLK ? attached : -ENOTCONN;
    ShareName own{};
    if (name != nullptr) {
        usize length = 0;
        while (length < sizeof own.text && name[length] != '\0') ++length;
        if (length == 0 || length == sizeof own.text) return -EINVAL;
        __builtin_memcpy(own.text, name, length);
    }
    if (!this_client.is_member()) {  // those see what the kernel has mapped
        if (const long opened = protect_records(true); sys::failed(opened)) return opened;
    }
    if (!make_ring_present(this_client.index)) return -ENOMEM;
    if (const Status opened = open_under(own); opened != Status::ok) return error_of(opened);
    take_part_in_forks(AT_FORK);
    sharing_open.store(true, std::memory_order_release);
    shared_blocks.store(&ANSWERS, std::memory_order_release);
    watch_again();
    return 0;
}

long share_detach() {
    if (!takes_part()) return -ENOTCONN;
    forget_kept_mailboxes();
    const long closed = close_inbox(this_client.index);
    return closed == -ESRCH ? -ENOTCONN : closed;
}

}  // namespace aep
