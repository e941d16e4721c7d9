// Purpose: see slots.hpp.
// Who calls it: process.cpp, thread.cpp, joined_backing.cpp, slow_path.cpp.
// Crash rule: see slots.hpp.
#include "shim/context/slots.hpp"

#include <errno.h>

#include "aep-lib/image/image_info.hpp"
#include "shim/context/client.hpp"
#include "shim/context/context_file.hpp"
#include "shim/sys/message.hpp"
#include "shim/sys/process_lock.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {

std::atomic<bool> heap_in_context{false};
__thread Slot* thread_slot __attribute__((tls_model("initial-exec"))) = nullptr;
__thread bool thread_end_is_heard __attribute__((tls_model("initial-exec"))) = false;
__thread Slot* detail::entered_slot __attribute__((tls_model("initial-exec"))) = nullptr;

using detail::entered_slot;

namespace {

/// For threads without a slot of their own, one at a time.
ProcessLock spare_lock{LockName::spare_slot};
Slot* spare_slot AEP_GUARDED_BY(spare_lock) = nullptr;
// Its stack is there: from its first use on.
bool spare_is_open AEP_GUARDED_BY(spare_lock) = false;

ProcessLock ask_lock{LockName::daemon};  // one question at a time on the connection
std::atomic<bool> said_limit{false};
std::atomic<bool> said_poisoned{false};

/// Slots that ended threads of ours have left, ready for the next ones: a program whose threads come and go uses the
/// same few stacks again and again, without a system call.
constexpr u32 MOST_RESTING = 8;
std::atomic<Slot*> resting[MOST_RESTING];
/// Where the search for a slot goes on: behind the last one that was found, so that a process's slots are neighbours.
std::atomic<u32> next_slot{0};

Slot* take_resting() {
    for (std::atomic<Slot*>& place : resting) {
        if (place.load(std::memory_order_relaxed) == nullptr) continue;
        // acquire: the thread that left it is done with it.
        if (Slot* slot = place.exchange(nullptr, std::memory_order_acquire)) return slot;
    }
    return nullptr;
}

bool rest(Slot* slot) {
    for (std::atomic<Slot*>& place : resting) {
        Slot* none = nullptr;
        // release: see take_resting().
        if (place.load(std::memory_order_relaxed) == nullptr &&
            place.compare_exchange_strong(none, slot, std::memory_order_release))
            return true;
    }
    return false;
}

/// Takes one that is nobody's; its stack is neither accessible nor there.
Slot* claim_free() {
    const u32 slots = host_slot();  // all before it
    const u64 ours = SlotOwner::make(this_client.index, this_client.generation).bits;
    // Clients begin far apart, so that they rarely look at each other's.
    const u32 begin =
        static_cast<u32>(u64{slots} * this_client.index / (context().max_clients + 1));
    const u32 from = begin + next_slot.load(std::memory_order_relaxed);
    for (u32 tries = 0; tries < slots; ++tries) {
        const u32 i = (from + tries) % slots;
        Slot& slot = slot_at(i);
        u64 free = 0;
        // Not read before: the first read of an OS page makes fifteen others around it this process's, too.
        // acq_rel: the last owner's use of it is over.
        if (!slot.owner.compare_exchange_strong(free, ours, std::memory_order_acq_rel)) continue;
        next_slot.store((i + 1 + slots - begin) % slots, std::memory_order_relaxed);
        return &slot;
    }
    return nullptr;
}

bool make_stack(const Slot& slot) {
    const u32 i = index_of(slot);
    return !sys::failed(this_client.is_member() ? commit_stack(i) : open_stack(i));
}

void count_slot(Slot& slot) {
    slot.tid.store(static_cast<u32>(sys::gettid()), std::memory_order_relaxed);
    client_at(this_client.index).slots.fetch_add(1, std::memory_order_relaxed);
}

/// For the calling thread.
Slot* take_slot() {
    Slot* slot = take_resting();
    if (slot == nullptr) {
        slot = claim_free();
        if (slot == nullptr) return nullptr;
        if (!make_stack(*slot)) {
            slot->owner.store(0, std::memory_order_release);
            return nullptr;
        }
    }
    count_slot(*slot);
    return slot;
}

/// Its next owner makes it present anew. Nothing is open in the slot: its log is empty.
void give_memory_back(u32 slot) {
    sys::madvise(stack_of_slot(slot), STACK_BYTES, MADV_REMOVE);
    sys::madvise(log_of_slot(slot), LOG_STRIDE, MADV_REMOVE);
}

/// Its next owner is another process, perhaps: it finds no memory, and a stray store of ours must not reach it. (What
/// members of a context see is the same for all of them.)
void free_slot(Slot* slot) {
    if (!this_client.is_member()) {
        // A completer's worker on its way out of an operation that it completed is still on it.
        if (slot->completer.load(std::memory_order_acquire) == 0) give_memory_back(index_of(*slot));
        close_stack(index_of(*slot));
    }
    slot->owner.store(0, std::memory_order_release);
}

void give_slot(Slot* slot) {
    slot->tid.store(0, std::memory_order_relaxed);
    client_at(this_client.index).slots.fetch_sub(1, std::memory_order_relaxed);
    if (!rest(slot)) free_slot(slot);
}

bool is_open(const Slot* slot) {
    return slot != nullptr && (slot->sequence.load(std::memory_order_relaxed) & 1) != 0;
}

/// False: no memory for its stack.
bool open_spare_slot() AEP_UNDER(spare_lock) {
    if (spare_is_open) return true;
    if (!make_stack(*spare_slot)) return false;
    count_slot(*spare_slot);
    spare_is_open = true;
    return true;
}

}  // namespace

bool reserve_spare_slot() {
    if (spare_slot == nullptr) spare_slot = claim_free();
    return spare_slot != nullptr;
}

void take_thread_slot() {
    if (thread_slot == nullptr && this_client.attached) thread_slot = take_slot();
}

void give_thread_slot() {
    Slot* slot = thread_slot;
    // With an operation open (its thread ends in a signal handler on top) it is the daemon's to
    // complete.
    if (slot == nullptr || is_open(slot)) return;
    thread_slot = nullptr;
    give_slot(slot);
}

Slot* detail::own_slot_after_all() {
    constexpr u32 OFTEN = 16,
                  SELDOM = 4096;  // with none to be had each time looks at all there are
    static __thread u32 until __attribute__((tls_model("initial-exec"))) = OFTEN;
    if (!thread_end_is_heard || --until != 0) return nullptr;
    take_thread_slot();
    until = thread_slot != nullptr ? OFTEN : SELDOM;
    return thread_slot;
}

detail::SpareSlot::SpareSlot() {
    spare_lock.lock();
    if (!reserve_spare_slot() || !open_spare_slot()) return;
    // Whose death would leave the operation open.
    spare_slot->tid.store(static_cast<u32>(sys::gettid()), std::memory_order_relaxed);
    slot_ = spare_slot;
}

detail::SpareSlot::~SpareSlot() { spare_lock.unlock(); }

bool inside_image() { return is_open(entered_slot); }

bool on_image_stack(uptr address) {
    return entered_slot != nullptr &&
           address - stack_of_slot(index_of(*entered_slot)) < STACK_BYTES;
}

bool finish_left_operation() {
    Slot* slot = entered_slot;
    if (slot == nullptr) return true;
    if (is_open(slot)) {
        AskMessage ask = asking(Ask::complete_slot, CONTEXT_LAYOUT_HASH);
        ask.slot = index_of(*slot);
        AnswerMessage answer{};
        const ProcessLockScope scope(ask_lock);
        const bool connected = !sys::failed(connect_daemon(this_client.link));
        const long asked =
            connected ? ask_daemon(this_client.link, ask, answer, nullptr, 0) : -ECONNREFUSED;
        close_link(this_client.link);
        if (sys::failed(asked) || answer.error != 0 || is_open(slot)) {
            if (!said_poisoned.exchange(true, std::memory_order_relaxed)) {
                answer.text[sizeof answer.text - 1] = '\0';
                message("a signal handler jumped out of operation ", name_of(slot->op),
                        " of thread ", sys::gettid(), ", and it cannot be completed: ",
                        sys::failed(asked) ? "the daemon does not answer" : answer.text);
            }
            return false;
        }
    }
    entered_slot = nullptr;
    return true;
}

bool report_refusal(Status status) {
    switch (status) {
        case Status::limit:
            if (!said_limit.exchange(true, std::memory_order_relaxed)) {
                message("context ", this_client.name, ": process ", sys::getpid(),
                        " may hold no more than it does: out of memory");
            }
            return true;
        case Status::poisoned:
            if (!said_poisoned.exchange(true, std::memory_order_relaxed)) {
                message("context ", this_client.name, ": poisoned by operation ",
                        name_of(context().poison_op), " of process ", context().poison_pid,
                        ", which was killed inside it: process ", sys::getpid(),
                        " gets no further memory from it");
            }
            return true;
        default:
            return status != Status::ok;
    }
}

void forget_slots() {
    thread_slot = nullptr;
    spare_slot = nullptr;
    spare_is_open = false;
    entered_slot = nullptr;
    for (std::atomic<Slot*>& place : resting) place.store(nullptr, std::memory_order_relaxed);
    next_slot.store(0, std::memory_order_relaxed);
}

}  // namespace aep
