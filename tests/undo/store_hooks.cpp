// Purpose: see store_hooks.hpp. This file itself is compiled without the calls.
// Who calls it: the compiled code.
// Crash rule: see store_hooks.hpp.
#include "tests/undo/store_hooks.hpp"

#include <atomic>
#include <cstring>

#include "dsm-core/context/format.hpp"

namespace aep::test {

Stores stores;

namespace {

/// The context's control area, and the pool's tables below the heap.
bool is_shared(uptr address) {
    const uptr pool = context().pool_address;
    return address - CONTROL_BASE < CONTROL_WINDOW || (address >= pool && address < HEAP_BASE);
}

}  // namespace

bool Stores::run(const std::function<void()>& code, u64 die_at,
                 const std::function<void(const Store&)>& judge) {
    count_ = loads_ = 0;
    die_at_ = die_at;
    judge_ = judge ? &judge : nullptr;
    if (setjmp(out_) != 0) return false;
    armed_ = true;
    code();
    armed_ = false;
    return true;
}

void Stores::see(uptr address, u32 bytes) {
    if (!armed_ || !is_shared(address)) return;
    tell(address, bytes, true);
    if (++count_ == die_at_) {
        armed_ = false;
        std::longjmp(out_, 1);
    }
    if (judge_ != nullptr) {
        armed_ = false;
        (*judge_)({address, bytes});
        armed_ = true;
    }
    for (u32 at = 0; at < bytes; at += 16) {
        Old old{address + at, {}, bytes - at < 16 ? bytes - at : 16};
        std::memcpy(old.value, reinterpret_cast<const void*>(old.address), old.bytes);
        journal_.push_back(old);
    }
}

void Stores::tell(uptr address, u32 bytes, bool store) {
    if (watch_ == nullptr) return;
    armed_ = false;
    (*watch_)(address, bytes, store);
    armed_ = true;
}

void Stores::watch(const std::function<void()>& code, const Watch& watch) {
    watch_ = &watch;
    run(code);
    watch_ = nullptr;
}

void Stores::see_load(uptr address, u32 bytes) {
    if (!armed_) return;
    if (is_shared(address)) tell(address, bytes, false);
    if (++loads_ < most_loads) return;
    armed_ = false;
    std::longjmp(out_, 1);
}

void Stores::take_back(usize mark) {
    for (; journal_.size() > mark; journal_.pop_back()) {
        const Old& old = journal_.back();
        std::memcpy(reinterpret_cast<void*>(old.address), old.value, old.bytes);
    }
}

}  // namespace aep::test

namespace {
void wrote(const volatile void* at, aep::u32 bytes) {
    aep::test::stores.see(reinterpret_cast<aep::uptr>(at), bytes);
}
void read(const volatile void* at, aep::u32 bytes) {
    aep::test::stores.see_load(reinterpret_cast<aep::uptr>(at), bytes);
}
}  // namespace

// NOLINTBEGIN(bugprone-reserved-identifier): the names are the compiler's.
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_read_range(void* at, unsigned long bytes) { read(at, static_cast<aep::u32>(bytes)); }
void __tsan_write_range(void* at, unsigned long bytes) { wrote(at, static_cast<aep::u32>(bytes)); }
void __tsan_atomic_thread_fence(int order) {
    aep::test::stores.full_fences += order == __ATOMIC_SEQ_CST;
    std::atomic_thread_fence(std::memory_order_seq_cst);
}
void __tsan_atomic_signal_fence(int) {}

#define READS_AND_WRITES(bytes)                                        \
    void __tsan_read##bytes(void* at) { read(at, bytes); }             \
    void __tsan_unaligned_read##bytes(void* at) { read(at, bytes); }   \
    void __tsan_volatile_read##bytes(void* at) { read(at, bytes); }    \
    void __tsan_write##bytes(void* at) { wrote(at, bytes); }           \
    void __tsan_unaligned_write##bytes(void* at) { wrote(at, bytes); } \
    void __tsan_volatile_write##bytes(void* at) { wrote(at, bytes); }
READS_AND_WRITES(1)
READS_AND_WRITES(2)
READS_AND_WRITES(4)
READS_AND_WRITES(8)
READS_AND_WRITES(16)

#define CHANGE(bits, name, builtin)                                                  \
    T##bits __tsan_atomic##bits##_##name(volatile T##bits* at, T##bits value, int) { \
        wrote(at, bits / 8);                                                         \
        return builtin(at, value, __ATOMIC_SEQ_CST);                                 \
    }
#define ATOMICS(bits)                                                                        \
    using T##bits = aep::u##bits;                                                            \
    T##bits __tsan_atomic##bits##_load(const volatile T##bits* at, int) {                    \
        read(at, bits / 8);                                                                  \
        return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                        \
    }                                                                                        \
    void __tsan_atomic##bits##_store(volatile T##bits* at, T##bits value, int) {             \
        wrote(at, bits / 8);                                                                 \
        __atomic_store_n(at, value, __ATOMIC_SEQ_CST);                                       \
    }                                                                                        \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile T##bits* at, T##bits* wanted, \
                                                      T##bits value, int, int) {             \
        wrote(at, bits / 8);                                                                 \
        return __atomic_compare_exchange_n(at, wanted, value, false, __ATOMIC_SEQ_CST,       \
                                           __ATOMIC_SEQ_CST);                                \
    }                                                                                        \
    int __tsan_atomic##bits##_compare_exchange_weak(volatile T##bits* at, T##bits* wanted,   \
                                                    T##bits value, int a, int b) {           \
        return __tsan_atomic##bits##_compare_exchange_strong(at, wanted, value, a, b);       \
    }                                                                                        \
    CHANGE(bits, exchange, __atomic_exchange_n)                                              \
    CHANGE(bits, fetch_add, __atomic_fetch_add)                                              \
    CHANGE(bits, fetch_sub, __atomic_fetch_sub)                                              \
    CHANGE(bits, fetch_and, __atomic_fetch_and)                                              \
    CHANGE(bits, fetch_or, __atomic_fetch_or)                                                \
    CHANGE(bits, fetch_xor, __atomic_fetch_xor)
ATOMICS(8)
ATOMICS(16)
ATOMICS(32)
ATOMICS(64)
}
// NOLINTEND(bugprone-reserved-identifier)
