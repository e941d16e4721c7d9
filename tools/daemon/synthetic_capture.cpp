// Purpose: see synthetic_capture.hpp.
// Who calls it: see synthetic_capture.hpp.
// Crash rule: see synthetic_capture.hpp.
#include "tools/daemon/synthetic_capture.hpp"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "node/crash_points.hpp"
#include "node/node_error.hpp"

namespace aep {
namespace {

constexpr u64 PLAIN_FLAGS = 0x202;  // interrupts on, and the bit that is always set

/// What aep_shadow_entry and aep_enter leave on the stack until aep_entered, from the top down: the
/// slot (found again on the way out), where the operation returns to, rdi.
constexpr u32 ENTRY_WORDS = 3;

}  // namespace

std::string begin_as_killed(int context_fd, const ImageInfo& image, u32 index,
                            volatile CaptureEntry& capture) {
    Slot& slot = slot_at(index);
    const u64 address = reinterpret_cast<u64>(&slot);
    const u64 entry_words[ENTRY_WORDS] = {address, image.shadow_return, address};
    // By the slot's number: what the slot says of its stack clients can write.
    const u64 rsp = stack_top_of(index) - (ENTRY_WORDS - 1) * sizeof(u64);
    const auto in_file = [](u64 on_stack) {
        return static_cast<off_t>(STACKS_OFFSET + (on_stack - stacks_base()));
    };
    // A store of the operation to its stack must find memory there, as a client's does.
    const u64 committed = stack_of_slot(index) + STACK_BYTES - STACK_COMMITTED;
    if (fallocate(context_fd, 0, in_file(committed), STACK_COMMITTED) != 0 ||
        pwrite(context_fd, entry_words, sizeof entry_words, in_file(rsp)) !=
            static_cast<ssize_t>(sizeof entry_words))
        return "its stack: " + errno_text(errno);
    AEP_CAPTURE_CRASH_POINT("capture: stack written");
    const u32 open = slot.sequence.load(std::memory_order_relaxed) + 1;
    CaptureEntry entry{};
    entry.kind = CAPTURE_NONE;
    entry.sequence_known = 1;
    entry.sequence = open;
    entry.client = SlotOwner{slot.owner.load(std::memory_order_relaxed)}.client();
    entry.registers.rip = image.entered;
    entry.registers.rsp = rsp;
    entry.registers.rdi = address;
    entry.registers.rflags = PLAIN_FLAGS;
    // As the programs do it: the kind is cleared before and written after the rest. The order is
    // for whoever looks after a kill in between: this process's stores are not undone, so only the
    // compiler has to keep it.
    capture.kind = CAPTURE_NONE;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    std::memcpy(const_cast<CaptureEntry*>(&capture), &entry, sizeof entry);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    capture.kind = CAPTURE_FATAL;
    AEP_CAPTURE_CRASH_POINT("capture: written");
    // release: who sees the operation open sees its request, its stack and its capture.
    slot.sequence.store(open, std::memory_order_release);
    AEP_CAPTURE_CRASH_POINT("capture: in force");
    return "";
}

}  // namespace aep
