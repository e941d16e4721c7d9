// Purpose: see host.hpp. Opening, making, mapping and removing a context.
// Who calls it: the daemon, its tests.
// Crash rule: a new context gets its name when it is complete, after its node's entry is taken; a
//             kill in between leaves a dead node, which any other reclaims.
#include "node/host.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>

#include <image_identity.hpp>
#include "dsm-core/sharing/logged.hpp"
#include "node/crash_points.hpp"
#include "node/file_lock.hpp"
#include "node/image_copy.hpp"
#include "node/node_error.hpp"
#include "node/process_facts.hpp"
#include "shim/context/context_file.hpp"

namespace aep {
namespace {

/// How long a dead daemon's lock may outlive it, and how often that is looked at.
constexpr u64 LONGEST_LOCKED_BY_THE_DEAD_NS = 5'000'000'000;
constexpr unsigned LOCK_PAUSE_US = 5'000;

std::string hexadecimal(u64 value) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
    return text;
}

void require(long result, const std::string& what) {
    if (result < 0) {
        throw NodeError(static_cast<int>(-result),
                        what + ": " + errno_text(static_cast<int>(-result)));
    }
}

}  // namespace

NodeHost::NodeHost(NodeOptions options, Completion& completion, Log log)
    : options_(std::move(options)), completion_(completion), log_(std::move(log)) {
    try {
        make_private_directory(options_.paths.directory);
        require_tmpfs(options_.paths.directory);
        take_lock();
        image_fd_ = copy_image(options_.image);
        open_context();
        adopt_state();
    } catch (...) {
        unmap_context();
        throw;
    }
}

NodeHost::~NodeHost() { unmap_context(); }

void NodeHost::take_lock() {
    const std::string path = options_.paths.lock();
    const u64 end = monotonic_ns() + LONGEST_LOCKED_BY_THE_DEAD_NS;
    for (;;) {
        UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
        if (!fd) throw NodeError(errno, "lock " + path + ": " + errno_text(errno));
        if (!set_file_lock(fd.get(), F_WRLCK, 0)) {
            char pid[16] = {};
            if (pread(fd.get(), pid, sizeof pid - 1, 0) <= 0) pid[0] = '?';
            // A completer that a killed daemon had just forked has its lock until it is executed.
            if (is_ending(static_cast<pid_t>(std::atoi(pid))) && monotonic_ns() < end) {
                usleep(LOCK_PAUSE_US);
                continue;
            }
            throw NodeError(EBUSY, "context " + options_.paths.name +
                                       ": another daemon serves it already (pid " + pid + ")");
        }
        struct stat named {
        }, ours{};
        // Whoever took the context down removed the file that we opened.
        if (stat(path.c_str(), &named) != 0 || fstat(fd.get(), &ours) != 0 ||
            named.st_ino != ours.st_ino) {
            make_private_directory(options_.paths.directory);
            continue;
        }
        const std::string pid = std::to_string(getpid());
        if (ftruncate(fd.get(), 0) != 0 || pwrite(fd.get(), pid.data(), pid.size(), 0) < 0) {
            throw NodeError(errno, "lock " + path + ": " + errno_text(errno));
        }
        lock_fd_ = std::move(fd);
        return;
    }
}

void NodeHost::open_context() {
    if (access(options_.paths.context().c_str(), F_OK) == 0 && continue_context()) {
        reopened_ = true;
        return;
    }
    make_context();
}

/// Goes on with the context that is there. False: its node is gone with everybody in it.
bool NodeHost::continue_context() {
    const std::string path = options_.paths.context();
    context_fd_ = UniqueFd(open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    struct stat st {};
    if (!context_fd_ || fstat(context_fd_.get(), &st) != 0) {
        throw NodeError(errno, "context " + path + ": " + errno_text(errno));
    }
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
        throw NodeError(EPERM, "context " + path + ": is not a file of ours with mode 0600");
    }
    ContextConstants header;
    if (const ContextFault fault = verify_context(context_fd_.get(), header)) {
        throw NodeError(EINVAL, "context " + path + ": " + fault.field + " is " +
                                    hexadecimal(fault.found) + ", expected " +
                                    hexadecimal(fault.expected) + ": " + fault.advice);
    }
    const bool lives = context_lives(context_fd_.get());
    if (header.image_hash != BUILT_IMAGE_HASH || header.uid != geteuid()) {
        if (!lives && header.uid == geteuid()) return false;
        throw NodeError(EINVAL, "context " + path + ": image hash is " +
                                    hexadecimal(header.image_hash) + ", expected " +
                                    hexadecimal(BUILT_IMAGE_HASH) +
                                    ": another version made it and clients of it live");
    }
    const std::string pool = pool_path();
    if (!lives && access(pool.c_str(), F_OK) != 0) return false;
    open_pool(pool, header.era_node != era::NO_NODE);
    if (!is_pool_of(header)) {
        if (!lives) return false;
        throw NodeError(ESTALE, "pool " + pool + ": is not the one of context " + path +
                                    ", whose clients live: name that one");
    }
    map_context(header);
    if (!share_entry({context().node.load(), context().node_generation.load()})) {
        if (lives) {
            throw NodeError(ESTALE,
                            "context " + path + ": its node was reclaimed although clients live");
        }
        unmap_heap();
        return false;
    }
    if (go_on_as_node(lives)) return true;
    if (lives) return true;  // the first sweep says that it is fenced
    unmap_heap();
    return false;
}

/// Whether the pool that is open is the one that the context says, and all that it says of it.
bool NodeHost::is_pool_of(const ContextConstants& header) const {
    const Superblock& s = pool_->file.superblock;
    const bool is_node = header.era_node != era::NO_NODE;
    return __builtin_memcmp(s.uuid, header.pool_uuid, sizeof header.pool_uuid) == 0 &&
           header.pool == shape_of(s) && header.pool_address == pool_mapping_base(pool_->file) &&
           (!is_node || header.era_node < s.era.nodes) &&
           header.era_objects == (is_node ? s.era.objects : 0);
}

void NodeHost::make_context() {
    const std::string path = options_.paths.context();
    const std::string pool = pool_path();
    if (!pool_mapped_) open_pool(pool, options_.nodes.node != era::NO_NODE);
    // Whoever finds the name finds the context that is being made, or none.
    if (unlink(path.c_str()) != 0 && errno != ENOENT) {
        throw NodeError(errno, "context " + path + ": " + errno_text(errno));
    }
    context_fd_ =
        UniqueFd(open(options_.paths.directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (!context_fd_) throw NodeError(errno, "context " + path + ": " + errno_text(errno));
    ContextPlan plan;
    plan.name = options_.paths.name.c_str();
    plan.image_hash = BUILT_IMAGE_HASH;
    plan.uid = geteuid();
    plan.max_clients = options_.max_clients;
    plan.max_slots = options_.max_slots;
    plan.pool_address = pool_mapping_base(pool_->file);
    plan.pool = shape_of(pool_->file.superblock);
    __builtin_memcpy(plan.pool_uuid, pool_->file.superblock.uuid, sizeof plan.pool_uuid);
    plan.era_node = options_.nodes.node;
    if (plan.era_node != era::NO_NODE) plan.era_objects = pool_->file.superblock.era.objects;
    require(format_context(context_fd_.get(), plan), "context " + path + ": cannot be made");
    ContextConstants header;
    if (verify_context(context_fd_.get(), header)) {
        throw NodeError(EIO, "context " + path + ": is not what was written");
    }
    map_context(header);
    // Another system sees no locks: there only the one that is the node takes an entry for it.
    const bool of_machines = pool_->file.memory == PoolMemory::device;
    if (of_machines) enter_nodes();
    const Owner owner = take_entry();
    AEP_NODE_CRASH_POINT("open: node taken");
    context().node.store(owner.node);
    context().node_generation.store(owner.generation);
    if (!of_machines) enter_nodes();
    if (membership_ != nullptr) membership_->introduce();
    remember_pool();
    const std::string self = "/proc/self/fd/" + std::to_string(context_fd_.get());
    if (linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) != 0) {
        throw NodeError(errno, "context " + path + ": " + errno_text(errno));
    }
    AEP_NODE_CRASH_POINT("open: context named");
}

std::string NodeHost::pool_path() const {
    char real[PATH_MAX];
    if (!options_.pool.empty()) {
        return realpath(options_.pool.c_str(), real) != nullptr ? real : options_.pool;
    }
    // The link that remember_pool() left, or the context's own pool.
    const std::string own = options_.paths.pool();
    const ssize_t length = readlink(own.c_str(), real, sizeof real - 1);
    return length > 0 ? std::string(real, static_cast<size_t>(length)) : own;
}

/// So that a daemon that is started without --pool finds it.
void NodeHost::remember_pool() {
    const std::string link = options_.paths.pool();
    const std::string target = pool_->file.path;
    struct stat st {};
    const bool there = lstat(link.c_str(), &st) == 0;
    if (target == link) return;
    // A pool of the context's own that is no longer used goes: it holds nothing that anyone has.
    if (there) unlink(link.c_str());
    if (symlink(target.c_str(), link.c_str()) != 0) {
        throw NodeError(errno, "link " + link + ": " + errno_text(errno));
    }
}

void NodeHost::open_pool(const std::string& path, bool as_node) {
    // A pool that is named is one that others name, too: a new one only where that is meant.
    if (path != options_.paths.pool() && options_.pool_bytes == 0 &&
        access(path.c_str(), F_OK) != 0 && errno == ENOENT) {
        throw NodeError(ENOENT, "pool " + path +
                                    ": is not there; name one that is, or say with --pool-size "
                                    "how large a new one is to be");
    }
    pool_ = std::make_unique<PoolHere>();
    pool_fd_ = UniqueFd(open_pool_file(pool_->file, path.c_str(), options_.pool_bytes,
                                       as_node ? PoolUser::node : PoolUser::process));
    if (!pool_fd_) throw NodeError(EINVAL, "pool " + path + ": see the line above");
    require(map_pool_file(pool_->file, pool_fd_.get(), nullptr),
            "pool " + path + ": cannot map it");
    pool_mapped_ = true;
    require(open_era_region(pool_->file), "pool " + path + ": cannot map what nodes share");
    pool_->tables = tables_of(reinterpret_cast<void*>(pool_mapping_base(pool_->file)),
                              shape_of(pool_->file.superblock));
    if (const PoolFault fault = verify_words(pool_->tables, pool_->file.superblock)) {
        throw NodeError(EINVAL, "pool " + path + ": " + fault.field + " at offset " +
                                    std::to_string(fault.offset) + " is " +
                                    hexadecimal(fault.found) + ", expected " +
                                    hexadecimal(fault.expected) + ": " + fault.advice);
    }
    pool_->attached = true;
}

void NodeHost::map_context(const ContextConstants& header) {
    const std::string what = "context " + options_.paths.context() + ": cannot map it";
    const int fd = context_fd_.get();
    constants_fd_ = sealed_copy("constants of the context",
                                {reinterpret_cast<const char*>(&header), sizeof header});
    mapped_ = true;
    require(map_control(fd, header), what);
    require(map_heap_metadata(fd, header), what);
    for (u32 i = 1; i <= header.max_clients; ++i) require(map_domain(fd, i), what);
    cached_since_.assign(header.chunk_count, 0);
}

void NodeHost::unmap_heap() {
    if (!mapped_) return;
    munmap(reinterpret_cast<void*>(CONTROL_BASE), CONTROL_WINDOW);
    munmap(reinterpret_cast<void*>(META_BASE), META_WINDOW);
    munmap(reinterpret_cast<void*>(DESCS_BASE), DESCS_WINDOW);
    mapped_ = false;
}

void NodeHost::unmap_context() {
    unmap_heap();
    if (pool_mapped_) {
        unmap_pool_file(pool_->file, nullptr,
                        pool_mapping_base(pool_->file) + pool_->file.superblock.file_bytes);
        pool_mapped_ = false;
    }
}

/// Whether a client, or somebody with a frozen heap of one, has the context mapped.
bool NodeHost::context_lives(int fd) const {
    return somebody_locks(fd, CLIENT_LOCKS_OFFSET, MAX_DOMAINS) ||
           somebody_locks(fd, FROZEN_LOCKS_OFFSET, MAX_DOMAINS);
}

bool NodeHost::somebody_lives() const { return context_lives(context_fd_.get()); }

/// What was left over by an earlier daemon, and what this one wants different.
void NodeHost::adopt_state() {
    ContextHeader& h = context();
    log_reader_.skip(log_ring());
    if (options_.context_limit) h.context_limit.store(*options_.context_limit);
    if (options_.client_limit) h.client_limit.store(*options_.client_limit);
    // Not all of a sweep: the provider is started first. Chunks on their way to the pool arrive.
    for (u32 c = 0; c < h.chunk_count; ++c) {
        if (chunk_owner(c).load(std::memory_order_acquire) == OWNER_RETURNING) return_chunk(c);
    }
    count_cached();
    if (poisoned()) say(LogLevel::error, "the context is poisoned: " + poison_text());
}

WatchedContext NodeHost::watched() const {
    return {context_fd_.get(), image_fd_.get(), pool_fd_.get(), constants_fd_.get(),
            options_.paths.directory};
}

void NodeHost::set_provider(Provider provider) {
    context().provider.store(static_cast<u32>(provider));
    provider_ = provider;
    rolls_back_ = provider != Provider::none && undo_log_works;
}

void NodeHost::remove() {
    // While nobody lives all is in the cache, and the entry is given back clean.
    if (!somebody_lives()) {
        for (u32 i = 1; i <= context().max_clients; ++i) recover(i);
        return_cached(0, true);
        leave_nodes();
        // What is left has objects in it that other nodes hold. Other machines do not see that we
        // are at it, now that we are no node any more: on a device the next of them does it.
        if (!fenced() && pool_->file.memory != PoolMemory::device) {
            reclaim_node(pool_->file, pool_->tables, pool_fd_.get(), pool_->owner.node, 0);
        }
    }
    const ContextPaths& paths = options_.paths;
    unlink(paths.context().c_str());
    unlink(paths.pool().c_str());  // its own pool, or the link to another
    unlink(paths.lock().c_str());
    rmdir(paths.directory.c_str());
    say(LogLevel::info, "context " + paths.name + " is removed");
}

}  // namespace aep
