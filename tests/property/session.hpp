// Purpose: a session: random operations by several actors on the real allocator, against a model
// that knows every live
//          block and its contents.
// Who calls it: the property tests (choices from a seed), the fuzz target (choices from its input).
// Crash rule: a broken property is a message on fd 2 and an abort.
//
// An actor is a heap of its own. All actors live on the calling thread, which takes one heap or the
// other in its hand: so every interleaving is a matter of choices alone and can be replayed.
#pragma once

#include <map>
#include <vector>

#include "dsm-core/heap/heap.hpp"

namespace aep::test {

/// Where a session's decisions come from.
class Choices {
  public:
    virtual ~Choices() = default;
    /// A number in [0, n).
    virtual u32 below(u32 n) = 0;
};

class Session {
  public:
    struct Options {
        bool may_fail = false;         // the backing refuses: null is a legal answer
        bool bad_frees = true;         // frees of what is no block, too: a message each
        usize max_live = 48 * MiB;     // bytes in live blocks
        u32 check_every = 16;          // steps between two walks of the whole domain
        const char* name = "session";  // for messages
        u64 seed = 0;
    };
    Session(Choices& choices, const Options& options);

    /// One operation of one actor, or a burst of them.
    void step();
    /// Frees everything, ends every actor but the first, trims; nothing may be left then.
    void finish();

    u64 steps() const { return steps_; }
    u64 refusals() const { return refusals_; }  // requests that were answered by null

  private:
    struct Block {
        usize size;
        usize usable;
        u8 fill;
    };
    using Live = std::map<uptr, Block>;
    static constexpr u32 ACTORS = 4;

    void take_turn();
    usize some_size();
    uptr some_block();

    void* request(void* p, usize size);
    void add(void* p, usize size, usize alignment, bool zeroed);
    void fill(uptr p, const Block& b);
    void verify(uptr p, const Block& b, usize bytes);
    void expect_zero(uptr p, usize bytes);

    void do_allocate();
    void do_zeroed();
    void do_aligned();
    void do_reallocate();
    void do_free();
    void do_burst();
    void do_bad_free();
    void do_end();
    void free_block(uptr p);
    void check(const char* when);
    [[noreturn]] void broken(const char* what, uptr p, u64 found = 0, u64 expected = 0);

    Choices& choices_;
    Options options_;
    Live live_;
    std::vector<uptr> order_;  // live blocks, for choosing one
    std::map<uptr, usize> place_;
    usize live_bytes_ = 0;
    u64 steps_ = 0;
    u64 refusals_ = 0;
    u8 next_fill_ = 0;
    bool growing_ = true;
    Heap* actors_[ACTORS] = {};
    u32 actor_ = 0;
};

}  // namespace aep::test
