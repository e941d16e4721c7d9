// Purpose: see sharing.hpp.
// Who calls it: see sharing.hpp.
// Crash rule: see sharing.hpp. A process killed while it waits leaves a count of waiters too high,
//             which costs its successor a system call a message until it attaches.
#include "shim/sharing/sharing.hpp"

#include <errno.h>

#include "dsm-core/sharing/directory.hpp"
#include "shim/backing/pool_attach.hpp"
#include "shim/backing/populate.hpp"
#include "shim/context/context_file.hpp"
#include "shim/context/join.hpp"
#include "shim/context/slots.hpp"
#include "shim/driver/allocator.hpp"
#include "shim/sharing/group.hpp"
#include "shim/sharing/share_fd.hpp"
#include "shim/sharing/share_wait.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {

std::atomic<bool> sharing_open{false};

namespace {

constexpr int SPINS = 200;  // about as long as a message within the node takes

/// In a forked child: chunks that are private hold copies of the parent's objects.
bool inherited = false;

}  // namespace

long error_of(Status status) {
    switch (status) {
        case Status::ok:
            return 0;
        case Status::gone:
            return -ESRCH;
        case Status::full:
        case Status::miss:
            return -EAGAIN;
        case Status::exists:
            return -EEXIST;
        case Status::poisoned:
            return -ENOTRECOVERABLE;
        case Status::fenced:
            return -ESTALE;
        case Status::nested:
            return -EDEADLK;
        case Status::limit:
        case Status::need_records:
            return -ENOMEM;
        case Status::not_writer:
            return -EPERM;
        case Status::busy:
            return -EBUSY;
        default:
            return -EINVAL;
    }
}

namespace {

// ---- records

/// How many whole records lie in the first `bytes` of a table.
template <class T>
u32 records_in(usize bytes, u32 limit) {
    const usize count = bytes / sizeof(T);
    return count < limit ? static_cast<u32>(count) : limit;
}

/// Makes the next part of a table present. `present`: of it so far. False: no memory, or it is
/// full.
template <class T>
bool extend_table(T* table, u32 limit, u32& present) {
    const usize have = round_up(usize{present} * sizeof(T), OS_PAGE_SIZE);
    const u32 more = records_in<T>(have + RECORDS_STEP, limit);
    if (more == present) return false;
    if (!populate(reinterpret_cast<uptr>(table) + have, RECORDS_STEP)) return false;
    present = more;
    return true;
}

bool add_records() {
    u32 exports = sharing().exports_present.load(std::memory_order_relaxed);
    u32 holders = sharing().holders_present.load(std::memory_order_relaxed);
    // Either may be what is missing; one that is full stops nobody who needs the other.
    const bool more_exports = extend_table(&export_at(0), MAX_EXPORTS, exports);
    const bool more_holders = extend_table(&holder_at(0), MAX_HOLDERS, holders);
    if (!more_exports && !more_holders) return false;
    return perform_share_op(ShareOp::add_records, {.a = exports, .b = holders}).status ==
           Status::ok;
}

}  // namespace

ShareReply share_with_records(ShareOp op, const ShareRequest& request) {
    ShareReply reply = perform_share_op(op, request);
    while (AEP_UNLIKELY(reply.status == Status::need_records) && add_records()) {
        reply = perform_share_op(op, request);
    }
    return reply;
}

namespace {

// ---- waiting

/// When a wait ends; 0: never.
u64 deadline_of(int timeout_ms) {
    return timeout_ms < 0 ? 0 : now_ns() + static_cast<u64>(timeout_ms) * 1'000'000;
}

/// What a wait looks at: a word that changes with whatever could help, and how many sleep on it.
struct Awaited {
    std::atomic<u32>& sequence;
    std::atomic<u32>& waiters;
    Status busy;  // what an attempt says that has to be repeated
    // Changes when other nodes, which wake nobody, have helped. Null: they cannot.
    u64 (*beyond)(u32 node) = nullptr;
    u32 node = 0;
};

/// Gives up references that the node holds and nobody of it needs.
void settle_visiting() {
    if (sharing().visiting.count.load(std::memory_order_relaxed) != 0)
        perform_share_op(ShareOp::settle, {});
}

/// What other nodes have sent to this one.
u64 sent_to(u32 node) {
    const era::Tables t = era_tables();
    u64 messages = 0;
    for (u32 from = 0; from < t.shape.nodes; ++from) {
        if (from == node || !era::was_used(t, from)) continue;
        messages += t.tail(from, node).load(std::memory_order_acquire);
    }
    return messages;
}

/// What that node has taken of what we sent.
u64 taken_at(u32 node) {
    return era_tables().head(context().era_node, node).load(std::memory_order_acquire);
}

/// Repeats `attempt` (a ShareReply) while it says that it is busy, until something happens that
/// changes that.
template <class Attempt>
ShareReply wait_for(const Awaited& on, int timeout_ms, long& result, Attempt attempt) {
    const auto signs = [&] {
        const u64 beyond = on.beyond != nullptr ? on.beyond(on.node) : 0;
        return beyond << 32 | on.sequence.load(std::memory_order_acquire);
    };
    u64 seen_signs = signs();
    ShareReply reply = attempt();
    for (int spin = 0; reply.status == on.busy && spin < SPINS; ++spin) {
        for (int pause = 0; pause < 8; ++pause) __builtin_ia32_pause();
        if (const u64 now = signs(); now != seen_signs) {
            seen_signs = now;
            reply = attempt();
        }
    }
    if (reply.status != on.busy) {
        result = error_of(reply.status);
        return reply;
    }
    const u64 deadline = deadline_of(timeout_ms);
    u64 nap = SHORTEST_NAP_NS;
    // seq_cst: pairs with records.cpp's wake. The attempts that follow take the lock: see
    // Alone::wake_after.
    on.waiters.fetch_add(1, std::memory_order_seq_cst);
    result = 0;
    while (result == 0) {
        const u32 seen = on.sequence.load(std::memory_order_seq_cst);
        reply = attempt();
        if (reply.status != on.busy) break;
        if (on.beyond == nullptr) {
            result = sleep_while(on.sequence, seen, deadline);
            continue;
        }
        settle_visiting();  // there is time for it
        const u64 now = now_ns();
        const bool last = deadline != 0 && deadline <= now + nap;
        result = sleep_while(on.sequence, seen, last ? deadline : now + nap);
        if (result == -ETIMEDOUT && !last) result = 0;
        nap = longer_nap(nap);
    }
    on.waiters.fetch_sub(1, std::memory_order_seq_cst);
    if (result == 0) result = error_of(reply.status);
    return reply;
}

}  // namespace

// ---- what others have let go of

namespace {

/// Objects that lingered because other nodes had them: some may go if the doorbell has rung since
/// somebody of this node looked. The daemon looks now and then, too.
[[gnu::noinline]] void settle_what_rang() {
    ShareHeader& s = sharing();
    if (s.waiting.count.load(std::memory_order_relaxed) == 0) return;
    const era::NodeEntry& own = era_tables().entry(context().era_node);
    const u32 bell = static_cast<u32>(own.doorbell.load(std::memory_order_acquire));
    if (s.doorbell.exchange(bell, std::memory_order_relaxed) == bell) return;
    perform_share_op(ShareOp::settle, {.a = 1});
}

bool has_returned() {
    const ShareClient& own = share_client(this_client.index);
    return own.first_returned.load(std::memory_order_relaxed) != NO_RECORD;
}

[[gnu::noinline]] void free_returned() {
    while (has_returned()) {
        const ShareReply reply = perform_share_op(ShareOp::take_returned, {});
        if (reply.status != Status::ok) return;
        deallocate_unshared(reinterpret_cast<void*>(reply.value));
    }
}

}  // namespace

void share_collect() {
    if (shares_between_nodes()) settle_what_rang();
    if (AEP_UNLIKELY(has_returned())) free_returned();
}

// ---- memory of others

namespace {

/// Whether it has been done for them, and for the pool as a whole.
bool is_accessible(ChunkSpan span) {
    if (!pool.guests_everywhere.load(std::memory_order_acquire)) return false;
    do {
        if (pool.state(span.first) == Here::other) return false;
    } while (++span.first < span.end);
    return true;
}

/// Makes the chunks accessible, and the first time all there are: what an object points at may lie
/// anywhere.
[[gnu::noinline]] bool open_chunks(ChunkSpan span) {
    // Another thread's first object may be opening the pool: what ours points at is part of that.
    const LockScope scope(pool.guests_lock);
    if (!pool.guests_everywhere.load(std::memory_order_relaxed)) {
        span = {0, pool.tables.chunk_count};
    }
    for (u32 c = span.first; c < span.end;) {
        u32 end = c;
        while (end < span.end && pool.state(end) == Here::other) ++end;
        if (end == c) {
            ++c;
            continue;
        }
        // What another thread claims meanwhile is accessible, too.
        if (sys::failed(sys::mprotect(chunk_address(ChunkIndex{c}), usize{end - c} * CHUNK_SIZE,
                                      PROT_READ | PROT_WRITE))) {
            return false;
        }
        for (; c < end; ++c) pool.become_guest(c);
    }
    // release: whoever sees it finds all chunks accessible.
    pool.guests_everywhere.store(true, std::memory_order_release);
    return true;
}

}  // namespace

/// Makes the chunks of others accessible that an object lies in. Until a process receives
/// something, a wild store of its own reaches nobody else's memory.
bool make_accessible(u64 address, usize bytes) {
    const ChunkSpan span = chunks_of(address, bytes);
    return AEP_LIKELY(is_accessible(span)) || open_chunks(span);
}

namespace {

bool is_copy_of_the_parents(const void* p) {
    const u32 chunk = chunk_index(reinterpret_cast<uptr>(p));
    return inherited && in_pool(chunk) && pool.state(chunk) == Here::frozen;
}

}  // namespace

long share_attach(const char* name) {
    if (!process_start()) return -ENOTCONN;
    if (const long attached = attach_again(); sys::failed(attached)) {
        return attached == -ENOMEM || attached == -EDEADLK ? attached : -ENOTCONN;
    }
    char text[SHARE_NAME_BYTES] = {};
    if (name != nullptr) {
        usize length = 0;
        while (length < sizeof text && name[length] != '\0') ++length;
        if (length == 0 || length == sizeof text) return -EINVAL;
        __builtin_memcpy(text, name, length);
    }
    if (!this_client.is_member()) {  // those see what the kernel has mapped
        if (const long opened = protect_records(true); sys::failed(opened)) return opened;
    }
    const Message* box = mailbox_of(this_client.index);
    if (!populate(reinterpret_cast<uptr>(box), MAILBOX_MESSAGES * sizeof(Message))) return -ENOMEM;
    u64 words[4];
    static_assert(sizeof words == sizeof text);
    __builtin_memcpy(words, text, sizeof words);
    const ShareReply reply = perform_share_op(
        ShareOp::open, {.a = words[0], .b = words[1], .now = words[2], .mask = words[3]});
    if (reply.status == Status::ok) sharing_open.store(true, std::memory_order_release);
    return error_of(reply.status);
}

ShareId share_self() {
    if (!sharing_open.load(std::memory_order_acquire)) return {};
    return id_of(this_client.index, this_client.generation);
}

ShareId share_lookup(const char* name) {
    if (!this_client.attached || name == nullptr || name[0] == '\0') return {};
    for (u32 i = 1; i <= context().max_clients; ++i) {
        const ShareClient& c = share_client(i);
        const u32 generation = c.generation.load();
        if (!is_called(c, name)) continue;
        return id_of(i, generation);  // sending to it tells whether it still lives
    }
    return shares_between_nodes() ? find_elsewhere(name) : ShareId{};
}

bool can_be_shared(const void* p, usize bytes) {
    const u64 address = reinterpret_cast<u64>(p);
    const ChunkSpan span = chunks_of(address, bytes);
    for (u32 c = span.first; c < span.end; ++c) {
        if (!in_pool(c) || pool.state(c) != Here::ours) return false;
    }
    return true;
}

namespace {

/// A send that found the mailbox full, again.
[[gnu::noinline]] long send_when_there_is_room(const ShareRequest& request, int timeout_ms) {
    const ShareId to{request.b};
    const bool away = shares_between_nodes() && is_elsewhere(to);
    // Nobody sleeps for room in another node: those are naps on a word of our own.
    ShareClient& receiver = share_client(away ? this_client.index : to.client());
    long result = 0;
    wait_for({receiver.departures, receiver.departure_waiters, Status::full,
              away ? taken_at : nullptr, to.node()},
             timeout_ms, result, [&] { return share_with_records(ShareOp::send, request); });
    return result;
}

/// A receive that found nothing, again.
[[gnu::noinline]] long receive_what_comes(const ShareRequest& request, int timeout_ms,
                                          ShareReply& reply) {
    ShareClient& own = share_client(this_client.index);
    long result = 0;
    reply =
        wait_for({own.arrivals, own.arrival_waiters, Status::miss,
                  shares_between_nodes() ? sent_to : nullptr, context().era_node},
                 timeout_ms, result, [&] { return share_with_records(ShareOp::receive, request); });
    return result;
}

}  // namespace

long share_send(ShareId to, void* p, usize bytes, int timeout_ms) {
    if (!sharing_open.load(std::memory_order_acquire)) return -ENOTCONN;
    share_collect();
    const ShareRequest request{.a = reinterpret_cast<u64>(p), .b = to.bits, .mask = bytes};
    const Status status = share_with_records(ShareOp::send, request).status;
    if (AEP_LIKELY(status == Status::ok)) return 0;
    if (status != Status::full || timeout_ms == 0) return error_of(status);
    return send_when_there_is_room(request, timeout_ms);
}

long share_reference(void* p, usize bytes) {
    if (!sharing_open.load(std::memory_order_acquire)) return -ENOTCONN;
    return error_of(
        share_with_records(ShareOp::reference, {.a = reinterpret_cast<u64>(p), .mask = bytes})
            .status);
}

long share_receive(ShareId from, int timeout_ms, Received& received) {
    if (!sharing_open.load(std::memory_order_acquire)) return -ENOTCONN;
    share_collect();
    const u32 arrivals = share_client(this_client.index).arrivals.load(std::memory_order_acquire);
    const ShareRequest request{.b = from.bits};
    ShareReply reply = share_with_records(ShareOp::receive, request);
    if (AEP_UNLIKELY(reply.status != Status::ok)) {
        long result = error_of(reply.status);
        if (reply.status == Status::miss && timeout_ms != 0) {
            result = receive_what_comes(request, timeout_ms, reply);
        }
        if (reply.status == Status::miss) lower_share_fd(arrivals);
        if (result != 0) return result;
    }
    received = {reinterpret_cast<void*>(reply.value), reply.mask, ShareId{reply.extra}};
    const bool there =
        reply.mask == 0 ? group_received(received) : make_accessible(reply.value, reply.mask);
    if (there) return 0;
    share_drop(reinterpret_cast<void*>(reply.value));  // too many mappings
    received = {};
    return -ENOMEM;
}

Dropped share_drop(void* p) {
    if (!sharing_open.load(std::memory_order_acquire) || is_copy_of_the_parents(p)) {
        return Dropped::no_export;
    }
    const ShareReply reply = perform_share_op(ShareOp::drop, {.a = reinterpret_cast<u64>(p)});
    switch (reply.status) {
        case Status::ok:
            if (reply.value != 0) group_dropped(reply.value);
            return reply.mask != 0 ? Dropped::last : Dropped::kept;
        case Status::miss:
            return Dropped::no_export;
        case Status::not_held:
            return Dropped::not_held;
        default:  // poisoned, or below a handler: it stays until this process ends
            return Dropped::kept;
    }
}

ShareFacts share_query(const void* p) {
    if (!sharing_open.load(std::memory_order_acquire) || is_copy_of_the_parents(p)) return {};
    const ShareReply reply = perform_share_op(ShareOp::query, {.a = reinterpret_cast<u64>(p)});
    if (reply.status != Status::ok) return {};
    return {reply.value, reply.mask, reply.extra};
}

void forget_sharing() {
    sharing_open.store(false, std::memory_order_relaxed);
    forget_share_fd();
    inherited = true;
    pool.guests_lock.reset();
    pool.guests_everywhere.store(false, std::memory_order_relaxed);
    forget_groups();
    for (u32 i = 0; i < pool.tables.chunk_count; ++i) {
        if (pool.state(i) == Here::guest) pool.set_state(i, 1, Here::other);
    }
}

}  // namespace aep
