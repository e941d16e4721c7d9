// Purpose: see ebpf_plug.hpp.
// Who calls it: see ebpf_plug.hpp.
// Crash rule: see ebpf_plug.hpp.
#include "tools/daemon/ebpf_plug.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "dsm-core/pool/format.hpp"
#include "tools/daemon/synthetic_capture.hpp"
#include "tools/node/node_error.hpp"

namespace aep {
namespace {

/// One a context directory, whoever serves it.
std::string pins_of(const ContextPaths& paths) {
    const u64 hash =
        fnv1a(reinterpret_cast<const u8*>(paths.directory.data()), paths.directory.size());
    char tail[20];
    std::snprintf(tail, sizeof tail, "%08x", static_cast<u32>(hash));
    // A bpffs allows no dot in a name; no context's name has a '+'.
    std::string name = paths.name;
    std::replace(name.begin(), name.end(), '.', '+');
    return std::string(BPFFS) + "/aep/" + std::to_string(geteuid()) + "-" + name + "-" + tail;
}

u32 sequence_of(u32 slot) { return slot_at(slot).sequence.load(std::memory_order_acquire); }

}  // namespace

EbpfPlug::EbpfPlug(const ContextPaths& paths, Log log, CompleterOptions options)
    : pins_(pins_of(paths)),
      place_(paths.directory),
      log_(std::move(log)),
      keeper_(*this, std::move(options), log_) {}

std::string EbpfPlug::start(const WatchedContext& watched) {
    std::string why;
    for (const std::string& line : missing_for_ebpf()) why += (why.empty() ? "" : "; ") + line;
    if (!why.empty()) return why;
    auto image = read_image_info(watched.image_fd);
    if (!image) return image.error();
    if (const u32 orphans = remove_orphaned_pins(std::string(BPFFS) + "/aep"); orphans != 0) {
        log_(LogLevel::info, std::to_string(orphans) + " former contexts' programs are unloaded");
    }
    auto opened = open_ebpf_provider(ebpf_plan(pins_, context(), *image, place_));
    if (!opened) return opened.error();
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

std::string EbpfPlug::watch(u32 client, pid_t pid, int) {
    return provider_->add_member(static_cast<u32>(pid), client);
}

void EbpfPlug::unwatch(u32 client, pid_t pid) {
    provider_->remove_member(static_cast<u32>(pid), client);
}

int EbpfPlug::doorbell_fd() const { return provider_->doorbell_fd(); }

void EbpfPlug::on_doorbell() {
    provider_->drain([this](const DoorbellRecord& record) {
        if (record.kind != DOORBELL_CAPTURED) return;
        log_(LogLevel::debug, "client " + std::to_string(record.client) + " (pid " +
                                  std::to_string(record.tgid) + "): killed inside, slot " +
                                  std::to_string(record.slot));
    });
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
    const std::string what =
        "operation " + std::to_string(report.op) + " in slot " + std::to_string(report.slot);
    const u32 sequence = sequence_of(report.slot);
    switch (report.outcome) {
        case CompleterOutcome::completed:
        case CompleterOutcome::nothing_open:
            if (sequence % 2 != 0) return false;
            if (report.outcome == CompleterOutcome::completed) {
                log_(LogLevel::info, what + " is completed");
            }
            return true;
        case CompleterOutcome::broken:
            log_(LogLevel::error, what + " broke: signal " + std::to_string(report.signal) +
                                      " at " + std::to_string(report.rip));
            break;
        default:
            break;
    }
    hopeless_[report.slot] = sequence;
    return true;
}

void EbpfPlug::given_up(u32 slot, const std::string& why) {
    log_(LogLevel::error, "the operation in slot " + std::to_string(slot) + " is given up: " + why);
    hopeless_[slot] = sequence_of(slot);
}

}  // namespace aep
