// Purpose: sees every store of the code under test to memory that processes share, before it is
//          done: it is compiled as for ThreadSanitizer, whose calls are answered here.
// Who calls it: tests/undo.
// Crash rule: a death is a jump out of the store, which is not done any more.
#pragma once

#include <csetjmp>
#include <functional>
#include <string>
#include <vector>

#include "dsm-core/base/types.hpp"

namespace aep::test {

/// One store, not yet done.
struct Store {
    uptr address;
    u32 bytes;
};

class Stores {
  public:
    /// Runs `code` and dies at its `die_at`th store (1: the first); 0: never. True: it came to its
    /// end; it does not if it reads `most_loads` words. `judge` sees each store before it is done.
    bool run(const std::function<void()>& code, u64 die_at = 0,
             const std::function<void(const Store&)>& judge = nullptr);
    /// Stores of the last run.
    u64 count() const { return count_; }

    /// Remembers what is stored from here on, so that it can be taken back.
    usize mark() const { return journal_.size(); }
    void take_back(usize mark);

    /// Runs `code`; `watch` is told of each access to shared memory: where, how many bytes, whether it is a store.
    using Watch = std::function<void(uptr, u32, bool)>;
    void watch(const std::function<void()>& code, const Watch& watch);

    /// Code that reads more words than that does not end, and is taken for dead.
    u64 most_loads = 10'000'000;

    /// Fences so far that order a store before a later load.
    u64 full_fences = 0;

    void see(uptr address, u32 bytes);
    void see_load(uptr address, u32 bytes);

  private:
    void tell(uptr address, u32 bytes, bool store);

    struct Old {
        uptr address;
        u64 value[2];
        u32 bytes;
    };
    bool armed_ = false;
    u64 count_ = 0, loads_ = 0, die_at_ = 0;
    const std::function<void(const Store&)>* judge_ = nullptr;
    const Watch* watch_ = nullptr;
    std::jmp_buf out_;
    std::vector<Old> journal_;
};

extern Stores stores;

}  // namespace aep::test
