// Purpose: the slots that this process's threads have in the context, and what of theirs is open.
// Who calls it: door.hpp, thread.cpp, slow_path.cpp, joined_backing.cpp.
// Crash rule: a slot's sequence is odd exactly while an operation is open; what is done here
//             before and after may be lost. Slots of a dead client are freed by recovery.
//
// What two at once may see.
//
//   take | take                  different slots: of this process by exchange of a place, of all by a
//                                compare-and-swap on the owner
//   give | take                  the slot with all that was done in it, or another one
//   give | a completer on its stack   the stack stays until that has left
//   without a slot | without     one at a time in the spare one, under a lock
#pragma once

#include <atomic>

#include "dsm-core/base/thread_safety.hpp"
#include "dsm-core/context/format.hpp"

namespace aep {

/// Whether this process's heap is in the context: its operations run in the image. False in private
/// mode, and from the first fork on.
extern std::atomic<bool> heap_in_context;

/// The calling thread's slot; null: it uses the process's spare one.
extern __thread Slot* thread_slot __attribute__((tls_model("initial-exec")));

/// Sees to it that the process has a slot for threads that find none, whose stack is made when one needs it. False:
/// none is free.
bool reserve_spare_slot() AEP_NOT_CHECKED;  // at the process's start, or under their lock

/// Whether it is heard of when the calling thread ends: it may have a slot, then, which comes back.
extern __thread bool thread_end_is_heard __attribute__((tls_model("initial-exec")));

/// Takes a slot for the calling thread, if it has none and one can be had.
void take_thread_slot();
/// Gives it back.
void give_thread_slot();

namespace detail {

/// The slot that the calling thread is about to enter or has entered; null: none.
extern __thread Slot* entered_slot __attribute__((tls_model("initial-exec")));

/// A thread that asks for the spare slot again and again gets one of its own; null: it does not, or none can be had. Threads
/// whose heap is not in the context have none before: those of a process that has forked, who share all the same.
Slot* own_slot_after_all();

/// The process's spare slot, for one thread without a slot of its own at a time; a scope.
class SpareSlot {
  public:
    // Not checked: the lock is slots.cpp's.
    SpareSlot() AEP_NOT_CHECKED;
    ~SpareSlot() AEP_NOT_CHECKED;
    SpareSlot(const SpareSlot&) = delete;
    SpareSlot& operator=(const SpareSlot&) = delete;

    /// False: there is none, or no memory for its stack.
    explicit operator bool() const { return slot_ != nullptr; }
    Slot& operator*() const { return *slot_; }

  private:
    Slot* slot_ = nullptr;
};

}  // namespace detail

/// Whether the calling thread has an operation open in the image.
bool inside_image();
/// Whether the address lies in the stack of that operation.
bool on_image_stack(uptr address);

/// A signal handler has jumped out of the thread's open operation: has it completed by the daemon.
/// False: it cannot be; then the thread can do nothing more with the heap.
bool finish_left_operation();

/// Says once what a status other than ok means for the program; true for those that mean that
/// nothing more can be had.
bool report_refusal(Status status);

/// In a forked child: slots are the parent's.
void forget_slots() AEP_NOT_CHECKED;  // nobody else is there

}  // namespace aep
