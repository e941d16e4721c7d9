// Purpose: lets an operation die at each of its stores, and its recovery at each of its own, and
//          says what was left that should not be.
// Who calls it: the tests of tests/undo.
// Crash rule: this is the test of the crash rule of dsm-core/sharing.
#pragma once

#include <functional>
#include <optional>

#include "dsm-core/sharing/share_ops.hpp"
#include "tests/undo/live_words.hpp"
#include "tests/undo/store_hooks.hpp"

namespace aep::test {

struct Step {
    const char* name;
    Caller caller;
    std::function<Status(Caller)> perform;
    bool leaves;  // a part of all that its client had: to be done again until it is done
    u32 number;   // of the operation

    template <class O>
    Step(const char* step, Caller by, const O& o)
        : name(step),
          caller(by),
          perform([o](Caller c) { return aep::perform(c, o).status; }),
          leaves(std::is_same_v<O, op::Leave> || std::is_same_v<O, op::CloseInbox> ||
                 std::is_same_v<O, op::CloseTopic>),
          number(number_of<O>()) {}

    /// It is many changes, each of them one: to be done again until it is done.
    Step in_parts() const {
        Step parts = *this;
        parts.leaves = true;
        return parts;
    }

    /// What its way into the image has left in the slot.
    void enter() const {
        slot_at(caller.slot).op = number;
        slot_at(caller.slot).owner.store(SlotOwner::make(caller.client, 1).bits);
    }
};

struct Exhaustion {
    bool pool = false;        // nodes share objects: their tables are looked at, too
    u64 every_recovery = 1;   // of so many deaths the recovery dies at each store, too
    u64 deaths = 0;           // of operations
    u64 recovery_deaths = 0;  //
    u64 stores = 0;           // to words that something reads
    std::vector<std::string> faults;

    /// Performs the step, after all its deaths. How it ended.
    Status run(const Step& step);

  private:
    void fault(const Step& step, u64 at, const std::string& what);
    void judge(const Step& step, const Words& before, const Store& store);
    Words recovered(const Caller& caller, const Step& step);
};

/// What the host does for a dead slot (node/operation_recovery.cpp), as often as it takes.
void recover_slots(u32 victim);

}  // namespace aep::test
