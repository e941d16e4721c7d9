// Purpose: see guard.hpp.
// Who calls it: see guard.hpp.
// Crash rule: see guard.hpp.
#include "shim/watch/guard.hpp"

#include <signal.h>

#include <atomic>

#include "dsm-core/base/layout.hpp"
#include "shim/sys/fault_signal.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {

constinit std::atomic<uptr> detail::guard_base{0};

namespace {

enum class SlotState : u32 {
    unused,
    changing,  // somebody is at it
    live,
    freed,
};

struct Slot {
    std::atomic<SlotState> state;
    u32 size;
    uptr block;
    CallStack allocated, freed;
};
Slot slots[GUARD_SLOTS];
std::atomic<u32> turn{0};  // the slot that waits longest is near
std::atomic<u32> taken{
    0};  // so many are live or about to be: where all are, none need be looked at

static_assert(MOST_GUARDED == OS_PAGE_SIZE);

/// What the bytes of a slot next to its block are, so many on either side. Not all the rest of the slot: each line that is
/// filled takes the place of one of the program's in the caches.
constexpr u8 FILLER = 0xae;
constexpr usize FILLED = 2 * CACHE_LINE;

/// A look takes a system call, a third of what one of the two takes that change a slot's access.
constexpr u32 BLOCKS_PER_LOOK_AT_SIGNAL = 8;

// relaxed: who has a slot, or an address in one, has it from somebody who has seen the base.
uptr base() { return detail::guard_base.load(std::memory_order_relaxed); }

uptr slot_address(u32 number) { return base() + MOST_GUARDED + number * GUARD_STRIDE; }

/// The slot that an address in it, or in the page before or after it, belongs to: where a block lives or lived nearest.
Slot* slot_near(uptr address) {
    const usize offset = address - base();
    const u32 number = static_cast<u32>(offset / GUARD_STRIDE);
    const bool in_slot = offset % GUARD_STRIDE >= MOST_GUARDED;
    Slot* const here = number < GUARD_SLOTS ? &slots[number] : nullptr;
    if (in_slot || number == 0) return here;
    // Between two slots: the nearer one, unless only the other is in use.
    Slot* const before = &slots[number - 1];
    if (here == nullptr || here->state == SlotState::unused) return before;
    return offset % GUARD_STRIDE < MOST_GUARDED / 2 && before->state != SlotState::unused ? before
                                                                                          : here;
}

void print_stacks(const Slot& slot) {
    message("  allocated by thread ", slot.allocated.thread, " at");
    print_call_stack(slot.allocated);
    if (slot.state != SlotState::freed) return;
    message("  freed by thread ", slot.freed.thread, " at");
    print_call_stack(slot.freed);
}

void describe(const char* what, uptr at, const Slot& slot, const CallStack& now) {
    MessageLine line;
    line.add("guarded block: ");
    line.add(what);
    line.add(" at ");
    line.add(Hex{at});
    const u64 end = slot.block + slot.size;
    if (at < slot.block) {
        line.add(", ");
        line.add(slot.block - at);
        line.add(" bytes before");
    } else if (at >= end) {
        line.add(", ");
        line.add(at - end);
        line.add(" bytes behind");
    } else {
        line.add(", ");
        line.add(at - slot.block);
        line.add(" bytes into");
    }
    line.add(" the block of ");
    line.add(slot.size);
    line.add(" bytes at ");
    line.add(Hex{slot.block});
    line.send();
    message("  by thread ", now.thread, " at");
    print_call_stack(now);
    print_stacks(slot);
}

/// A fault at one of our addresses is explained. What the program has set for it happens.
uptr explain_fault(const Fault& fault) {
    const uptr address = fault.address;
    const bool is_write = fault.is_write;
    if (!guard_owns(reinterpret_cast<void*>(address))) return 0;
    Slot* const slot = slot_near(address);
    CallStack now;
    capture_interrupted(now, fault.at, fault.frame);
    if (slot == nullptr || slot->state == SlotState::unused) {
        message("guarded block: ", is_write ? "write" : "read", " at ", Hex{address},
                ", where no block ever was");
        print_call_stack(now);
        return 0;
    }
    const char* what = is_write ? "overrun by a write" : "overrun by a read";
    if (slot->state == SlotState::freed)
        what = is_write ? "write after free" : "read after free";
    else if (address < slot->block)
        what = is_write ? "write before its begin" : "read before its begin";
    describe(what, address, *slot, now);
    return 0;
}

/// Maps the slots, without access, once.
bool begin_guarding() {
    static std::atomic<u32> begun{0};  // 1: somebody is at it, or it failed; 2: done
    u32 nobody = 0;
    if (begun.load(std::memory_order_acquire) == 2) return true;
    if (!begun.compare_exchange_strong(nobody, 1, std::memory_order_acquire)) return false;
    const long at =
        sys::mmap(0, GUARD_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    if (sys::failed(at)) {
        message("AEP_GUARD: no address space for ", Bytes{GUARD_BYTES},
                ": nothing is guarded; raise ulimit -v");
        return false;
    }
    // Of another kind than the slots, so that the system keeps a slot's mapping apart whatever its access is: joining
    // and parting them costs more than all the rest of a guarded block.
    for (u32 i = 0; i <= GUARD_SLOTS; ++i)
        sys::keep_from_dumps(static_cast<uptr>(at) + i * GUARD_STRIDE, MOST_GUARDED);
    detail::guard_base.store(static_cast<uptr>(at), std::memory_order_release);
    begun.store(2, std::memory_order_release);
    return true;
}

/// The slot that waits longest, about; null: all are in use.
Slot* take_slot() {
    if (taken.fetch_add(1, std::memory_order_relaxed) >= GUARD_SLOTS) {
        taken.fetch_sub(1, std::memory_order_relaxed);
        return nullptr;
    }
    const u32 first = turn.fetch_add(1, std::memory_order_relaxed);
    for (u32 i = 0; i < GUARD_SLOTS; ++i) {
        Slot& slot = slots[(first + i) % GUARD_SLOTS];
        SlotState was = slot.state.load(std::memory_order_relaxed);
        if (was != SlotState::unused && was != SlotState::freed) continue;
        // Acquire: what its last user wrote into it comes before.
        if (slot.state.compare_exchange_strong(was, SlotState::changing,
                                               std::memory_order_acquire)) {
            if (i != 0) turn.store((first + i + 1) % GUARD_SLOTS, std::memory_order_relaxed);
            return &slot;
        }
    }
    taken.fetch_sub(1, std::memory_order_relaxed);
    return nullptr;
}

void give_slot_back(Slot& slot, SlotState state) {
    slot.state.store(state, std::memory_order_release);
    taken.fetch_sub(1, std::memory_order_relaxed);
}

u32 number_of(const Slot& slot) { return static_cast<u32>(&slot - slots); }

/// A slot to write to, that is the caller's; null: all are in use, or there is no memory.
Slot* open_slot() {
    Slot* const slot = take_slot();
    if (slot == nullptr) return nullptr;
    const uptr begin = slot_address(number_of(*slot));
    if (!sys::failed(sys::mprotect(begin, MOST_GUARDED, PROT_READ | PROT_WRITE))) return slot;
    give_slot_back(*slot, SlotState::unused);
    return nullptr;
}

/// The next block's slot, open already: who has just closed one has the system's code for that in the caches, which takes most of
/// the time where a block in thousands is guarded. A process forks with it.
std::atomic<Slot*> ready{nullptr};

Slot* next_slot() {
    // acquire: what its last user wrote into it comes before.
    Slot* const slot = ready.exchange(nullptr, std::memory_order_acquire);
    return slot != nullptr ? slot : open_slot();
}

void make_one_ready() {
    if (ready.load(std::memory_order_relaxed) != nullptr) return;
    Slot* const slot = open_slot();
    Slot* none = nullptr;
    if (slot == nullptr || ready.compare_exchange_strong(none, slot, std::memory_order_release))
        return;
    sys::mprotect(slot_address(number_of(*slot)), MOST_GUARDED, PROT_NONE);
    give_slot_back(*slot, slot->block == 0 ? SlotState::unused : SlotState::freed);
}

/// What is filled before a block and behind it: [before.from, before.to) and [behind.from, behind.to).
struct Filled {
    struct Part {
        uptr from, to;
        void fill() const { __builtin_memset(reinterpret_cast<void*>(from), FILLER, to - from); }
        bool is_whole() const {
            for (uptr at = from; at < to; ++at)
                if (*reinterpret_cast<const u8*>(at) != FILLER) return false;
            return true;
        }
    };
    Part before, behind;
};
Filled filled_around(const Slot& slot) {
    const uptr begin = slot_address(number_of(slot)), end = begin + MOST_GUARDED;
    const uptr block_end = slot.block + slot.size;
    return {{slot.block - begin > FILLED ? slot.block - FILLED : begin, slot.block},
            {block_end, end - block_end > FILLED ? block_end + FILLED : end}};
}

/// Where the block lies: at the slot's end every other time, so that overruns fault; else at its begin, for what is
/// written before it.
uptr place_in(u32 number, usize size, usize alignment, bool at_end) {
    const uptr begin = slot_address(number);
    return at_end ? round_down(begin + MOST_GUARDED - size, alignment) : begin;
}

}  // namespace

void* guard_allocate(usize size, usize alignment) {
    if (size == 0) size = 1;
    if (size > MOST_GUARDED || alignment > MOST_GUARDED || !begin_guarding()) return nullptr;
    Slot* const slot = next_slot();
    if (slot == nullptr) return nullptr;
    static std::atomic<u32> count{0};
    const u32 turn = count.fetch_add(1, std::memory_order_relaxed);
    // A program that has set a handler since then sees the faults of a few blocks itself.
    if (turn % BLOCKS_PER_LOOK_AT_SIGNAL == 0) keep_fault_signal(SIGSEGV, explain_fault);
    slot->allocated.thread = thread_number();
    capture_call_stack(slot->allocated);
    // Three of four at the end: overruns are the commoner mistake.
    const bool at_end = turn % 4 != 0;
    slot->block = place_in(number_of(*slot), size, alignment < 16 ? 16 : alignment, at_end);
    slot->size = static_cast<u32>(size);
    const Filled filled = filled_around(*slot);
    filled.before.fill();
    filled.behind.fill();
    __builtin_memset(reinterpret_cast<void*>(slot->block), 0, size);
    slot->state.store(SlotState::live, std::memory_order_release);
    return reinterpret_cast<void*>(slot->block);
}

usize guard_size(const void* p) {
    const Slot* const slot = slot_near(reinterpret_cast<uptr>(p));
    // Acquire: of a block that the caller was given all is written.
    if (slot == nullptr || slot->state.load(std::memory_order_acquire) != SlotState::live) return 0;
    return slot->block == reinterpret_cast<uptr>(p) ? slot->size : 0;
}

bool guard_free(void* p) {
    const uptr address = reinterpret_cast<uptr>(p);
    Slot* const slot = slot_near(address);
    CallStack now;
    now.thread = thread_number();
    capture_call_stack(now);
    SlotState was = SlotState::live;
    if (slot == nullptr || slot->block != address ||
        !slot->state.compare_exchange_strong(was, SlotState::changing, std::memory_order_acq_rel)) {
        if (slot != nullptr && slot->block != 0)
            describe(slot->block == address ? "freed twice" : "free of an address inside", address,
                     *slot, now);
        return false;
    }
    slot->freed = now;
    const Filled filled = filled_around(*slot);
    const bool whole_before = filled.before.is_whole();
    const bool is_whole = whole_before && filled.behind.is_whole();
    sys::mprotect(slot_address(number_of(*slot)), MOST_GUARDED, PROT_NONE);
    give_slot_back(*slot, SlotState::freed);
    make_one_ready();
    if (!is_whole) {
        const uptr at = whole_before ? slot->block + slot->size : slot->block - 1;
        describe("what lies around it was written, as its free finds:", at, *slot, now);
    }
    return is_whole;
}

}  // namespace aep
