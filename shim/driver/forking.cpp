// Purpose: see forking.hpp.
// Who calls it: see forking.hpp.
// Crash rule: see forking.hpp.
#include "shim/driver/forking.hpp"

#include <errno.h>

#include "shim/context/client.hpp"
#include "shim/context/slots.hpp"
#include "shim/driver/background.hpp"
#include "shim/driver/growth.hpp"
#include "shim/driver/process.hpp"
#include "shim/driver/purging.hpp"
#include "shim/driver/slow_path.hpp"
#include "shim/driver/thread.hpp"
#include "shim/driver/transact.hpp"
#include "shim/watch/call_stack.hpp"

namespace aep {
namespace {

// ---- memory: what the child must not share

int freeze() {
    if (backing().fork_prepare()) return 0;
    backing().fork_parent();
    return ENOMEM;
}

// ---- the driver: nobody is in the middle of anything

/// Those that the fork has taken. One that the interrupted thread itself holds stays its own, in
/// both processes.
ProcessLock* taken[3];
u32 taken_count = 0;

AEP_NOT_CHECKED int stop_driver() {
    taken_count = 0;
    for (ProcessLock* lock : {&start_lock, &growth_lock, &purge_lock}) {
        if (lock->wanted()) continue;
        lock->lock();
        taken[taken_count++] = lock;
    }
    close_gate(current_heap());
    return 0;
}

AEP_NOT_CHECKED void resume_driver() {
    open_gate();
    while (taken_count != 0) taken[--taken_count]->unlock();
}

void resume_driver_in_child() { open_gate_in_child(current_heap()); }

// ---- the list

/// Lowest layer first, and in that order they are told afterwards; before a fork they are asked in
/// the reverse order, so that who is above has stopped using who is below.
constexpr ForkParticipant PARTICIPANTS[] = {
    {freeze, [] { backing().fork_parent(); }, [] { backing().fork_child(); }},
    {.in_child = forget_thread_number},
    {.in_child = forget_slots},
    {.in_child = forget_client},
    {stop_driver, resume_driver, resume_driver_in_child},
    {.in_child = background_forget},
    {.in_child = forget_shared_heaps},
};
constexpr u32 OWN = sizeof PARTICIPANTS / sizeof PARTICIPANTS[0];
constexpr u32 MOST_ABOVE = 4;
std::atomic<const ForkParticipant*> above[MOST_ABOVE];

const ForkParticipant* participant(u32 i) {
    if (i < OWN) return &PARTICIPANTS[i];
    return i < OWN + MOST_ABOVE ? above[i - OWN].load(std::memory_order_acquire) : nullptr;
}

u32 asked = 0;  // participants that the fork which is going on has asked

void tell_parent(u32 from) {
    for (u32 i = from; i < asked; ++i)
        if (participant(i)->in_parent != nullptr) participant(i)->in_parent();
    asked = 0;
}

/// Whether a child could go on from here, if a signal handler forks. Below one that interrupted the
/// start, or an operation in the image, whose stack no child has, it could not; and a backing that
/// was interrupted cannot be asked to freeze.
bool may_fork_here() { return !start_lock.wanted() && !inside_image(); }
bool may_freeze_here() {
    return backing().commit == nullptr || (!growth_lock.wanted() && !purge_lock.wanted());
}

}  // namespace

void take_part_in_forks(const ForkParticipant& one) {
    for (auto& place : above) {
        const ForkParticipant* there = nullptr;
        if (place.compare_exchange_strong(there, &one, std::memory_order_release) || there == &one)
            return;
    }
    __builtin_trap();  // MOST_ABOVE is how many there are
}

int fork_prepare() {
    if (!may_fork_here()) return EAGAIN;
    if (!process_start()) return 0;  // nothing to protect
    if (!may_freeze_here()) return EAGAIN;
    for (asked = 0; participant(asked) != nullptr;) ++asked;
    for (u32 i = asked; i != 0; --i) {
        const ForkParticipant& one = *participant(i - 1);
        const int error = one.before != nullptr ? one.before() : 0;
        if (error == 0) continue;
        tell_parent(i);
        return error;
    }
    return 0;
}

void fork_parent() { tell_parent(0); }

void fork_child() {
    if (asked == 0) return;
    asked = 0;
    free_process_locks();
    for (u32 i = 0; participant(i) != nullptr; ++i)
        if (participant(i)->in_child != nullptr) participant(i)->in_child();
}

}  // namespace aep
