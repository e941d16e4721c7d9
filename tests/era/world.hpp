// Purpose: one small pool and the machines on it: runs a plan of tasks through every way in which
//          their accesses can interleave and their machines die, recovers, and checks what is left.
// Who calls it: tests/era/model_*.cpp and the other tests of dsm-core/era.
// Crash rule: this is the test of the crash rules.
#pragma once

#include <map>
#include <memory>
#include <ostream>
#include <string>

#include "dsm-core/era/chunks.hpp"
#include "dsm-core/era/mailbox.hpp"
#include "dsm-core/era/recovery.hpp"
#include "tests/era/choices.hpp"
#include "tests/era/fiber.hpp"
#include "tests/era/sim_memory.hpp"

namespace aep::era::test {

class World;

/// One lane of a machine, as a program uses it; keeps account of the references it should have.
class Client {
  public:
    Client(World& world, u32 host, u32 lane);
    Status create(u32 ref, u32 object);
    Status attach(u32 ref, u32 object);
    Status release(u32 ref);
    Status send(u32 to, u32 object);
    Status receive(u32 from, u32 ref);
    Status claim(u32 chunk);
    Status give_back(u32 chunk);

  private:
    Status gained(Status status, u32 ref, u32 object);
    World& w;
    u32 host_;
    Lane<SimMemory> lane_;
};

/// What one client does.
struct Task {
    u32 host;
    u32 lane;
    std::function<void(Client&)> run;
};

/// What is explored, and how far.
struct Plan {
    const char* name = "";
    Shape shape{.nodes = 2, .lanes = 2, .refs = 2, .objects = 1, .slots = 2};
    u32 chunks = 2;
    std::function<void(World&)> setup;  // before anything can fail; durable
    std::vector<Task> tasks;
    std::vector<u32> dead;   // machines that have died when the tasks begin
    u32 preemptions = 2;     // switches away from a task that could have gone on
    u32 crashes = 1;         // machines that die; at least one more must be left
    u32 recoverers = 1;      // survivors that try to recover a dead machine, at once
    bool evictions = false;  // lines may also reach memory at any time (random plans)
    Sabotage sabotage;

    /// Names the case of a test; its bytes, which GoogleTest would show else, differ from run to run.
    friend void PrintTo(const Plan& plan, std::ostream* out) { *out << plan.name; }
};

struct Result {
    u64 executions = 0;
    u64 accesses = 0;
    std::string failure;  // of the first execution that failed
};

class World {
  public:
    explicit World(const Plan& plan);

    /// Every execution of the plan up to its bounds, or up to the first that fails.
    Result explore();
    /// `executions` random ones. Choices are made in one of `calm + 1` cases.
    Result sample(u64 seed, u64 executions, u32 calm);

    // For setups, checks, and tests that do one thing after the other.
    SimMemory memory;
    Tables t;
    Client client(u32 host, u32 lane) { return {*this, host, lane}; }
    NodeWord standing(u32 host) const { return words_[host]; }
    bool alive(u32 host) const { return alive_[host]; }
    /// Frees an object's memory: fails if anybody still refers to it.
    void reclaim(u32 object);
    void fail(const std::string& what);
    /// Kills a machine and those of its dirty lines that are chosen; `recoverers` others recover.
    void crash(u32 host);
    /// The same, but the machine goes on: nothing of its cache is lost.
    void declare_dead(u32 host);
    /// Recovers every dead machine, as `host`.
    void recover_dead(u32 host);
    /// Whose cache the next accesses use, and whose fences.
    void act_as(u32 host, u32 lane);
    Choices& choices() { return choices_; }
    /// Checks all that must hold when nothing is under way.
    void check();
    /// Of that, counts and references only.
    void check_objects();
    /// Begins an execution and does the setup.
    void begin();
    const std::string& failure() const { return failure_; }
    std::map<std::pair<u32, u32>, u32> held;  // (host, ref) -> object, what live clients count on
    std::map<u32, u32> chunks;                // chunk -> host, the same
    bool keep_chunks = false;                 // living objects are in the chunks of whoever dies

  private:
    friend class Client;
    struct Running {
        u32 host = 0;
        bool done = true;
        Fiber fiber;
        std::function<void()> body;
        std::function<void()> finished;
    };

    Result run(u64 executions);
    void execute();
    void at(Access access, const Word& word);
    void switch_to(u32 task);
    void leave();
    bool another(u32& task);
    void spawn_recovery(u32 host);
    void recover_all(u32 host);
    void check_cells();
    void check_node(u32 host);
    void check_chunks();
    void check_hints();
    void use_again();

    const Plan& plan_;
    Choices choices_;
    std::unique_ptr<u8[]> space_;
    usize bytes_ = 0;
    std::vector<NodeWord> words_;
    std::vector<bool> alive_;
    std::vector<std::unique_ptr<Running>> running_;  // tasks, then one recovery a machine
    std::vector<bool> recover_again_;
    ucontext_t main_{};
    u32 current_ = 0;
    bool exploring_ = false;
    u32 preemptions_ = 0;
    u32 crashes_ = 0;
    u64 steps_ = 0;
    u64 accesses_ = 0;
    std::string failure_;
};

}  // namespace aep::era::test
