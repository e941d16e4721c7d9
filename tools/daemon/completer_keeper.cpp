// Purpose: see completer_keeper.hpp.
// Who calls it: see completer_keeper.hpp.
// Crash rule: see completer_keeper.hpp.
#include "tools/daemon/completer_keeper.hpp"

#include <fmt/format.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <vector>

#include "node/process_facts.hpp"

namespace aep {
namespace {

/// Restarts: at once, then after that, and twice as long each time.
constexpr u64 FIRST_PAUSE_MS = 10, LONGEST_PAUSE_MS = 5000;
/// So many completers may end by themselves over one operation.
constexpr u32 MOST_DEATHS = 3;
/// Without a completer that works, or with ever new ones, an operation is given up after so many
/// times the limit.
constexpr u64 PATIENCE = 6;

u64 pause_after(u32 failures) {
    if (failures <= 1) return 0;
    return std::min(FIRST_PAUSE_MS << std::min(failures - 2, 20U), LONGEST_PAUSE_MS);
}

/// What a process gets for what it does itself.
bool is_fault(int signal) {
    constexpr int FAULTS[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT};
    return std::find(std::begin(FAULTS), std::end(FAULTS), signal) != std::end(FAULTS);
}

std::string words_for_end(int status) {
    if (!WIFSIGNALED(status) && WEXITSTATUS(status) == COMPLETER_MISLED)
        return "what it shares with clients is not as the daemon made it";
    if (WIFSIGNALED(status)) return fmt::format("signal {}", WTERMSIG(status));
    return fmt::format("exit status {}", WEXITSTATUS(status));
}

}  // namespace

CompleterKeeper::CompleterKeeper(CompleterOwner& owner, CompleterOptions options, Log log)
    : owner_(owner),
      options_(std::move(options)),
      log_(std::move(log)),
      timer_(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {
    process_.add_event(timer_.get());
}

CompleterKeeper::~CompleterKeeper() { end(); }

std::string CompleterKeeper::prepare(const WatchedContext& watched, int captures) {
    captures_ = captures;
    return process_.prepare(watched, options_.program);
}

bool CompleterKeeper::want() {
    wanted_ = true;
    if (process_.runs()) return true;
    if (monotonic_ms() < restart_ms_) return false;
    const std::string why = start();
    if (!why.empty()) plan_restart("no completer: " + why);
    set_timer();
    return process_.runs();
}

std::string CompleterKeeper::start() {
    works_ = began_ = false;
    fault_.clear();
    late_ = false;
    std::string why = process_.start(captures_);
    if (!why.empty()) return why;
    started_ms_ = monotonic_ms();
    if (captures_ >= 0) why = owner_.watch_completer(process_.pid());
    if (!why.empty()) {
        owner_.unwatch_completer(process_.pid());
        process_.end();
        return why;
    }
    // They wait in its socket until it works.
    for (const auto& [slot, job] : jobs_) process_.send_job(slot);
    return "";
}

bool CompleterKeeper::ask(u32 slot) {
    if (asked(slot)) return true;
    if (!want() || !process_.send_job(slot)) return false;
    const u64 now = monotonic_ms();
    jobs_[slot] = {now, works_ ? now : 0};
    set_timer();
    return true;
}

void CompleterKeeper::end() {
    wanted_ = false;
    jobs_.clear();
    if (!process_.runs()) return;
    const pid_t pid = process_.pid();
    process_.end();
    owner_.unwatch_completer(pid);
    works_ = false;
}

void CompleterKeeper::on_event() {
    u64 expirations;
    while (read(timer_.get(), &expirations, sizeof expirations) > 0) {
    }
    const bool lives = process_.receive([this](const CompleterReport& report) {
        take(report);
        return fault_.empty();
    });
    if (process_.runs() && !works_ && monotonic_ms() - started_ms_ >= options_.limit_ms) {
        misbehaves("does not come to work");
        late_ = true;
    }
    if (!lives || !fault_.empty()) died();
    give_up_late_jobs();
    if (wanted_) want();
    set_timer();
}

/// It is not what we started any more: killed, with what it may have done by then.
void CompleterKeeper::misbehaves(const std::string& how) { fault_ = how; }

void CompleterKeeper::take(const CompleterReport& report) {
    switch (report.outcome) {
        case CompleterOutcome::started: {
            if (captures_ >= 0 || works_ || began_) return misbehaves("says that it has started");
            began_ = true;
            // Not before: the exec that made it the completer would have ended the membership.
            const std::string why = owner_.watch_completer(process_.pid());
            if (!why.empty()) return misbehaves(why);
            process_.send_job(BEGIN_JOB);
            return;
        }
        case CompleterOutcome::ready: {
            if (works_ || (captures_ < 0 && !began_)) return misbehaves("says that it works");
            works_ = true;
            if (captures_ >= 0) misled_ = 0;
            const u64 now = monotonic_ms();
            for (auto& [number, job] : jobs_) job.since_ms = now;
            owner_.completer_works(process_.pid());
            return;
        }
        case CompleterOutcome::completed:
        case CompleterOutcome::nothing_open:
        case CompleterOutcome::no_capture:
        case CompleterOutcome::broken:
            break;
        default:
            return misbehaves("reports something that there is not");
    }
    const auto job = jobs_.find(report.slot);
    if (!works_ || job == jobs_.end())
        return misbehaves(fmt::format("reports slot {}, which it was not asked for", report.slot));
    if (!owner_.answered(report))
        return misbehaves(fmt::format("reports what is not so of slot {}", report.slot));
    jobs_.erase(job);
    if (report.outcome == CompleterOutcome::completed) failures_ = misled_ = 0;
}

/// Whether clients' memory has ended it: it found something else there than the daemon had made, or
/// faulted, or said what is not so. What the system lacks it says by another status, and is killed
/// for by SIGKILL. Of one that had come to work only if it performs: what is completed counts the
/// deaths over it itself.
bool CompleterKeeper::was_misled(int status, bool did_work) const {
    if (did_work && (captures_ >= 0 || jobs_.empty())) return false;
    if (!fault_.empty()) return !late_;
    return WIFSIGNALED(status) ? is_fault(WTERMSIG(status))
                               : WEXITSTATUS(status) == COMPLETER_MISLED;
}

/// What it was in the middle of is captured, and another one goes on with it; unless it was that
/// which ended it.
void CompleterKeeper::died() {
    const pid_t pid = process_.pid();
    const bool did_work = works_;
    const int status = process_.end();
    owner_.unwatch_completer(pid);
    works_ = false;
    // Somebody may kill it, or the system when memory is short. An operation cannot.
    const bool by_others = fault_.empty() && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (was_misled(status, did_work)) ++misled_;
    plan_restart(fmt::format("the completer (pid {}) is dead: {}", pid,
                             fault_.empty() ? words_for_end(status) : "killed: it " + fault_));
    fault_.clear();
    std::vector<u32> fatal;
    for (auto& [slot, job] : jobs_) {
        job.since_ms = 0;
        if (did_work && !by_others && ++job.deaths >= MOST_DEATHS) fatal.push_back(slot);
    }
    for (const u32 slot : fatal)
        give_up(slot, fmt::format("{} completers have ended over it", MOST_DEATHS));
    // What was performed is not gone on with: who wants it sees what there is, and asks again.
    if (captures_ < 0) jobs_.clear();
}

/// Said once a stage: no log grows by it.
void CompleterKeeper::plan_restart(const std::string& why) {
    const u64 before = pause_after(failures_);
    const u64 pause = pause_after(++failures_);
    restart_ms_ = monotonic_ms() + pause;
    if (failures_ > 1 && pause == before && pause != 0) return;
    log_(LogLevel::warning, fmt::format("{}; another one starts {}{}", why,
                                        pause == 0 ? "at once" : fmt::format("in {} ms", pause),
                                        pause == LONGEST_PAUSE_MS ? ", and so on" : ""));
}

void CompleterKeeper::give_up_late_jobs() {
    const u64 now = monotonic_ms();
    std::vector<u32> late;
    bool inside = false;  // a worker of the one that runs may be in it
    for (const auto& [slot, job] : jobs_) {
        const bool over = job.since_ms != 0 && now - job.since_ms >= options_.limit_ms;
        if (!over && now - job.first_ms < PATIENCE * options_.limit_ms) continue;
        late.push_back(slot);
        inside = inside || process_.runs();
    }
    if (late.empty()) return;
    if (inside) {
        // A former fault is none of the others' jobs': they are asked for again.
        const pid_t pid = process_.pid();
        process_.end();
        owner_.unwatch_completer(pid);
        works_ = false;
        for (auto& [slot, job] : jobs_) job.since_ms = 0;
        if (captures_ < 0) ++misled_;
        plan_restart(fmt::format("the completer (pid {}) is killed: slot {} takes it too long", pid,
                                 late.front()));
    }
    for (const u32 slot : late)
        give_up(slot, fmt::format("it does not end in {} ms", options_.limit_ms));
}

void CompleterKeeper::give_up(u32 slot, const std::string& why) {
    jobs_.erase(slot);
    owner_.given_up(slot, why);
}

/// For the first thing that is due.
void CompleterKeeper::set_timer() {
    u64 due = ~u64{0};
    if (wanted_ && !process_.runs()) due = restart_ms_;
    if (process_.runs() && !works_) due = started_ms_ + options_.limit_ms;
    for (const auto& [slot, job] : jobs_) {
        due = std::min(due, job.first_ms + PATIENCE * options_.limit_ms);
        if (job.since_ms != 0) due = std::min(due, job.since_ms + options_.limit_ms);
    }
    itimerspec at{};
    if (due != ~u64{0}) {
        at.it_value.tv_sec = static_cast<time_t>(due / 1000);
        // Never 0 and 0, which would be no time at all.
        at.it_value.tv_nsec = static_cast<long>(due % 1000 * 1'000'000) + 1;
    }
    timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &at, nullptr);
}

}  // namespace aep
