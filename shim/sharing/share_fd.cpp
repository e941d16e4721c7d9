// Purpose: see share_fd.hpp.
// Who calls it: see share_fd.hpp.
// Crash rule: see share_fd.hpp.
//
// The descriptor is *up* (readable) or *down*; both change under `fd_lock`, so that the eventfd is
// non-zero exactly while `level` says up.
//
// - The thread waits while it is up; while it is down it waits for news and then puts it up.
// - A receive that finds nothing takes it down. It does so *after* it looked, and still no message
//   is overlooked: it notes `arrivals` before it looks, and news for the thread is whatever differs
//   from that. A sender puts its message down, then changes `arrivals`, then wakes. If the change
//   came before the note was taken, the look was later than the message and found it. If it came
//   after, the thread finds `arrivals` different, however long ago it changed, and puts the
//   descriptor up. A note that is too old (another thread's receive took the message meanwhile)
//   costs one look for nothing.
// - Who comes and goes (peer_table.hpp) is news as well: each change of that changes `arrivals` afterwards, of those who watch for it, and the thread
//   looks whether there may be some before it sleeps. An event that is asked for and not there takes the descriptor down as a receive does; whatever either of
//   them has not looked at puts it up again.
// - A receive from one peer alone says nothing of the messages of others, so the thread looks
//   whether any wait, too. That also covers other nodes, whose messages change no word of ours: it
//   looks into their rings, between naps, and there is no moment to miss.
// - Edge-triggered loops: a receive that says EAGAIN finds the descriptor up and takes it down, or
//   finds it down, and then the write is yet to come. So every message after it is a new edge.
//
// While the descriptor is up senders wake nobody: a burst costs one wake.
//
// The thread is a RawThread, so it makes no operation; everything here that it uses is a load, a lock or
// a raw system call.
#include "shim/sharing/share_fd.hpp"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include "dsm-core/base/lock.hpp"
#include "dsm-core/sharing/format.hpp"
#include "shim/context/client.hpp"
#include "shim/sharing/held_lock.hpp"
#include "shim/sharing/peer_table.hpp"
#include "shim/sharing/share_mailbox.hpp"
#include "shim/sharing/share_operation.hpp"
#include "shim/sharing/share_wait.hpp"
#include "shim/sys/raw_thread.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {
namespace {

constexpr u32 DOWN = 0, UP = 1;

Lock fd_lock;
int event_fd AEP_GUARDED_BY(fd_lock) = -1;
bool watches AEP_GUARDED_BY(fd_lock) = false;  // or has done so: op::Watch
std::atomic<u32> level{DOWN};
u32 noted_arrivals = 0;  // written before `level` goes down
RawThread thread;

// ---- the thread

void sleep_until_news() {
    Inbox& own = share_client(this_client.index).inbox;
    const bool beyond_node = shares_between_nodes();
    Naps naps;
    // seq_cst: pairs with records.cpp's wake, and with the fence of a send to one who watches.
    own.arrival_waiters.fetch_add(1, std::memory_order_seq_cst);
    for (;;) {
        if (own.arrivals.load(std::memory_order_seq_cst) != noted_arrivals) break;
        if (a_message_waits(this_client.index) || peer_news()) break;
        const u64 now = beyond_node ? now_ns() : 0;
        sleep_while(own.arrivals, noted_arrivals, beyond_node ? now + naps.next(now) : 0);
    }
    own.arrival_waiters.fetch_sub(1, std::memory_order_seq_cst);
}

void put_up() {
    const LockScope scope(fd_lock);
    // seq_cst: whoever learns of the write finds it up, and takes it down.
    level.store(UP, std::memory_order_seq_cst);
    constexpr u64 ONE = 1;
    sys::write(event_fd, &ONE, sizeof ONE);
}

[[noreturn]] void run_thread() {
    sys::call(__NR_prctl, PR_SET_NAME, sys::word("aep-dsm-fd"));
    for (;;) {
        // acquire: what was noted before it went down.
        while (level.load(std::memory_order_acquire) == UP) sleep_while(level, UP, 0);
        sleep_until_news();
        put_up();
    }
}

}  // namespace

long share_fd() {
    if (!takes_part()) return -ENOTCONN;
    const HeldLock scope(fd_lock, HeldKind::descriptor);
    if (scope.refused()) return -EDEADLK;
    if (event_fd >= 0) return event_fd;
    const auto watched = share_with_records(op::Watch{.peers = follows_peers()});
    if (watched.status != Status::ok) return error_of(watched.status);
    const Inbox& own = share_client(this_client.index).inbox;
    // Noted first, as by a receive.
    noted_arrivals = own.arrivals.load(std::memory_order_acquire);
    const u32 first = a_message_waits(this_client.index) || peer_news() ? UP : DOWN;
    const long made = sys::call(__NR_eventfd2, first, EFD_CLOEXEC | EFD_NONBLOCK);
    if (sys::failed(made)) return made;
    event_fd = static_cast<int>(made);
    level.store(first, std::memory_order_relaxed);
    if (const long started = thread.start(run_thread); started != 0) {
        sys::close(event_fd);
        event_fd = -1;
        level.store(DOWN, std::memory_order_relaxed);
        return started;
    }
    return event_fd;
}

void lower_share_fd(u32 arrivals) {
    // Down: the write is yet to come (see put_up).
    if (AEP_LIKELY(level.load(std::memory_order_seq_cst) == DOWN)) return;
    const HeldLock scope(fd_lock, HeldKind::descriptor);
    // Refused: below this handler somebody is taking it down, by a look that was earlier.
    if (scope.refused() || level.load(std::memory_order_relaxed) == DOWN) return;
    u64 count;
    sys::read(event_fd, &count, sizeof count);
    noted_arrivals = arrivals;
    // release: the note.
    level.store(DOWN, std::memory_order_release);
    detail::futex(&level, detail::FUTEX_WAKE, 1);
}

void watch_again() {
    const HeldLock scope(fd_lock, HeldKind::descriptor);
    if (scope.refused()) return;
    watches = watches || event_fd >= 0 || follows_peers();
    if (watches) share_with_records(op::Watch{.messages = event_fd >= 0, .peers = follows_peers()});
}

void forget_share_fd() {
    if (event_fd >= 0) sys::close(event_fd);
    thread.forget();
    event_fd = -1;
    level.store(DOWN, std::memory_order_relaxed);
    watches = false;
    fd_lock.reset();
}

}  // namespace aep
