// Purpose: see corosync_plug.hpp.
// Who calls it: see corosync_plug.hpp.
// Crash rule: see corosync_plug.hpp.
#include "tools/daemon/corosync_plug.hpp"

#include <errno.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <csignal>
#include <cstring>

#include "aep-lib/completer/helper.hpp"
#include "node/believed.hpp"
#include "node/node_error.hpp"
#include "node/paths.hpp"
#include "node/process_facts.hpp"

namespace aep {
namespace {

/// A helper that is silent for so long is none. That corosync is, it says; while its membership changes, corosync is.
constexpr u64 HEARD_MS = 5 * VIEW_PERIOD_MS;
constexpr u64 FIRST_VIEW_MS = 10'000;
constexpr u64 RESTART_MS = 2000;  // from one start of the helper to the next

static_assert(VIEW_SOCKET == FIRST_HELPER_FD);

u64 bit_of(u32 node) { return node < MOST_HOSTS ? u64{1} << node : 0; }

std::string helper_program() {
    return companion({"aep-corosync", "../lib/aep/aep-corosync"}, "/usr/lib/aep/aep-corosync");
}

}  // namespace

CorosyncEngine::CorosyncEngine(const FenceOptions& fence, Log log)
    : log_(log), fence_(fence, std::move(log)), events_(epoll_create1(EPOLL_CLOEXEC)) {
    if (!events_) throw NodeError(errno, "corosync: a loop for it: " + errno_text(errno));
    if (access(helper_program().c_str(), X_OK) != 0) {
        throw NodeError(ENOENT,
                        fmt::format("corosync: {} is missing: install the package aep-corosync",
                                    helper_program()));
    }
    start_helper();
    wait_for_view("its view of the cluster", false);
}

CorosyncEngine::~CorosyncEngine() { end_helper(); }

void CorosyncEngine::start_helper() {
    end_helper();
    int ends[2];
    started_ms_ = monotonic_ms();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        log_(LogLevel::error, "corosync: a socket for it: " + errno_text(errno));
        return;
    }
    socket_ = UniqueFd(ends[0]);
    const UniqueFd theirs(ends[1]);
    epoll_event event{};
    event.events = EPOLLIN;
    epoll_ctl(events_.get(), EPOLL_CTL_ADD, socket_.get(), &event);
    const std::string program = helper_program();
    const long started = aep::start_helper(
        {.program = program, .words = {program}, .files = {theirs.get()}, .no_terminal = true});
    if (started < 0) {
        log_(LogLevel::error,
             fmt::format("{}: {}", program, errno_text(static_cast<int>(-started))));
        return;
    }
    helper_ = static_cast<pid_t>(started);
    if (has_group_) join_group();
}

void CorosyncEngine::end_helper() {
    socket_.reset();  // it leaves the loop with its description
    view_ = {};
    heard_ms_ = 0;
    if (helper_ == 0) return;
    kill(helper_, SIGKILL);
    waitpid(helper_, nullptr, 0);
    helper_ = 0;
}

void CorosyncEngine::join_group() {
    if (send(socket_.get(), &group_, sizeof group_, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_(LogLevel::error, "corosync: the helper hears nothing: " + errno_text(errno));
}

/// What the helper has said, the last of it. A helper that has ended is started anew.
void CorosyncEngine::on_event() {
    for (;;) {
        ViewMessage said{};
        const ssize_t got = recv(socket_.get(), &said, sizeof said, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (got == sizeof said && said.magic == VIEW_MAGIC) {
            view_ = said;
            heard_ms_ = monotonic_ms();
            continue;
        }
        if (got > 0 && static_cast<usize>(got) < LONGEST_WHY) {
            log_(LogLevel::error, "corosync: " + printable(reinterpret_cast<const char*>(&said),
                                                           static_cast<usize>(got)));
        }
        // Without it there is no quorum; has_quorum() starts the next one.
        end_helper();
        return;
    }
}

/// Waits for the first view, or for one that says that the group is joined. Throws NodeError.
void CorosyncEngine::wait_for_view(const char* what, bool joined) {
    const u64 end = monotonic_ms() + FIRST_VIEW_MS;
    while (heard_ms_ == 0 || (joined && view_.joined == 0)) {
        pollfd waits{events_.get(), POLLIN, 0};
        poll(&waits, 1, 100);
        if (waits.revents != 0) on_event();
        if (helper_ == 0 || monotonic_ms() >= end) {
            throw NodeError(EAGAIN,
                            fmt::format("corosync: {} is not to be had: does corosync run here? "
                                        "(corosync-quorumtool -s; what it says stands above)",
                                        what));
        }
    }
}

u32 CorosyncEngine::own_node() const {
    if (view_.own >= 1 && view_.own <= MOST_HOSTS) return view_.own - 1;
    throw NodeError(
        EINVAL,
        fmt::format("corosync: its id of this node is {}, expected 1 to {}: give nodes such ids in "
                    "corosync.conf (nodelist.node.nodeid)",
                    view_.own, MOST_HOSTS));
}

void CorosyncEngine::begin(const Superblock& pool) {
    lease_ms_ = pool.terms.lease_ms;
    const std::string cluster = pool.terms.cluster;
    const std::string here = printable(view_.cluster, sizeof view_.cluster);
    if (!cluster.empty() && cluster != here) {
        throw NodeError(EINVAL, fmt::format("corosync: this machine is of cluster {}, and the pool "
                                            "of {}: is it the right pool?",
                                            here, cluster));
    }
    // How long a machine may take to see that it has no quorum, and to stop its clients.
    sees_ms_ = view_.token_ms + view_.consensus_ms + HEARD_MS + VIEW_PERIOD_MS;
    const u64 stops = sees_ms_ + lease_ms_ / 6;
    if (lease_ms_ < stops) {
        throw NodeError(
            EINVAL,
            fmt::format("corosync: its token ({} ms) and consensus ({} ms) timeouts "
                        "are too long for the pool's "
                        "lease of {} ms: others would act before a machine that is out "
                        "of sight has stopped; "
                        "shorten them, or make the pool with --lease-ms {} or more",
                        view_.token_ms, view_.consensus_ms, lease_ms_, sees_ms_ * 6 / 5 + 1));
    }
    group_.magic = VIEW_MAGIC;
    std::memcpy(group_.uuid, pool.uuid, sizeof group_.uuid);
    has_group_ = true;
    join_group();
    wait_for_view("the pool's process group", true);
}

bool CorosyncEngine::has_quorum() {
    const u64 now = monotonic_ms();
    if (helper_ != 0 && now - std::max(started_ms_, heard_ms_) >= FIRST_VIEW_MS) end_helper();
    if (helper_ == 0 && now - started_ms_ >= RESTART_MS) start_helper();
    return heard_ms_ != 0 && now - heard_ms_ < HEARD_MS && view_.quorate == 1 &&
           view_.joined == 1 && view_.silent_ms < view_.token_ms + view_.consensus_ms + HEARD_MS;
}

NodeStanding CorosyncEngine::judge(const OtherNode& other, u64 now_ms) {
    const NodeStanding seen = other.silent ? NodeStanding::suspect : NodeStanding::live;
    if (other.node >= MOST_HOSTS) return seen;
    Lost& lost = lost_[other.node];
    // Only what is lost all the time, in the same life, to a partition with quorum has had the time to stop.
    const bool quorum = has_quorum();
    const bool in_sight = (view_.present & bit_of(other.node)) != 0;
    if (lost.generation != other.generation) lost = {other.generation, now_ms, 0};
    if (!quorum || in_sight) lost.since_ms = 0;
    if (!quorum) return seen;
    // What is under way is ended, also if the machine is seen again: it may be on its way down.
    const bool begun = fence_.is_under_way(other.node, other.generation);
    if (in_sight && !begun) return seen;
    if (lost.since_ms == 0) lost.since_ms = now_ms;
    if (!begun && now_ms - lost.since_ms < lease_ms_) return NodeStanding::suspect;
    const bool mine =
        std::countr_zero(view_.members & view_.present) == static_cast<int>(own_node());
    if (!mine && !begun) return NodeStanding::suspect;
    const std::string host = printable(view_.hosts[other.node], sizeof view_.hosts[other.node]);
    // A machine that pacemaker fences for reasons of its own is out of sight some time after that. What was before this life of
    // the node counts for nothing.
    const u64 counts_ms = std::min(now_ms - lost.known_ms, now_ms - lost.since_ms + sees_ms_);
    return fence_.has_cut_off(other, host.empty() ? other.name : host, counts_ms, now_ms)
               ? NodeStanding::fenced
               : NodeStanding::suspect;
}

}  // namespace aep
