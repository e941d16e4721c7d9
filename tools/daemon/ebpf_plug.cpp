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

EbpfPlug::EbpfPlug(const ContextPaths& paths, Log log)
    : pins_(pins_of(paths)), place_(paths.directory), log_(std::move(log)) {}

EbpfPlug::~EbpfPlug() { end_completer(); }

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
    return completer_.prepare(watched);
}

void EbpfPlug::begin() {
    have_completer();  // before it is needed: whoever waits for it waits less
}

/// Starts one if there is none.
bool EbpfPlug::have_completer() {
    if (completer_.runs()) return true;
    const std::string why = start_completer();
    if (!why.empty()) log_(LogLevel::error, "no completer: " + why);
    return why.empty();
}

std::string EbpfPlug::start_completer() {
    std::string why = completer_.start(provider_->captures_fd());
    if (!why.empty()) return why;
    ready_ = false;
    why = provider_->add_member(static_cast<u32>(completer_.pid()), COMPLETER_CLIENT);
    if (!why.empty()) end_completer();
    return why;
}

/// What it was in the middle of is captured.
void EbpfPlug::end_completer() {
    if (!completer_.runs()) return;
    const u32 pid = static_cast<u32>(completer_.pid());
    completer_.end();
    provider_->remove_member(pid, COMPLETER_CLIENT);
    ready_ = false;
}

/// Another one goes on with what it left. One that never came to work is started again by the next
/// sweep only.
void EbpfPlug::completer_died() {
    const bool worked = ready_;
    log_(LogLevel::warning, "the completer (pid " + std::to_string(completer_.pid()) + ") is dead");
    end_completer();
    if (!worked) {
        pending_.clear();
        return;
    }
    if (const std::string why = start_completer(); !why.empty()) {
        log_(LogLevel::error, "no completer: " + why);
        pending_.clear();
        return;
    }
    for (const u32 slot : pending_) completer_.send_job(slot);
}

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
    end_completer();
    provider_.reset();
    if (const std::string why = remove_pins(pins_); !why.empty()) log_(LogLevel::warning, why);
}

SlotOutcome EbpfPlug::complete(u32 slot) {
    // Until the report is here the worker may still be on the slot's stack, on its way out.
    if (pending_.count(slot) != 0) return SlotOutcome::pending;
    if (is_at_rest(slot_at(slot))) return SlotOutcome::completed;
    const u32 sequence = sequence_of(slot);
    if (sequence % 2 == 0) {
        // A former completer's worker. When that one is gone, the next one voids its claims.
        have_completer();
        return SlotOutcome::pending;
    }
    if (const auto found = hopeless_.find(slot); found != hopeless_.end()) {
        const bool same = found->second == sequence;
        hopeless_.erase(found);
        if (same) return SlotOutcome::no_capture;
    }
    // No completer, or a full socket: the next sweep asks again.
    if (have_completer() && completer_.send_job(slot)) pending_.insert(slot);
    return SlotOutcome::pending;
}

SlotOutcome EbpfPlug::begin_operation(u32 slot) {
    const std::string why =
        begin_as_killed(completer_.context_fd(), image_info_, slot, provider_->captures()[slot]);
    if (why.empty()) return complete(slot);
    log_(LogLevel::error, "an operation of the host's cannot begin: " + why);
    return SlotOutcome::pending;
}

void EbpfPlug::on_event() {
    const auto take_it = [this](const CompleterReport& report) { take(report); };
    if (!completer_.receive(take_it)) completer_died();
}

void EbpfPlug::take(const CompleterReport& report) {
    if (report.outcome == CompleterOutcome::ready) {
        ready_ = true;
        provider_->keep_completer(static_cast<u32>(completer_.pid()));
        return;
    }
    pending_.erase(report.slot);
    switch (report.outcome) {
        case CompleterOutcome::completed:
            log_(LogLevel::info, "operation " + std::to_string(report.op) + " in slot " +
                                     std::to_string(report.slot) + " is completed");
            break;
        case CompleterOutcome::broken:
            log_(LogLevel::error, "operation " + std::to_string(report.op) + " in slot " +
                                      std::to_string(report.slot) + " broke: signal " +
                                      std::to_string(report.signal) + " at " +
                                      std::to_string(report.rip));
            hopeless_[report.slot] = sequence_of(report.slot);
            break;
        case CompleterOutcome::no_capture:
            hopeless_[report.slot] = sequence_of(report.slot);
            break;
        case CompleterOutcome::ready:
        case CompleterOutcome::started:
        case CompleterOutcome::nothing_open:
            break;
    }
}

}  // namespace aep
