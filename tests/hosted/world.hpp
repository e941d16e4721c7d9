// Purpose: a pool in memory and the contexts of its nodes, side by side in one process: a thread enters one, and is
//          then where a client's thread would be.
// Who calls it: tests/hosted.
// Crash rule: all of it is this process's memory.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "dsm-core/sharing/records.hpp"

namespace aep::test {

/// How much work a test does, by sanitizer.
#if defined(__SANITIZE_THREAD__)
inline constexpr int SLOWNESS = 5;
#elif defined(__SANITIZE_ADDRESS__)
inline constexpr int SLOWNESS = 2;
#else
inline constexpr int SLOWNESS = 1;
#endif

struct WorldShape {
    u32 nodes = 1;    // contexts on the pool; several share objects between them
    u32 clients = 4;  // of each
    u32 slots = 8;    // of each; the host's comes on top
    usize pool_bytes = 160 * MiB;
    u32 records = 1024;  // exports and holders that are present at first
};

class World {
  public:
    explicit World(const WorldShape& shape = {});
    ~World();
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    const WorldShape& shape() const { return shape_; }
    uptr control(u32 node) const { return CONTROL_BASE + node * STEP; }

  private:
    static constexpr usize STEP = 8 * GiB;  // more than a context has

    void make_pool();
    void make_context(u32 node);

    WorldShape shape_;
    u8* pool_ = nullptr;
    usize pool_mapped_ = 0;
    PoolShape pool_shape_{};
    std::vector<int> files_;
};

/// The calling thread is in that node's context, for a scope.
class Inside {
  public:
    Inside(const World& world, u32 node) : before_(hosted_control) {
        hosted_control = world.control(node);
    }
    ~Inside() { hosted_control = before_; }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;

  private:
    uptr before_;
};

/// Records of exports and holders are present up to these numbers: sanitizers know all beyond them for nobody's.
void open_records(u32 exports, u32 holders);

/// What is wrong in the tables of sharing of this context; empty: nothing.
std::string walk();

/// What is left in this context after its last client has gone: references, claims, chunks; empty: nothing.
std::string remains();

/// What is wrong in the tables that the pool's nodes share, while no transaction is under way. `all_gone`: and what is
/// left.
std::string pool_remains(bool all_gone);

}  // namespace aep::test
