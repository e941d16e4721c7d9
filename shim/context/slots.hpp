// Purpose: a thread's way into the image: its slot, and performing operations through it.
// Who calls it: process.cpp (transact), thread.cpp, joined_backing.cpp.
// Crash rule: a slot's sequence is odd exactly while an operation is open; what is done here
//             before and after may be lost. Slots of a dead client are freed by recovery.
#pragma once

#include <atomic>

#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/share_ops.hpp"

namespace aep {

/// Whether this process's heap is in the context: its operations run in the image. False in private
/// mode, and from the first fork on.
extern std::atomic<bool> heap_in_context;

/// The calling thread's slot; null: it uses the process's spare one.
extern __thread Slot* thread_slot __attribute__((tls_model("initial-exec")));

/// Sees to it that the process has a slot for threads that find none, whose stack is made when one needs it. False:
/// none is free.
bool reserve_spare_slot();

/// Takes a slot for the calling thread, if it has none and one can be had.
void take_thread_slot();
/// Gives it back.
void give_thread_slot();

/// Performs a domain's operation in the image.
Reply perform_in_image(const Request& request);

/// Performs a node operation in the image. Only while this process is a client.
Reply perform_node_op(NodeOp op, const Request& request);

/// Performs a sharing operation in the image, of a thread that is on its slow path. Only while this
/// process is a client.
ShareReply perform_share_op(ShareOp op, const ShareRequest& request);

/// Any number, in the image: for callers whose number is not known to be good.
Reply perform_number(u32 number, const Request& request);

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
void forget_slots();

}  // namespace aep
