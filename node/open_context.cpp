// Purpose: see open_context.hpp.
// Who calls it: see open_context.hpp.
// Crash rule: see open_context.hpp.
#include "node/open_context.hpp"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include <image_identity.hpp>
#include "node/crash_points.hpp"
#include "node/node_entry.hpp"
#include "node/node_error.hpp"
#include "shim/context/context_file.hpp"

namespace aep {
namespace {

constexpr u32 USUAL_CLIENTS = 1023;

class Opening {
  public:
    Opening(const NodeOptions& options, NodePool& pool, PoolMember& member, ServedContext& served)
        : options_(options),
          pool_(pool),
          member_(member),
          served_(served),
          path_(options.paths.context()) {}

    bool go_on();
    void make();

  private:
    /// Whatever is wrong with the context itself.
    template <class... Parts>
    [[noreturn]] void fail(int error, fmt::format_string<Parts...> text, Parts&&... parts) const {
        throw NodeError(error, fmt::format("context {}: {}", path_,
                                           fmt::format(text, std::forward<Parts>(parts)...)));
    }
    [[noreturn]] void fail() const { fail(errno, "{}", errno_text(errno)); }

    ContextConstants verified() const;
    bool is_of_this_build(const ContextConstants& constants, bool lives) const;
    bool open_its_pool(const ContextConstants& constants, bool lives);
    bool go_on_as_node(bool lives);
    ContextPlan plan() const;
    void become_node();
    void give_name();
    void map(const ContextConstants& constants) {
        served_.map(constants, fmt::format("context {}: cannot map it", path_));
    }

    const NodeOptions& options_;
    NodePool& pool_;
    PoolMember& member_;
    ServedContext& served_;
    const std::string path_;
};

/// The constants of the file that is there.
ContextConstants Opening::verified() const {
    struct stat st {};
    if (served_.fd() < 0 || fstat(served_.fd(), &st) != 0) fail();
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0)
        fail(EPERM, "is not a file of ours with mode 0600");
    ContextConstants constants;
    if (const ContextFault fault = verify_context(served_.fd(), constants)) {
        fail(EINVAL, "{} is {:#x}, expected {:#x}: {}", fault.field, fault.found, fault.expected,
             fault.advice);
    }
    return constants;
}

/// False: it is not, and nobody lives in it.
bool Opening::is_of_this_build(const ContextConstants& constants, bool lives) const {
    if (constants.image_hash == BUILT_IMAGE_HASH && constants.uid == geteuid()) return true;
    if (!lives && constants.uid == geteuid()) return false;
    fail(EINVAL,
         "image hash is {:#x}, expected {:#x}: another version made it and clients of it live",
         constants.image_hash, BUILT_IMAGE_HASH);
}

/// False: it is gone, or the one to be used is another, and nobody lives.
bool Opening::open_its_pool(const ContextConstants& constants, bool lives) {
    const std::string pool = NodePool::path_by(options_);
    if (!lives && access(pool.c_str(), F_OK) != 0) return false;
    pool_.open(options_, pool, constants.era_node != era::NO_NODE);
    if (pool_.is_of(constants)) return true;
    if (!lives) return false;
    throw NodeError(ESTALE,
                    fmt::format("pool {}: is not the one of context {}, whose clients live: "
                                "name that one",
                                pool, path_));
}

/// False: its node was reclaimed, or others declared it dead, and nobody lives.
bool Opening::go_on_as_node(bool lives) {
    const Owner owner{context().node.load(), context().node_generation.load()};
    if (!share_entry(pool_, options_.paths.name, owner)) {
        if (lives) fail(ESTALE, "its node was reclaimed although clients live");
        return false;
    }
    return member_.go_on(lives) || lives;  // the first sweep says that it is fenced
}

/// Goes on with the context that is there. False: its node is gone with everybody in it.
bool Opening::go_on() {
    served_.take_file(UniqueFd(open(path_.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW)));
    const ContextConstants constants = verified();
    const bool lives = served_.somebody_lives();
    if (!is_of_this_build(constants, lives) || !open_its_pool(constants, lives)) return false;
    map(constants);
    if (go_on_as_node(lives)) return true;
    served_.unmap();
    return false;
}

ContextPlan Opening::plan() const {
    const Superblock& s = pool_.file().superblock;
    ContextPlan plan;
    plan.name = options_.paths.name.c_str();
    plan.image_hash = BUILT_IMAGE_HASH;
    plan.uid = geteuid();
    plan.max_slots = options_.max_slots;
    plan.pool_address = pool_mapping_base(pool_.file());
    plan.pool = shape_of(s);
    __builtin_memcpy(plan.pool_uuid, s.uuid, sizeof plan.pool_uuid);
    plan.era_node = member_.wanted();
    if (plan.era_node != era::NO_NODE) plan.era_objects = s.era.objects;
    // A node's clients stand in the pool by their numbers, and none is number 0.
    const u32 most = plan.era_node != era::NO_NODE ? s.era.clients - 1 : USUAL_CLIENTS;
    plan.max_clients =
        options_.max_clients != 0 ? options_.max_clients : std::min(USUAL_CLIENTS, most);
    return plan;
}

void Opening::become_node() {
    // Another system sees no locks: there only the one that is the node takes an entry for it.
    const bool of_machines = pool_.file().memory == PoolMemory::device;
    if (of_machines) member_.enter();
    const Owner owner = take_entry(pool_, options_.paths.name, member_.membership());
    AEP_NODE_CRASH_POINT("open: node taken");
    context().node.store(owner.node);
    context().node_generation.store(owner.generation);
    if (!of_machines) member_.enter();
    if (member_.membership() != nullptr) member_.membership()->introduce();
}

void Opening::give_name() {
    const std::string self = fmt::format("/proc/self/fd/{}", served_.fd());
    if (linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) != 0) fail();
    AEP_NODE_CRASH_POINT("open: context named");
}

void Opening::make() {
    if (!pool_.is_open())
        pool_.open(options_, NodePool::path_by(options_), member_.wanted() != era::NO_NODE);
    // Whoever finds the name finds the context that is being made, or none.
    if (unlink(path_.c_str()) != 0 && errno != ENOENT) fail();
    served_.take_file(
        UniqueFd(open(options_.paths.directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)));
    if (served_.fd() < 0) fail();
    require(format_context(served_.fd(), plan()), fmt::format("context {}: cannot be made", path_));
    ContextConstants constants;
    if (verify_context(served_.fd(), constants)) fail(EIO, "is not what was written");
    map(constants);
    become_node();
    pool_.leave_link(options_.paths);
    give_name();
}

}  // namespace

bool open_context(const NodeOptions& options, NodePool& pool, PoolMember& member,
                  ServedContext& served) {
    Opening opening(options, pool, member, served);
    if (access(options.paths.context().c_str(), F_OK) == 0 && opening.go_on()) return true;
    opening.make();
    return false;
}

}  // namespace aep
