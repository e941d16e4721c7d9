// Purpose: see world.hpp: clients, the scheduler, death and recovery.
// Who calls it: the tests of dsm-core/era.
// Crash rule: this is the test of the crash rules.
#include "tests/era/world.hpp"

namespace aep::era::test {

/// No execution needs so many accesses; one that does is waiting for somebody.
constexpr u64 TOO_LONG = 20'000;

Client::Client(World& world, u32 host, u32 lane)
    : w(world), host_(host), lane_(world.memory, world.t, host, lane, world.standing(host)) {}

Status Client::gained(Status status, u32 ref, u32 object) {
    if (status == Status::ok) w.held[{host_, ref}] = object;
    return status;
}

Status Client::create(u32 ref, u32 object) {
    return gained(lane_.create(ref, object), ref, object);
}

Status Client::attach(u32 ref, u32 object) {
    return gained(lane_.attach(ref, object), ref, object);
}

Status Client::release(u32 ref) {
    const auto found = w.held.find({host_, ref});
    const u32 object = found == w.held.end() ? 0 : found->second;
    w.held.erase({host_, ref});
    const Status status = lane_.release(ref);
    if (status == Status::last) {
        w.reclaim(object);
        lane_.reclaimed();
    }
    return status;
}

Status Client::send(u32 to, u32 object) {
    const Status status = era::send(lane_, to, object);
    if (status == Status::last) {
        w.reclaim(object);
        lane_.reclaimed();
    }
    return status;
}

Status Client::receive(u32 from, u32 ref) {
    u32 object = 0;
    const Status status = era::receive(lane_, from, ref, object);
    return gained(status, ref, object);
}

Status Client::claim(u32 chunk) {
    const Status status = claim_chunk(w.memory, w.t, host_, w.standing(host_), chunk);
    if (status == Status::ok) w.chunks[chunk] = host_;
    return status;
}

Status Client::give_back(u32 chunk) {
    w.chunks.erase(chunk);
    return return_chunk(w.memory, w.t, host_, w.standing(host_), chunk);
}

World::World(const Plan& plan) : plan_(plan) {
    const usize tables = layout_of(plan.shape).bytes;
    bytes_ = tables + round_up(plan.chunks * sizeof(Word), CACHE_LINE);
    space_ = std::make_unique<u8[]>(bytes_ + CACHE_LINE);
    const uptr base = round_up(reinterpret_cast<uptr>(space_.get()), CACHE_LINE);
    t = tables_at(reinterpret_cast<void*>(base), plan.shape, reinterpret_cast<Word*>(base + tables),
                  plan.chunks);
    memory.before = [this](Access access, const Word& word) { at(access, word); };
    memory.sabotage = plan.sabotage;
    for (usize i = 0; i < plan.tasks.size() + plan.shape.nodes; ++i) {
        running_.push_back(std::make_unique<Running>());
        running_.back()->finished = [this] { leave(); };
    }
    for (usize i = 0; i < plan.tasks.size(); ++i) {
        running_[i]->host = plan.tasks[i].host;
        running_[i]->body = [this, &task = plan.tasks[i]] {
            Client client(*this, task.host, task.lane);
            task.run(client);
        };
    }
    for (u32 host = 0; host < plan.shape.nodes; ++host) {
        Running& recovery = *running_[plan.tasks.size() + host];
        recovery.host = host;
        recovery.body = [this, host] { recover_all(host); };
    }
}

Result World::explore() {
    choices_ = Choices();
    return run(~u64{0});
}

Result World::sample(u64 seed, u64 executions, u32 calm) {
    choices_ = Choices(seed, calm);
    return run(executions);
}

Result World::run(u64 executions) {
    Result result;
    accesses_ = 0;
    do {
        execute();
        ++result.executions;
    } while (failure_.empty() && result.executions < executions && choices_.next());
    result.accesses = accesses_;
    result.failure = failure_;
    return result;
}

void World::begin() {
    memory.reset(t, bytes_);
    held.clear();
    chunks.clear();
    failure_.clear();
    words_.assign(plan_.shape.nodes, {});
    alive_.assign(plan_.shape.nodes, true);
    recover_again_.assign(plan_.shape.nodes, false);
    steps_ = 0;
    preemptions_ = plan_.preemptions;
    crashes_ = plan_.crashes;
    for (auto& running : running_) running->done = true;
    for (u32 i = 0; i < plan_.shape.nodes; ++i) words_[i] = join(memory, t, i);
    if (plan_.setup) plan_.setup(*this);
    memory.write_back_all();
}

void World::execute() {
    begin();
    for (usize i = 0; i < plan_.tasks.size(); ++i) {
        running_[i]->done = false;
        running_[i]->fiber.start(running_[i]->body, running_[i]->finished);
    }
    exploring_ = true;
    for (const u32 host : plan_.dead) alive_[host] = false;
    for (const u32 host : plan_.dead) declare_dead(host);
    u32 first = 0;
    another(first);
    current_ = first;
    memory.host = running_[first]->host;
    memory.caller = first;
    swapcontext(&main_, running_[first]->fiber.context());
    exploring_ = false;
    if (failure_.empty()) check();
}

/// One of the tasks that can go on. False: there is none.
bool World::another(u32& task) {
    u32 ready[16];
    u32 count = 0;
    for (u32 i = 0; i < running_.size(); ++i)
        if (!running_[i]->done) ready[count++] = i;
    if (count == 0) return false;
    task = ready[choices_.choose_evenly(count)];
    return true;
}

/// Leaves the current task, which may be continued later, for another one.
void World::switch_to(u32 task) {
    Running& from = *running_[current_];
    current_ = task;
    memory.host = running_[task]->host;
    memory.caller = task;
    swapcontext(from.fiber.context(), running_[task]->fiber.context());
}

/// The current task is over: done or dead.
void World::leave() {
    running_[current_]->done = true;
    u32 next = 0;
    if (!failure_.empty() || !another(next)) setcontext(&main_);
    current_ = next;
    memory.host = running_[next]->host;
    memory.caller = next;
    setcontext(running_[next]->fiber.context());
}

/// Before each access: go on, let somebody else run, or let a machine die.
void World::at(Access access, const Word& word) {
    if (!exploring_) return;
    ++accesses_;
    if (++steps_ > TOO_LONG) fail("somebody waits");
    if (!failure_.empty()) leave();
    // What only its own lane reads needs no switch before it: any other order looks the same. A
    // fence does: what another lane of the machine sees before it may still be lost.
    // Words of a message are written before it is there, and read once more by who has it.
    const SimMemory::Region region = memory.region_of(word);
    const bool shared = access == Access::fence ||
                        (access != Access::flush && region != SimMemory::Region::record &&
                         region != SimMemory::Region::letter);
    // Between two changes of the words or of memory, one moment to die is as good as another.
    const bool changes = access != Access::flush && access != Access::load;
    u32 options[32];
    u32 count = 1;
    for (u32 i = 0; shared && preemptions_ != 0 && i < running_.size(); ++i)
        if (i != current_ && !running_[i]->done) options[count++] = i;
    const u32 switches = count;
    for (u32 i = 0; changes && crashes_ != 0 && i < plan_.shape.nodes; ++i)
        if (alive_[i]) options[count++] = i;
    if (plan_.evictions) {
        const std::vector<usize> lines = memory.dirty(memory.host);
        const u32 line = choices_.choose(static_cast<u32>(lines.size()) + 1);
        if (line != 0) memory.evict(lines[line - 1]);
    }
    const u32 choice = choices_.choose(count);
    if (choice == 0) return;
    if (choice < switches) {
        --preemptions_;
        switch_to(options[choice]);
        return;
    }
    --crashes_;
    crash(options[choice]);
    if (!alive_[running_[current_]->host]) leave();
}

void World::crash(u32 host) {
    for (auto& running : running_) running->done |= running->host == host;
    const std::vector<usize> lines = memory.dirty(host);
    const u32 subsets = lines.size() <= 4 ? 1U << lines.size() : 2;
    const u32 kept = choices_.choose_evenly(subsets);
    for (usize i = 0; i < lines.size(); ++i)
        memory.settle(lines[i], lines.size() <= 4 ? (kept >> i & 1) == 0 : kept == 0);
    declare_dead(host);
}

void World::declare_dead(u32 host) {
    alive_[host] = false;
    std::erase_if(
        held, [host](const auto& entry) { return entry.first.first == host; });
    std::erase_if(chunks, [host](const auto& entry) { return entry.second == host; });
    u32 recoverers = 0;
    for (u32 i = 0; i < plan_.shape.nodes && recoverers < plan_.recoverers; ++i) {
        if (alive_[i]) {
            spawn_recovery(i);
            ++recoverers;
        }
    }
}

void World::spawn_recovery(u32 host) {
    Running& recovery = *running_[plan_.tasks.size() + host];
    recover_again_[host] = true;
    if (recovery.done && exploring_) {
        recovery.done = false;
        recovery.fiber.start(recovery.body, recovery.finished);
    } else if (!exploring_) {
        recover_dead(host);
    }
}

void World::recover_dead(u32 host) {
    act_as(host, t.shape.lanes);
    recover_again_[host] = true;
    recover_all(host);
}

void World::act_as(u32 host, u32 lane) {
    memory.host = host;
    memory.caller = host * (t.shape.lanes + 1) + lane;
}

/// Recovers every dead machine, from the last lane of `host`.
void World::recover_all(u32 host) {
    Lane<SimMemory> mine(memory, t, host, t.shape.lanes - 1, words_[host]);
    Disposal disposal;
    disposal.context = this;
    disposal.reclaim = [](void* world, u32 object) { static_cast<World*>(world)->reclaim(object); };
    disposal.clean = [](void* world, u32) { return !static_cast<World*>(world)->keep_chunks; };
    Recovery<SimMemory> recovery(mine, disposal);
    while (recover_again_[host]) {
        recover_again_[host] = false;
        for (u32 i = 0; i < plan_.shape.nodes; ++i)
            if (!alive_[i]) recovery.recover(i);
    }
}

}  // namespace aep::era::test
