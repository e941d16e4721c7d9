// Purpose: sees to it that there is a completer, and believes nothing that it says: a client may
//          have taken it over. What it was asked for it answers, once, in time; or it is killed,
//          and what it does not finish is given up.
// Who calls it: the providers' plugs.
// Crash rule: a completer ends with its daemon; the next daemon asks anew.
#pragma once

#include <map>

#include "node/log.hpp"
#include "tools/daemon/completer_process.hpp"

namespace aep {

struct CompleterOptions {
    std::string program;    // empty: the one that came with this program
    u64 limit_ms = 10'000;  // how long one operation may take
};

/// What a completer is to the provider that has it.
class CompleterOwner {
  public:
    virtual ~CompleterOwner() = default;
    /// A completer has started, and is to be watched before it works. Why that fails, or empty.
    virtual std::string watch_completer(pid_t pid) = 0;
    /// It is dead.
    virtual void unwatch_completer(pid_t /*pid*/) {}
    /// It works, and no other one lives.
    virtual void completer_works(pid_t /*pid*/) {}
    /// The answer for a slot that was asked for. False: it cannot be true.
    virtual bool answered(const CompleterReport& report) = 0;
    /// A slot's operation did not end in time, or ended completers. No worker is in the slot.
    virtual void given_up(u32 slot, const std::string& why) = 0;
};

class CompleterKeeper {
  public:
    /// `owner` outlives it.
    CompleterKeeper(CompleterOwner& owner, CompleterOptions options, Log log);
    ~CompleterKeeper();

    /// Keeps what a completer of that context needs; `captures`: the capture map, or -1. Why there
    /// can be none; empty: it can be started.
    std::string prepare(const WatchedContext& watched, int captures);
    int context_fd() const { return process_.context_fd(); }
    int image_fd() const { return process_.image_fd(); }

    /// Starts one if there is none and the time for it has come; it comes by itself. Whether one
    /// runs.
    bool want();
    /// Whether one works, and no other lives.
    bool works() const { return works_; }
    /// Has it work on a slot until it is answered or given up. False: ask again after the next
    /// event.
    bool ask(u32 slot);
    /// Whether that is under way.
    bool asked(u32 slot) const { return jobs_.count(slot) != 0; }
    /// Kills it, and asks for nothing any more.
    void end();
    /// Whether the last ones have ended, one after the other, before they had finished anything.
    bool fails() const { return failures_ > 1 && !works_; }
    /// Whether that is what clients have done to the memory that it shares with them: so often in a
    /// row was it misled at its start, or, if it performs, over an operation. Never for what the
    /// system lacks, nor because somebody kills it.
    bool hopeless() const { return misled_ >= MOST_MISLED; }

    /// Readable when there is something to do: on_event().
    int event_fd() const { return process_.event_fd(); }
    void on_event();

  private:
    static constexpr u32 MOST_MISLED = 5;

    struct Job {
        u64 first_ms;    // when it was asked for first
        u64 since_ms;    // since when a completer has it that works; 0: none has
        u32 deaths = 0;  // of completers that had it, by nobody else's hand
    };

    std::string start();
    void take(const CompleterReport& report);
    void misbehaves(const std::string& how);
    bool was_misled(int status, bool did_work) const;
    void died();
    void give_up_late_jobs();
    void give_up(u32 slot, const std::string& why);
    void plan_restart(const std::string& why);
    void set_timer();

    CompleterOwner& owner_;
    CompleterOptions options_;
    Log log_;
    CompleterProcess process_;
    UniqueFd timer_;
    int captures_ = -1;
    std::map<u32, Job> jobs_;
    bool wanted_ = false;
    bool works_ = false;
    bool began_ = false;  // a member: it was told to begin
    std::string fault_;   // why it is to be killed; empty: it is not
    bool late_ = false;   // that is for no more than its being slow
    u64 started_ms_ = 0;
    u64 restart_ms_ = 0;  // not before
    u32 failures_ = 0;    // in a row, without a completed operation in between
    u32 misled_ = 0;      // of those, the ones that clients' memory has ended
};

}  // namespace aep
