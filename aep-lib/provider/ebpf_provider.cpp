// Purpose: see ebpf_provider.hpp.
// Who calls it: see ebpf_provider.hpp.
// Crash rule: see ebpf_provider.hpp.
#include "aep-lib/provider/ebpf_provider.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <filesystem>
#include <vector>

using aep::CaptureConfig;  // the skeleton, made from C, knows no namespaces
#include <capture.skel.h>

namespace aep {
namespace {

// The names of the pins.
constexpr const char* MAPS[] = {"captures", "members", "doorbell"};
constexpr const char* LINKS[] = {"on_signal", "on_exit", "on_exec"};
constexpr const char* IDENTITY = "identity";

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
        const auto open_pin = [&](const char* name) {
            return Descriptor(bpf_obj_get((plan.directory + "/" + name).c_str()));
        };
        const Descriptor identity = open_pin(IDENTITY);
        const u32 zero = 0;
        CaptureIdentity found{};
        if (!identity || bpf_map_lookup_elem(identity.get(), &zero, &found) != 0 ||
            found.build != identity_of(plan)) {
            return false;
        }
        for (const char* link : LINKS) {
            if (!open_pin(link)) return false;
        }
        captures_map_ = open_pin(MAPS[0]);
        members_ = open_pin(MAPS[1]);
        doorbell_ = open_pin(MAPS[2]);
        return captures_map_ && members_ && doorbell_;
    }

    /// Maps what find() opened. An error's text.
    std::string map(const EbpfPlan& plan) {
        bytes_ = round_up(usize{plan.max_slots} * sizeof(CaptureEntry), OS_PAGE_SIZE);
        void* at =
            mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, captures_map_.get(), 0);
        if (at == MAP_FAILED) return failed("eBPF: mapping the captures", errno);
        captures_ = static_cast<CaptureEntry*>(at);
        ring_ = ring_buffer__new(doorbell_.get(), &EbpfProvider::see_record, this, nullptr);
        return ring_ != nullptr ? std::string() : libbpf_failed("opening the doorbell", errno);
    }

    Provider kind() const override { return Provider::ebpf; }

    std::string add_member(u32 tgid, u32 client) override {
        if (bpf_map_update_elem(members_.get(), &tgid, &client, BPF_ANY) == 0) return {};
        return failed("eBPF: watching process " + std::to_string(tgid), errno);
    }

    void remove_member(u32 tgid, u32 client) override {
        u32 found = 0;
        if (bpf_map_lookup_elem(members_.get(), &tgid, &found) == 0 && found == client) {
            bpf_map_delete_elem(members_.get(), &tgid);
        }
    }

    void keep_completer(u32 tgid) override {
        std::vector<u32> members;  // first: a walk goes wrong when what it stands on is deleted
        u32 member = 0;
        const u32* before = nullptr;
        while (bpf_map_get_next_key(members_.get(), before, &member) == 0) {
            members.push_back(member);
            before = &members.back();
        }
        for (const u32 other : members) {
            if (other != tgid) remove_member(other, COMPLETER_CLIENT);
        }
    }

    CaptureEntry* captures() const override { return captures_; }
    int captures_fd() const override { return captures_map_.get(); }
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

    Descriptor captures_map_, members_, doorbell_;
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
    if (const int error = capture_bpf::load(bpf.get()); error != 0) {
        return libbpf_failed("loading the programs", error);
    }
    if (const int error = capture_bpf::attach(bpf.get()); error != 0) {
        return libbpf_failed("attaching the programs", error);
    }
    const u32 zero = 0;
    CaptureIdentity identity{};
    identity.build = identity_of(plan);
    // Cut short it would name another file, which is not there: too long a path is none.
    if (plan.context_file.size() < sizeof identity.context_file) {
        plan.context_file.copy(identity.context_file, sizeof identity.context_file - 1);
    }
    bpf_map* const maps[] = {bpf->maps.captures, bpf->maps.members, bpf->maps.doorbell};
    bpf_link* const links[] = {bpf->links.on_signal, bpf->links.on_exit, bpf->links.on_exec};
    int error = bpf_map__update_elem(bpf->maps.identity, &zero, sizeof zero, &identity,
                                     sizeof identity, BPF_ANY);
    const std::string base = plan.directory + "/";
    for (usize i = 0; i < std::size(maps) && error == 0; ++i) {
        error = bpf_map__pin(maps[i], (base + MAPS[i]).c_str());
    }
    for (usize i = 0; i < std::size(links) && error == 0; ++i) {
        error = bpf_link__pin(links[i], (base + LINKS[i]).c_str());
    }
    if (error == 0) error = bpf_map__pin(bpf->maps.identity, (base + IDENTITY).c_str());
    return error == 0 ? std::string() : libbpf_failed("pinning the programs", error);
}

std::string make_directories(const std::string& path) {
    for (usize end = path.find('/', 1);; end = path.find('/', end + 1)) {
        const std::string part = path.substr(0, end);
        if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) return failed(part, errno);
        if (end == std::string::npos) return {};
    }
}

std::string remove_contents(const std::string& directory) {
    const auto remove = [&](const char* name) {
        const std::string path = directory + "/" + name;
        return unlink(path.c_str()) == 0 || errno == ENOENT ? std::string() : failed(path, errno);
    };
    std::string error = remove(IDENTITY);
    for (const char* name : LINKS) {
        if (error.empty()) error = remove(name);
    }
    for (const char* name : MAPS) {
        if (error.empty()) error = remove(name);
    }
    return error;
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
    if (!provider->find(plan)) {
        std::string error = plan.directory.starts_with(BPFFS) ? ensure_bpffs() : std::string();
        if (error.empty()) error = make_directories(plan.directory);
        if (error.empty()) error = remove_contents(plan.directory);
        if (error.empty()) error = load_and_pin(plan);
        provider = std::make_unique<EbpfProvider>();
        if (error.empty() && !provider->find(plan)) {
            error = "eBPF: what was just pinned in " + plan.directory + " is not there";
        }
        if (!error.empty()) {
            remove_pins(plan.directory);
            return Failure{error};
        }
    }
    if (std::string error = provider->map(plan); !error.empty()) return Failure{error};
    return std::unique_ptr<CaptureProvider>(std::move(provider));
}

std::string remove_pins(const std::string& directory) {
    std::string error = remove_contents(directory);
    if (error.empty() && rmdir(directory.c_str()) != 0 && errno != ENOENT) {
        error = failed(directory, errno);
    }
    return error;
}

u32 remove_orphaned_pins(const std::string& parent) {
    u32 removed = 0;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(parent, ignored)) {
        const std::string directory = entry.path();
        // Pinned last: a folder without it is being filled just now, or will be filled anew.
        const Descriptor identity(bpf_obj_get((directory + "/" + IDENTITY).c_str()));
        const u32 zero = 0;
        CaptureIdentity found{};
        if (!identity || bpf_map_lookup_elem(identity.get(), &zero, &found) != 0) continue;
        found.context_file[sizeof found.context_file - 1] = '\0';
        if (found.context_file[0] != '/' || access(found.context_file, F_OK) == 0 ||
            errno != ENOENT) {
            continue;
        }
        removed += remove_pins(directory).empty();
    }
    return removed;
}

}  // namespace aep
