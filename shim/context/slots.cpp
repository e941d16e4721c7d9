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

namespace {

/// For threads without a slot of their own, one at a time.
Slot* spare_slot = nullptr;
ProcessLock spare_lock{LockName::spare_slot};

/// The slot that the thread is about to enter or has entered; null: none.
__thread Slot* entered_slot __attribute__((tls_model("initial-exec"))) = nullptr;

ProcessLock ask_lock{LockName::daemon};  // one question at a time on the connection
std::atomic<bool> said_limit{false};
std::atomic<bool> said_poisoned{false};

Slot* take_slot() {
    const u32 slots = host_slot();  // all before it
    const u32 tid = static_cast<u32>(sys::gettid());
    const u64 ours = SlotOwner::make(this_client.index, this_client.generation).bits;
    // Neighbouring threads begin far apart, so that they rarely look at each other's.
    u32 i = static_cast<u32>(u64{tid} * 0x9e37'79b9 % slots);
    for (u32 tries = 0; tries < slots; ++tries, i = i + 1 == slots ? 0 : i + 1) {
        Slot& slot = slot_at(i);
        u64 free = 0;
        if (slot.owner.load(std::memory_order_relaxed) != 0 ||
            // acq_rel: the last owner's use of it is over.
            !slot.owner.compare_exchange_strong(free, ours, std::memory_order_acq_rel)) {
            continue;
        }
        if (sys::failed(this_client.is_member() ? commit_stack(i) : open_stack(i))) {
            slot.owner.store(0, std::memory_order_release);
            return nullptr;
        }
        slot.tid.store(tid, std::memory_order_relaxed);
        client_at(this_client.index).slots.fetch_add(1, std::memory_order_relaxed);
        return &slot;
    }
    return nullptr;
}

void give_slot(Slot* slot) {
    const u32 i = index_of(*slot);
    // Its next owner is another process, perhaps: a stray store of ours must not reach it. (What
    // members of a context see is the same for all of them.)
    if (!this_client.is_member()) sys::mprotect(stack_of_slot(i), STACK_BYTES, PROT_NONE);
    slot->tid.store(0, std::memory_order_relaxed);
    client_at(this_client.index).slots.fetch_sub(1, std::memory_order_relaxed);
    slot->owner.store(0, std::memory_order_release);
}

bool is_open(const Slot* slot) {
    return slot != nullptr && (slot->sequence.load(std::memory_order_relaxed) & 1) != 0;
}

/// Read by itself: a load of two words that were just stored one by one waits for the processor's
/// stores to be done (measured: 12 % of a send).
u64 word(const u64& from) { return __atomic_load_n(&from, __ATOMIC_RELAXED); }

/// Enters the image through the slot, which carries the request there and the reply back.
template <class Put, class Take>
[[gnu::always_inline]] inline auto enter(Slot& slot, u32 number, Put& put, Take& take) {
    entered_slot = &slot;
    slot.op = number;
    put(slot.request);
    enter_image()(&slot);
    auto reply = take(slot.reply);
    entered_slot = nullptr;
    return reply;
}

template <class Put, class Take>
[[gnu::cold, gnu::noinline]] auto enter_with_spare_slot(u32 number, Put put, Take take) {
    const ProcessLockScope scope(spare_lock);
    if (!open_spare_slot()) return take(Reply{.status = Status::limit});
    // Whose death would leave the operation open.
    spare_slot->tid.store(static_cast<u32>(sys::gettid()), std::memory_order_relaxed);
    return enter(*spare_slot, number, put, take);
}

/// The same through the thread's slot, or else the spare one.
template <class Put, class Take>
[[gnu::always_inline]] inline auto enter_with_slot(u32 number, Put put, Take take) {
    Slot* const slot = thread_slot;
    return AEP_LIKELY(slot != nullptr) ? enter(*slot, number, put, take)
                                       : enter_with_spare_slot(number, put, take);
}

}  // namespace

bool open_spare_slot() {
    if (spare_slot == nullptr) spare_slot = take_slot();
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

Reply perform_number(u32 number, const Request& request) {
    return enter_with_slot(
        number, [&](Request& slot) { slot = request; }, [](const Reply& slot) { return slot; });
}

ShareReply perform_share_op(ShareOp op, const ShareRequest& request) {
    // Half a line each way, not the whole of both.
    return enter_with_slot(
        static_cast<u32>(op),
        [&](Request& slot) {
            slot.a = word(request.a);
            slot.b = word(request.b);
            slot.now = word(request.now);
            slot.mask = word(request.mask);
        },
        [](const Reply& slot) {
            return ShareReply{slot.status, word(slot.value), word(slot.mask), word(slot.extra)};
        });
}

Reply perform_in_image(const Request& request) {
    return perform_number(static_cast<u32>(request.op), request);
}

Reply perform_node_op(NodeOp op, const Request& request) {
    return perform_number(static_cast<u32>(op), request);
}

bool inside_image() { return is_open(entered_slot); }

bool on_image_stack(uptr address) {
    return entered_slot != nullptr &&
           address - stack_of_slot(index_of(*entered_slot)) < STACK_BYTES;
}

bool finish_left_operation() {
    Slot* slot = entered_slot;
    if (slot == nullptr) return true;
    if (is_open(slot)) {
        AskMessage ask{};
        ask.magic = PROTOCOL_MAGIC;
        ask.version = PROTOCOL_VERSION;
        ask.ask = static_cast<u32>(Ask::complete_slot);
        ask.layout_hash = CONTEXT_LAYOUT_HASH;
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
                message("a signal handler jumped out of operation ", slot->op, " of thread ",
                        sys::gettid(), ", and it cannot be completed: ",
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
                        context().poison_op, " of process ", context().poison_pid,
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
    entered_slot = nullptr;
}

}  // namespace aep
