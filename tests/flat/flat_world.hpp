// Purpose: a small pool of the flat baseline on simulated machines, one client each: lets a client
//          die at an access, and checks what is left.
// Who calls it: tests/flat/*.cpp.
// Crash rule: this is the test of the crash rules.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/flat/client.hpp"
#include "tests/era/choices.hpp"
#include "tests/era/sim_memory.hpp"

namespace aep::flat::test {

using era::Access;
using era::test::Choices;
using era::test::SimMemory;
using SimClient = Client<SimMemory>;

inline constexpr u64 NEVER = ~u64{0};

/// Three clients on three pages of four blocks.
class FlatWorld {
  public:
    static constexpr Geometry GEOMETRY{
        .clients = 3, .refs = 16, .pages = 3, .slots = 2, .page_shift = 8};
    static constexpr u32 BLOCKS = 12;

    FlatWorld();

    /// An empty pool that all clients have joined.
    void begin();
    /// Runs `operation` in the cache of client `who` up to its access `last`, which does not
    /// happen; at access `evicted` all its dirty lines reach memory. False: it was through before.
    bool dies_at(u32 who, u64 last, u64 evicted, const std::function<void()>& operation);
    /// Client `who` is gone, with those of its dirty lines that are chosen.
    void crash(u32 who);
    void recover(u32 dead, u32 by);
    /// Whose cache the next accesses use.
    SimClient& as(u32 who);
    /// What must hold when nothing is under way; afterwards everything is dropped and all blocks
    /// are allocated, so nothing else can be done with this world.
    void check();
    /// A reference that the test's clients hold; gone with its client.
    void keep(u32 who, Ref ref) { held_[who].push_back(ref); }
    void forget(u32 who, u32 index) { held_[who].erase(held_[who].begin() + index); }
    Ref held(u32 who, u32 index) const { return held_[who].at(index); }
    usize count(u32 who) const { return held_[who].size(); }

    const std::string& failure() const { return failure_; }
    Choices& choices() { return choices_; }
    SimMemory memory;

  private:
    void fail(const std::string& what);
    void check_counts();
    void check_held();
    void use_all();

    Choices choices_;
    std::unique_ptr<u8[]> space_;
    std::unique_ptr<Pool> pool_;
    std::unique_ptr<SimClient> clients_[GEOMETRY.clients];
    std::vector<Ref> held_[GEOMETRY.clients];
    bool alive_[GEOMETRY.clients] = {};
    std::string failure_;
};

}  // namespace aep::flat::test
