// Purpose: see ebpf_provider.hpp.
// Who calls it: see ebpf_provider.hpp.
// Crash rule: see ebpf_provider.hpp.
#include "aep-lib/provider/ebpf_provider.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fmt/format.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdarg>
#include <cstdio>
#include <vector>

// The skeleton, made from C, knows no namespaces. NOLINTNEXTLINE(misc-unused-using-decls): it uses it.
using aep::CaptureConfig;
#include <capture.skel.h>

namespace aep {
namespace {

std::string failed(const std::string& what, int error) {
    return what + ": " + strerror(error < 0 ? -error : error);
}

/// Owns a descriptor.
class Descriptor {
  public:
    explicit Descriptor(int fd = -1) : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~Descriptor() {
        if (fd_ >= 0) close(fd_);
    }
    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }

  private:
    int fd_;
};

std::string& last_warning() {
    static std::string text;
    return text;
}

/// libbpf's own words on why something failed; the last of them is the cause.
int keep_warning(libbpf_print_level level, const char* format, va_list arguments) {
    if (level != LIBBPF_WARN) return 0;
    char line[256];
    vsnprintf(line, sizeof line, format, arguments);
    last_warning() = line;
    while (!last_warning().empty() && last_warning().back() == '\n') last_warning().pop_back();
    return 0;
}

std::string libbpf_failed(const char* what, int error) {
    std::string text = failed(std::string("eBPF: ") + what, error);
    if (!last_warning().empty()) text += " (" + last_warning() + ")";
    return text;
}

CaptureConfig config_of(const EbpfPlan& plan) {
    CaptureConfig c{};
    c.text_begin = plan.text_begin;
    c.text_end = plan.text_end;
    c.stacks = STACKS_BASE;
    c.stack_stride = STACK_STRIDE;
    c.slots = CONTROL_BASE + plan.slots_offset;
    c.slot_stride = SLOT_STRIDE;
    c.sequence_at = offsetof(Slot, sequence);
    c.max_slots = plan.max_slots;
    struct stat status {};
    if (stat("/proc/self/ns/pid", &status) == 0) c.pid_space = static_cast<u32>(status.st_ino);
    return c;
}

/// Which build of the programs this is, and with which constants.
u64 identity_of(const EbpfPlan& plan) {
    usize bytes = 0;
    const void* elf = capture_bpf::elf_bytes(&bytes);
    const CaptureConfig config = config_of(plan);
    u64 hash = fnv1a(static_cast<const u8*>(elf), bytes);
    hash = fnv1a(reinterpret_cast<const u8*>(&config), sizeof config, hash);
    hash = fnv1a(reinterpret_cast<const u8*>(&plan.max_members), sizeof plan.max_members, hash);
    return fnv1a(plan.context_uuid, sizeof plan.context_uuid, hash);
}

class EbpfProvider final : public CaptureProvider {
  public:
    ~EbpfProvider() override {
        ring_buffer__free(ring_);
        if (captures_ != nullptr) munmap(captures_, bytes_);
    }

    /// Opens what is pinned. False: it is not there, or of another build or plan.
    bool find(const EbpfPlan& plan) {
        CaptureIdentity found{};
        if (!read_identity(plan.directory, found) || found.build != identity_of(plan)) return false;
        directory_ = plan.directory;
        for (usize i = 0; i < PINS; ++i) {
            pins_[i] = Descriptor(bpf_obj_get(path_of(i).c_str()));
            if (!pins_[i]) return false;
        }
        return true;
    }
    void call_continued() { continued_ = true; }

    /// Maps what find() opened. An error's text.
    std::string map(const EbpfPlan& plan) {
        bytes_ = round_up(usize{plan.max_slots} * sizeof(CaptureEntry), OS_PAGE_SIZE);
        void* at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, captures_fd(), 0);
        if (at == MAP_FAILED) return failed("eBPF: mapping the captures", errno);
        captures_ = static_cast<CaptureEntry*>(at);
        ring_ = ring_buffer__new(pins_[DOORBELL].get(), &EbpfProvider::see_record, this, nullptr);
        return ring_ != nullptr ? std::string() : libbpf_failed("opening the doorbell", errno);
    }

    Provider kind() const override { return Provider::ebpf; }
    bool continued() const override { return continued_; }

    std::string look_after() override {
        std::string gone;
        for (usize i = 0; i < PINS; ++i)
            if (!is_pinned(i)) gone += (gone.empty() ? "" : ", ") + std::string(NAMES[i]);
        if (gone.empty()) return {};
        // They are open here: nothing was missed.
        std::string error = make_pins_directory(directory_);
        for (usize i = 0; i < PINS && error.empty(); ++i) {
            if (is_pinned(i)) continue;
            unlink(path_of(i).c_str());
            if (bpf_obj_pin(pins_[i].get(), path_of(i).c_str()) != 0)
                error = failed("eBPF: pinning " + path_of(i), errno);
        }
        return "somebody has removed from " + directory_ + ": " + gone + "; " +
               (error.empty() ? "pinned again" : "captures end with this daemon: " + error);
    }

    std::string add_member(u32 tgid, u32 client) override {
        if (bpf_map_update_elem(members(), &tgid, &client, BPF_ANY) == 0) return {};
        return failed(fmt::format("eBPF: watching process {}", tgid), errno);
    }

    void remove_member(u32 tgid, u32 client) override {
        u32 found = 0;
        if (bpf_map_lookup_elem(members(), &tgid, &found) == 0 && found == client)
            bpf_map_delete_elem(members(), &tgid);
    }

    void keep_completer(u32 tgid) override {
        std::vector<u32> all;  // first: a walk goes wrong when what it stands on is deleted
        u32 member = 0;
        const u32* before = nullptr;
        while (bpf_map_get_next_key(members(), before, &member) == 0) {
            all.push_back(member);
            before = &all.back();
        }
        for (const u32 other : all)
            if (other != tgid) remove_member(other, COMPLETER_CLIENT);
    }

    CaptureEntry* captures() const override { return captures_; }
    int captures_fd() const override { return pins_[CAPTURES].get(); }
    int doorbell_fd() const override { return ring_buffer__epoll_fd(ring_); }

    void drain(const std::function<void(const DoorbellRecord&)>& see) override {
        see_ = &see;
        ring_buffer__consume(ring_);
        see_ = nullptr;
    }

  private:
    static int see_record(void* self, void* data, usize bytes) {
        DoorbellRecord record;
        if (bytes < sizeof record) return 0;
        memcpy(&record, data, sizeof record);
        (*static_cast<EbpfProvider*>(self)->see_)(record);
        return 0;
    }

    // The identity is the last: whoever finds it finds all.
    static constexpr const char* NAMES[] = {PINNED_MAPS[0],  PINNED_MAPS[1],  PINNED_MAPS[2],
                                            PINNED_LINKS[0], PINNED_LINKS[1], PINNED_LINKS[2],
                                            PINNED_IDENTITY};
    static constexpr usize PINS = std::size(NAMES);
    enum { CAPTURES = 0, MEMBERS = 1, DOORBELL = 2 };

    std::string path_of(usize pin) const { return directory_ + "/" + NAMES[pin]; }
    int members() const { return pins_[MEMBERS].get(); }

    /// Whether the very object that is open here lies there.
    bool is_pinned(usize pin) const {
        const Descriptor found(bpf_obj_get(path_of(pin).c_str()));
        return found && id_of(found.get(), pin) == id_of(pins_[pin].get(), pin);
    }
    /// Of a map or a link. 0: it is none.
    static u32 id_of(int fd, usize pin) {
        const bool link = pin >= std::size(PINNED_MAPS) && pin + 1 < PINS;
        bpf_map_info map{};
        bpf_link_info of_link{};
        u32 bytes = link ? sizeof of_link : sizeof map;
        void* info = link ? static_cast<void*>(&of_link) : static_cast<void*>(&map);
        if (bpf_obj_get_info_by_fd(fd, info, &bytes) != 0) return 0;
        return link ? of_link.id : map.id;
    }

    std::string directory_;
    std::array<Descriptor, PINS> pins_;  // open: removing a pin ends nothing
    bool continued_ = false;
    CaptureEntry* captures_ = nullptr;
    usize bytes_ = 0;
    ring_buffer* ring_ = nullptr;
    const std::function<void(const DoorbellRecord&)>* see_ = nullptr;
};

struct Unload {
    void operator()(capture_bpf* loaded) const { capture_bpf::destroy(loaded); }
};

/// Loads, attaches and pins everything. An error's text.
std::string load_and_pin(const EbpfPlan& plan) {
    const std::unique_ptr<capture_bpf, Unload> bpf(capture_bpf::open());
    if (!bpf) return libbpf_failed("opening the programs", errno);
    bpf->rodata->config = config_of(plan);
    bpf_map__set_max_entries(bpf->maps.captures, plan.max_slots);
    bpf_map__set_max_entries(bpf->maps.members, plan.max_members);
    if (const int error = capture_bpf::load(bpf.get()); error != 0)
        return libbpf_failed("loading the programs", error);
    if (const int error = capture_bpf::attach(bpf.get()); error != 0)
        return libbpf_failed("attaching the programs", error);
    const u32 zero = 0;
    CaptureIdentity identity{};
    identity.build = identity_of(plan);
    identity.pid_space = config_of(plan).pid_space;
    memcpy(identity.context_uuid, plan.context_uuid, sizeof identity.context_uuid);
    identify_context(plan.context_file, identity);
    bpf_map* const maps[] = {bpf->maps.captures, bpf->maps.members, bpf->maps.doorbell};
    bpf_link* const links[] = {bpf->links.on_signal, bpf->links.on_exit, bpf->links.on_exec};
    int error = bpf_map__update_elem(bpf->maps.identity, &zero, sizeof zero, &identity,
                                     sizeof identity, BPF_ANY);
    const std::string base = plan.directory + "/";
    for (usize i = 0; i < std::size(maps) && error == 0; ++i)
        error = bpf_map__pin(maps[i], (base + PINNED_MAPS[i]).c_str());
    for (usize i = 0; i < std::size(links) && error == 0; ++i)
        error = bpf_link__pin(links[i], (base + PINNED_LINKS[i]).c_str());
    if (error == 0) error = bpf_map__pin(bpf->maps.identity, (base + PINNED_IDENTITY).c_str());
    return error == 0 ? std::string() : libbpf_failed("pinning the programs", error);
}

/// Why what is pinned for another pid namespace must stay; empty: it need not.
std::string fault_of_pins(const EbpfPlan& plan) {
    CaptureIdentity found{};
    const bool foreign =
        plan.has_clients && read_identity(plan.directory, found) &&
        memcmp(found.context_uuid, plan.context_uuid, sizeof plan.context_uuid) == 0 &&
        found.pid_space != config_of(plan).pid_space;
    return foreign ? "eBPF: the context has clients that were let in by a daemon in another pid "
                     "namespace, whose numbers its programs go by: start the daemon there"
                   : "";
}

}  // namespace

EbpfPlan ebpf_plan(std::string directory, const ContextHeader& header, const ImageInfo& image,
                   std::string context_file) {
    EbpfPlan plan;
    plan.directory = std::move(directory);
    plan.max_slots = header.max_slots;
    plan.max_members = header.max_clients + 8;  // completers, and processes that are just dying
    plan.slots_offset = header.slots_offset;
    plan.text_begin = image.text_begin;
    plan.text_end = image.text_end;
    memcpy(plan.context_uuid, header.uuid, sizeof plan.context_uuid);
    plan.context_file = std::move(context_file);
    return plan;
}

Outcome<std::unique_ptr<CaptureProvider>> open_ebpf_provider(const EbpfPlan& plan) {
    libbpf_set_print(keep_warning);
    last_warning().clear();
    auto provider = std::make_unique<EbpfProvider>();
    std::string error = ensure_bpffs();
    if (error.empty()) error = make_pins_directory(plan.directory);
    if (error.empty()) error = fault_of_pins(plan);
    if (!error.empty()) return Failure{error};
    if (provider->find(plan)) {
        provider->call_continued();
    } else {
        error = remove_contents(plan.directory);
        if (error.empty()) error = load_and_pin(plan);
        provider = std::make_unique<EbpfProvider>();
        if (error.empty() && !provider->find(plan))
            error = "eBPF: what was just pinned in " + plan.directory + " is not there";
        if (!error.empty()) {
            remove_pins(plan.directory);
            return Failure{error};
        }
    }
    error = provider->map(plan);
    if (!error.empty()) return Failure{error};
    return std::unique_ptr<CaptureProvider>(std::move(provider));
}

}  // namespace aep
