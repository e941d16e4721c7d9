// Purpose: see ebpf_plug.hpp.
// Who calls it: see ebpf_plug.hpp.
// Crash rule: see ebpf_plug.hpp.
#include "tools/daemon/ebpf_plug.hpp"

#include <fmt/format.h>

#include "aep-lib/provider/seen.hpp"
#include "node/process_facts.hpp"
#include "tools/daemon/synthetic_capture.hpp"

namespace aep {
namespace {

constexpr u64 LOOK_AFTER_MS = 1000;

bool has_clients() {
    for (u32 i = 1; i <= context().max_clients; ++i)
        if (client_at(i).state.load() != static_cast<u32>(ClientState::free)) return true;
    return false;
}

u32 sequence_of(u32 slot) { return slot_at(slot).sequence.load(std::memory_order_acquire); }

}  // namespace

EbpfPlug::EbpfPlug(const ContextPaths& paths, Log log, CompleterOptions options)
    : name_(paths.name),
      context_file_(paths.context()),
      log_(std::move(log)),
      keeper_(*this, std::move(options), log_) {}

std::string EbpfPlug::start(const WatchedContext& watched) {
    std::string why;
    for (const std::string& line : missing_for_ebpf()) why += (why.empty() ? "" : "; ") + line;
    if (!why.empty()) return why;
    auto image = read_image_info(watched.image_fd);
    if (!image) return image.error();
    if (const u32 orphans = remove_orphaned_pins(pins_of_user()); orphans != 0)
        log_(LogLevel::info, fmt::format("{} former contexts' programs are unloaded", orphans));
    auto pins = pins_directory(name_, context_file_);
    if (!pins) return pins.error();
    pins_ = *pins;
    EbpfPlan plan = ebpf_plan(pins_, context(), *image, context_file_);
    plan.has_clients = has_clients();
    auto opened = open_ebpf_provider(plan);
    if (!opened) return opened.error();
    if (plan.has_clients && !(*opened)->continued()) {
        log_(LogLevel::warning,
             "the programs of the context were gone: they are loaded anew; an operation whose "
             "thread was killed meanwhile cannot be completed");
    }
    provider_ = std::move(*opened);
    image_info_ = *image;
    return keeper_.prepare(watched, provider_->captures_fd());
}

std::string EbpfPlug::watch_completer(pid_t pid) {
    return provider_->add_member(static_cast<u32>(pid), COMPLETER_CLIENT);
}

void EbpfPlug::unwatch_completer(pid_t pid) {
    provider_->remove_member(static_cast<u32>(pid), COMPLETER_CLIENT);
}

void EbpfPlug::completer_works(pid_t pid) { provider_->keep_completer(static_cast<u32>(pid)); }

std::string EbpfPlug::watch(u32 client, pid_t pid, int pidfd) {
    if (std::string why = why_not_seen(pid, pidfd); !why.empty()) return why;
    return provider_->add_member(static_cast<u32>(pid), client);
}

void EbpfPlug::unwatch(u32 client, pid_t pid) {
    provider_->remove_member(static_cast<u32>(pid), client);
}

int EbpfPlug::doorbell_fd() const { return provider_->doorbell_fd(); }

void EbpfPlug::on_doorbell() {
    provider_->drain([this](const DoorbellRecord& record) {
        if (record.kind != DOORBELL_CAPTURED) return;
        log_(LogLevel::debug, fmt::format("client {} (pid {}): killed inside, slot {}",
                                          record.client, record.tgid, record.slot));
    });
}

void EbpfPlug::look_after() {
    const u64 now = monotonic_ms();
    if (now - looked_ms_ < LOOK_AFTER_MS) return;
    looked_ms_ = now;
    const std::string found = provider_->look_after();
    if (!found.empty() && found != said_) log_(LogLevel::warning, found);
    said_ = found;
}

void EbpfPlug::remove() {
    keeper_.end();
    provider_.reset();
    if (const std::string why = remove_pins(pins_); !why.empty()) log_(LogLevel::warning, why);
}

SlotOutcome EbpfPlug::complete(u32 slot) {
    // Until the report is here the worker may still be on the slot's stack, on its way out.
    if (keeper_.asked(slot)) return SlotOutcome::pending;
    if (is_at_rest(slot_at(slot))) return SlotOutcome::completed;
    const u32 sequence = sequence_of(slot);
    // A claim of a former completer is voided when ours comes to work. From then on nobody has the
    // slot: what says so is a client's word.
    if (keeper_.works()) slot_at(slot).completer.store(0, std::memory_order_relaxed);
    if (sequence % 2 == 0) {
        keeper_.want();
        return keeper_.works() ? SlotOutcome::completed : SlotOutcome::pending;
    }
    // It is started again all the same; until it works nobody waits for it.
    if (keeper_.hopeless()) return SlotOutcome::no_capture;
    if (const auto found = hopeless_.find(slot); found != hopeless_.end()) {
        if (found->second == sequence) return SlotOutcome::no_capture;
        hopeless_.erase(found);
    }
    keeper_.ask(slot);  // if it cannot be asked now, the next sweep asks again
    return SlotOutcome::pending;
}

SlotOutcome EbpfPlug::begin_operation(u32 slot) {
    const std::string why =
        begin_as_killed(keeper_.context_fd(), image_info_, slot, provider_->captures()[slot]);
    if (why.empty()) return complete(slot);
    log_(LogLevel::error, "an operation of the host's cannot begin: " + why);
    return SlotOutcome::pending;
}

bool EbpfPlug::answered(const CompleterReport& report) {
    const std::string what = fmt::format("operation {} in slot {}", report.op, report.slot);
    const u32 sequence = sequence_of(report.slot);
    switch (report.outcome) {
        case CompleterOutcome::completed:
        case CompleterOutcome::nothing_open:
            if (sequence % 2 != 0) return false;
            if (report.outcome == CompleterOutcome::completed)
                log_(LogLevel::info, what + " is completed");
            return true;
        case CompleterOutcome::broken:
            log_(LogLevel::error,
                 fmt::format("{} broke: signal {} at {}", what, report.signal, report.rip));
            break;
        default:
            break;
    }
    hopeless_[report.slot] = sequence;
    return true;
}

void EbpfPlug::given_up(u32 slot, const std::string& why) {
    log_(LogLevel::error, fmt::format("the operation in slot {} is given up: {}", slot, why));
    hopeless_[slot] = sequence_of(slot);
}

}  // namespace aep
