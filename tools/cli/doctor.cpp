// Purpose: see doctor.hpp.
// Who calls it: cli/commands.cpp.
// Crash rule: reads only.
#include "tools/cli/doctor.hpp"

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "aep-lib/provider/kernel_provider.hpp"
#include "node/completion.hpp"
#include "node/image_copy.hpp"
#include "node/node_error.hpp"
#include "node/unique_fd.hpp"
#include "tools/cli/show.hpp"

namespace aep {
namespace {

using Diagnoses = std::vector<Diagnosis>;

std::string read_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

/// What a provider lacks for the daemon that we would start, a line each.
struct Lacks {
    explicit Lacks(const Json& probe) {
        if (!probe.is_object()) {
            kernel = ebpf = {"the daemon cannot be run: " + daemon_program()};
            return;
        }
        kernel = probe.value("kernel", kernel);
        ebpf = probe.value("ebpf", ebpf);
        capabilities = probe.value("capabilities", capabilities);
        uid = probe.value("uid", uid);
    }

    std::vector<std::string> kernel, ebpf;
    u64 capabilities = 0;
    u32 uid = 0;
};

/// Only one provider is needed.
void look_at_kernel_provider(Diagnoses& all, const Lacks& lacks) {
    const std::vector<std::string>& missing = lacks.kernel;
    if (missing.empty()) {
        all.push_back({"kernel provider", Health::good,
                       fmt::format("nothing is missing, grace period {} ms of processor time "
                                   "(/sys/kernel/mm/aep/grace_period_ms)",
                                   kernel_grace_period_ms()),
                       ""});
    }
    for (const std::string& line : missing)
        all.push_back({"kernel provider", Health::good, "not here", line});
}

void look_at_kernel(Diagnoses& all, const Lacks& lacks) {
    // What completes operations is no fault where it is missing: then they are undone.
    const Health lack = Health::good;
    const Provider best = lacks.kernel.empty() ? Provider::kernel
                          : lacks.ebpf.empty() ? Provider::ebpf
                                               : Provider::rollback;
    all.push_back({"protection", Health::good,
                   fmt::format("provider {}: {}", provider_name(best), protection_by(best)), ""});
    utsname name{};
    uname(&name);
    int major = 0, minor = 0;
    std::sscanf(name.release, "%d.%d", &major, &minor);
    const bool recent = major > 5 || (major == 5 && minor >= 15);
    all.push_back({"kernel", recent ? Health::good : lack, name.release,
                   recent ? "" : "the ebpf provider needs Linux 5.15 or later"});
    const bool btf = access("/sys/kernel/btf/vmlinux", R_OK) == 0;
    all.push_back({"btf", btf ? Health::good : lack, btf ? "/sys/kernel/btf/vmlinux" : "missing",
                   btf ? "" : "ebpf provider: a kernel built with CONFIG_DEBUG_INFO_BTF"});
    struct statfs fs {};
    const bool bpffs =
        statfs("/sys/fs/bpf", &fs) == 0 && static_cast<unsigned long>(fs.f_type) == BPF_FS_MAGIC;
    const bool mounts = lacks.uid == 0;
    all.push_back({"bpffs", bpffs || mounts ? Health::good : lack,
                   bpffs    ? "/sys/fs/bpf"
                   : mounts ? "not mounted; aepd does it"
                            : "not mounted",
                   bpffs || mounts ? "" : "ebpf provider: mount -t bpf bpf /sys/fs/bpf (as root)"});
    constexpr u64 SYS_ADMIN = u64{1} << 21, PERFMON = u64{1} << 38, BPF = u64{1} << 39;
    const u64 have = lacks.capabilities;
    const bool may = (have & SYS_ADMIN) != 0 || ((have & BPF) != 0 && (have & PERFMON) != 0);
    all.push_back({"capabilities", may ? Health::good : lack, fmt::format("aepd has {:#x}", have),
                   may ? ""
                       : "ebpf provider: CAP_BPF and CAP_PERFMON for aepd (as root: setcap "
                         "cap_bpf,cap_perfmon+ep aepd)"});
    look_at_kernel_provider(all, lacks);
    const std::vector<std::string>& missing = lacks.ebpf;
    if (missing.empty()) all.push_back({"ebpf provider", Health::good, "nothing is missing", ""});
    for (const std::string& line : missing)
        all.push_back({"ebpf provider", lack, "not here", line});
    const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
    const UniqueFd closes(pidfd);
    all.push_back({"pidfd", pidfd >= 0 ? Health::good : Health::weak,
                   pidfd >= 0 ? "available" : "missing",
                   pidfd >= 0 ? "" : "deaths are noticed a second later: Linux 5.3 or later"});
}

void look_at_memory(Diagnoses& all, const Target& target) {
    struct statfs fs {};
    const bool tmpfs =
        statfs("/dev/shm", &fs) == 0 && static_cast<unsigned long>(fs.f_type) == TMPFS_MAGIC;
    const u64 free = tmpfs ? static_cast<u64>(fs.f_bavail) * static_cast<u64>(fs.f_bsize) : 0;
    const bool room = free >= 64 * MiB;
    all.push_back({"tmpfs",
                   !tmpfs ? Health::bad
                   : room ? Health::good
                          : Health::weak,
                   tmpfs ? "/dev/shm, " + bytes_text(free) + " free" : "/dev/shm is none",
                   !tmpfs ? "contexts lie there: mount -t tmpfs tmpfs /dev/shm"
                   : room ? ""
                          : "little room: mount -o remount,size=50% /dev/shm (as root)"});
    const std::string huge = read_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
    all.push_back({"huge pages", Health::good, huge.empty() ? "not built in" : huge, ""});
    const std::string overcommit = read_line("/proc/sys/vm/overcommit_memory");
    all.push_back({"overcommit", overcommit == "2" ? Health::weak : Health::good, overcommit,
                   overcommit == "2" ? "2 counts what is mapped as used: set vm.overcommit_memory "
                                       "to 0 or 1"
                                     : ""});
    const std::string group = read_line("/proc/self/cgroup");
    std::string path = group.substr(group.rfind(':') + 1);
    const std::string limit = read_line("/sys/fs/cgroup" + path + "/memory.max");
    all.push_back({"memory cgroup", Health::good,
                   limit.empty()    ? "no limit seen"
                   : limit == "max" ? "no limit"
                                    : bytes_text(std::stoull(limit)),
                   ""});
    const auto ulimit = [&](const char* name, auto which, u64 needed, const char* advice) {
        rlimit l{};
        getrlimit(which, &l);
        const bool enough = l.rlim_cur == RLIM_INFINITY || l.rlim_cur >= needed;
        all.push_back({name, enough ? Health::good : Health::bad,
                       l.rlim_cur == RLIM_INFINITY ? "unlimited" : fmt::to_string(l.rlim_cur),
                       enough ? "" : advice});
    };
    ulimit("ulimit -v", RLIMIT_AS, 32 * TiB,
           "a context is 4 TiB of addresses: ulimit -v unlimited");
    ulimit("ulimit -f", RLIMIT_FSIZE, 5 * TiB, "a context is a sparse file: ulimit -f unlimited");
    ulimit("ulimit -n", RLIMIT_NOFILE, 64, "ulimit -n 1024");
    struct statvfs runtime {};
    const std::string directory = target.paths.runtime_directory();
    const bool there = statvfs(directory.c_str(), &runtime) == 0;
    all.push_back(
        {"socket directory", Health::good, directory + (there ? "" : " (made when needed)"), ""});
}

void look_at_parts(Diagnoses& all) {
    const auto part = [&](const char* name, const std::string& path) {
        const bool there = access(path.c_str(), R_OK) == 0;
        all.push_back({name, there ? Health::good : Health::bad, path,
                       there ? "" : "missing: install or build AEP whole"});
    };
    part("library", library_path());
    part("daemon", daemon_program());
    const std::string image = default_image_path();
    try {
        copy_image(image);
        all.push_back({"image", Health::good, image, ""});
    } catch (const std::exception& error) {
        all.push_back({"image", Health::bad, image, error.what()});
    }
}

void look_at_daemon(Diagnoses& all, const Target& target) {
    const std::string name = "daemon of " + target.paths.name;
    std::optional<Json> answer;
    try {
        answer = ask_daemon(target.paths, {{"command", "status"}}, target.patience_ms);
    } catch (const NodeError& error) {
        all.push_back({name, Health::bad, error.what(), ""});
        return;
    }
    if (!answer || !answer->value("ok", false)) {
        all.push_back(
            {name, Health::good, "does not run", "aep up starts it; aep run does when needed"});
        return;
    }
    const Json status = answer->value("status", Json::object());
    const std::string state = status.value("state", "?"), provider = status.value("provider", "?");
    all.push_back({name, state == "live" ? Health::good : Health::bad,
                   fmt::format("pid {}, {}", status.value("pid", u64{0}), state),
                   state == "live" ? ""
                   : state == "suspect"
                       ? "it has no quorum: nothing is shared with other nodes until it has"
                       : "end its clients, then: aep down && aep up"});
    for (const Json& node : status.value("nodes", Json::array())) {
        if (node.at("state") != "suspect") continue;
        all.push_back(
            {fmt::format("node {}", node.at("node").get<u64>()), Health::weak,
             fmt::format("suspect: silent for {} ms", node.at("silent_ms").get<u64>()),
             fmt::format("it is waited for; once it is cut off: aep node dead {} --generation {}",
                         node.at("node").get<u64>(), node.at("generation").get<u64>())});
    }
    all.push_back({"provider", provider == "none" ? Health::weak : Health::good, provider,
                   provider == "none" ? "a client that is killed inside an operation poisons the "
                                        "context: start its daemon without --provider none"
                                      : ""});
}

}  // namespace

std::vector<Diagnosis> diagnose(const Target& target) {
    Diagnoses all;
    look_at_kernel(all, Lacks(probe_daemon()));
    look_at_memory(all, target);
    look_at_parts(all);
    look_at_daemon(all, target);
    return all;
}

}  // namespace aep
