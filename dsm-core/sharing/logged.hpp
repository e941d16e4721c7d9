// Purpose: the undo log of the sharing operations, and the type of the words that they change.
// Who calls it: everything in dsm-core/sharing, within an operation; recovery (undo.hpp).
// Crash rule: a word's old value is in the log, and the log's length says so, before the word
//             changes. Plain stores do, for on x86 what a killed thread has retired is seen in the
//             order in which it was written. Length 0: all that was done has happened.
//
// Each slot has a log of its own. It says what the slot's operation has changed, and where the locks are that it took.
// A client that is killed in an operation that nobody completes is taken back by writing the old values again, the
// last one first; then its locks are free (sharing/undo.hpp). So every word that an operation must not leave half done
// is Logged. Words that others may find changed although nothing has happened are Hints.
#pragma once

#include "dsm-core/base/copied.hpp"
#include "dsm-core/context/format.hpp"

namespace aep {

/// An old value: where (48 bits) | how many bytes of it (8, from bit 56). FILL: of `old` >> 32
/// words of 4 bytes that lie there one after the other, each had the low half of `old`.
struct UndoEntry {
    u64 where = 0;
    u64 old = 0;
    constexpr UndoEntry() = default;
    constexpr UndoEntry(u64 at, u64 value) : where(at), old(value) {}
    static constexpr u32 FILL = 0xff;
    uptr address() const { return where & 0xffff'ffff'ffff; }
    u32 kind() const { return static_cast<u32>(where >> 56); }  // FILL, or the size
    /// Words of a FILL.
    u32 count() const { return static_cast<u32>(old >> 32); }
    /// Bytes that it tells of.
    u64 size() const { return kind() == FILL ? u64{count()} * sizeof(u32) : kind(); }

    /// Writes the old value, or values.
    void restore() const {
        switch (kind()) {
            case FILL:
                for (u32 i = 0; i < count(); ++i) put(address() + i * sizeof(u32), u32(old));
                return;
            case sizeof(u8):
                return put(address(), static_cast<u8>(old));
            case sizeof(u16):
                return put(address(), static_cast<u16>(old));
            case sizeof(u32):
                return put(address(), static_cast<u32>(old));
            case sizeof(u64):
                return put(address(), old);
            default:
                return;
        }
    }

  private:
    template <class T>
    static void put(uptr address, T value) {
        // release: in this order, for whoever goes on after a kill.
        std::atomic_ref<T>(*reinterpret_cast<T*>(address)).store(value, std::memory_order_release);
    }
};

struct alignas(CACHE_LINE) UndoLog {
    /// More than any operation holds at once: the last drop of a group of 64 extents, each of another dead client's or of
    /// another living one's.
    static constexpr u32 LOCKS = 141;
    /// More than any operation changes between two commits: the same.
    static constexpr u32 CAPACITY = 988;

    std::atomic<u32> length;  // entries that are valid
    std::atomic<u32>
        freed;  // 1 + the first entry that tells of a chunk whose last orphan has gone; 0: none
    /// Where locks lie that the operation takes, from the beginning of the control area; written before they are taken.
    /// One that does not name the slot was not taken, or has been let go of.
    std::atomic<u32> locks[LOCKS];
    std::atomic<u32> client_lock;  // the own client's, which has no place among these
    UndoEntry entries[CAPACITY];

    [[gnu::always_inline]] void add(uptr address, u32 kind, u64 old) {
        const u32 at = length.load(std::memory_order_relaxed);
        if (AEP_UNLIKELY(at >= CAPACITY)) __builtin_trap();  // no operation is so long
        put_copy_quickly(entries[at], {address | u64{kind} << 56, old});
        // release: the entry comes before; what it tells of is stored by a release, after this.
        length.store(at + 1, std::memory_order_release);
    }

    /// The operation is about to take its `at`th lock.
    void note_lock(u32 at, const SlotLock& lock) {
        if (AEP_UNLIKELY(at >= LOCKS)) __builtin_trap();  // no operation takes so many
        note(locks[at], lock);
    }
    /// By the slot itself, of one that it has.
    SlotLock& noted_lock(u32 at) {
        return *reinterpret_cast<SlotLock*>(control_base() +
                                            locks[at].load(std::memory_order_relaxed));
    }
    void note_client(const SlotLock& lock) { note(client_lock, lock); }

    /// By others than the slot, of what clients may write at the same time: read once, and judged
    /// by whoever uses it.
    u32 seen_length() const { return length.load(std::memory_order_acquire); }
    /// Of LOCKS + 1.
    u32 seen_lock(u32 i) const {
        return (i == LOCKS ? client_lock : locks[i]).load(std::memory_order_relaxed);
    }
    UndoEntry seen_entry(u32 i) const {
        return copied(entries[i]);  // they come before the length, which was seen
    }

    /// The last entry tells of a chunk, or of several, that no export lies in any more: when the
    /// operation has happened they may go (Turn::commit).
    void mark_freed() {
        if (freed.load(std::memory_order_relaxed) == 0)
            freed.store(length.load(std::memory_order_relaxed), std::memory_order_relaxed);
    }

  private:
    static void note(std::atomic<u32>& place, const SlotLock& lock) {
        // release: before the lock is taken.
        place.store(static_cast<u32>(reinterpret_cast<uptr>(&lock) - control_base()),
                    std::memory_order_release);
    }
};
static_assert(sizeof(UndoLog) == LOG_STRIDE);

inline UndoLog& undo_log_of(u32 slot) { return *reinterpret_cast<UndoLog*>(log_of_slot(slot)); }

/// The log of the slot whose operation this thread performs.
#if defined(AEP_IN_IMAGE)
/// In the image a thread is on its slot's stack: nothing need be looked up.
[[gnu::always_inline]] inline UndoLog& undo_log() {
    static_assert(STACKS_BASE % STACK_STRIDE == 0);
    constexpr uptr FIRST = CONTROL_BASE + LOGS_OFFSET - STACKS_BASE / STACK_STRIDE * LOG_STRIDE;
    const uptr here = reinterpret_cast<uptr>(__builtin_frame_address(0));
    return *reinterpret_cast<UndoLog*>(FIRST + here / STACK_STRIDE * LOG_STRIDE);
}
inline void log_in(u32) {}
#else
namespace detail {
inline thread_local u32 logging_slot = 0;
}
inline UndoLog& undo_log() { return undo_log_of(detail::logging_slot); }
/// From here on this thread performs operations of that slot.
inline void log_in(u32 slot) { detail::logging_slot = slot; }
#endif

#ifdef AEP_UNDO_SWITCH
/// For the test that shows that without a log all is lost.
inline bool undo_log_works = true;
#elif defined(AEP_NO_UNDO_LOG)
/// For the measurement of what the log costs (AEP_UNDO_LOG=OFF): a build whose operations must be
/// completed, and in which what a dead client had exported stays in memory.
inline constexpr bool undo_log_works = false;
#else
inline constexpr bool undo_log_works = true;
#endif

/// A word of a table of sharing. Reading it is free; assigning to it logs the old value: four
/// stores instead of one. Zeroed memory is a word of 0.
template <class T>
class Logged {
  public:
    static_assert(sizeof(T) <= sizeof(u64) && std::atomic<T>::is_always_lock_free);

    constexpr Logged(T value = {}) : value_(value) {}  // of memory that nobody reaches so far
    constexpr Logged(const Logged&) = default;

    operator T() const { return value_; }
    /// Without the lock.
    T load(std::memory_order order = std::memory_order_acquire) const {
        return std::atomic_ref<T>(const_cast<T&>(value_)).load(order);
    }

    Logged& operator=(const Logged& other) { return *this = other.value_; }
    [[gnu::always_inline]] Logged& operator=(T value) {
        keep();
        // release: the log says what was here; and readers without the lock see what it is about.
        std::atomic_ref<T>(value_).store(value, std::memory_order_release);
        return *this;
    }
    [[gnu::always_inline]] Logged& operator+=(T by) { return *this = static_cast<T>(value_ + by); }
    [[gnu::always_inline]] Logged& operator-=(T by) { return *this = static_cast<T>(value_ - by); }
    [[gnu::always_inline]] Logged& operator++() { return *this += T{1}; }
    [[gnu::always_inline]] Logged& operator--() { return *this -= T{1}; }

    /// Changes it outside of any operation, by recovery: a word that nobody else has an interest
    /// in.
    void put(T value) { std::atomic_ref<T>(value_).store(value, std::memory_order_release); }

    /// Logs the value without changing it: it is about to be written as memory.
    [[gnu::always_inline]] void keep() {
        if (!undo_log_works) return;
        u64 old = 0;
        __builtin_memcpy(&old, &value_, sizeof value_);
        undo_log().add(reinterpret_cast<uptr>(&value_), sizeof value_, old);
    }

  private:
    T value_;
};

/// Logs that `count` words from `first` on have the value `old`, and gives all of them another.
inline void fill_logged(Logged<u32>* first, u32 count, u32 old, u32 value) {
    if (count == 0) return;
    if (undo_log_works)
        undo_log().add(reinterpret_cast<uptr>(first), UndoEntry::FILL, u64{count} << 32 | old);
    for (u32 i = 0; i < count; ++i) first[i].put(value);  // as above
}

/// Writes memory that nobody reaches if the operation is undone: not logged. A walk without the lock may read it all the
/// same, by an index that it has from before; it finds a later version then.
template <class T>
T& write_unreached(T& memory, const T& value) {
    // The compiler may not do it before the log keeps what leads there.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    return put_copy_quickly(memory, value);
}

/// A word that tells people or saves time: an operation that is undone may have changed it, and two
/// operations at once may lose a change.
template <class T>
class Hint {
  public:
    T load() const { return word_.load(std::memory_order_relaxed); }
    operator T() const { return load(); }
    Hint& operator=(T value) {
        word_.store(value, std::memory_order_relaxed);
        return *this;
    }
    T operator++() {
        const T next = static_cast<T>(load() + 1);
        word_.store(next, std::memory_order_relaxed);
        return next;
    }

  private:
    std::atomic<T> word_;
};

}  // namespace aep
