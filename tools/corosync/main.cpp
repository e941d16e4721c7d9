// Purpose: aep-corosync: what corosync knows, told to the node daemon that has started it. A program of its own, so that aepd
//          needs none of corosync's libraries, and a call of them that waits holds up no client.
// Who calls it: aepd --membership corosync (tools/daemon/corosync_plug.cpp).
// Crash rule: it holds nothing. When it ends, the daemon counts as one without quorum; when the daemon ends, so does it, and
//             corosync tells the others of the group.
#include <corosync/cmap.h>
#include <corosync/cpg.h>
#include <corosync/quorum.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tools/corosync/view.hpp"

namespace aep {
namespace {

constexpr int EXIT_NO_COROSYNC = 4;

ViewMessage view{};
bool changed = true;
u64 answered_ms = 0;  // when corosync has answered last

[[noreturn]] void end(const std::string& why) {
    send(VIEW_SOCKET, why.data(), why.size(), MSG_NOSIGNAL);  // it is the daemon that has a log
    std::exit(EXIT_NO_COROSYNC);
}

[[noreturn]] void fail(const char* what, cs_error_t error) {
    end(std::string(what) + ": " + cs_strerror(error) +
        (error == CS_ERR_ACCESS ? " (corosync lets root and the users of /etc/corosync/uidgid.d in)"
                                : ""));
}

void require(cs_error_t error, const char* what) {
    if (error != CS_OK) fail(what, error);
}

u64 now_ms() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<u64>(now.tv_sec) * 1000 + static_cast<u64>(now.tv_nsec) / 1'000'000;
}

u64 bit_of(u32 id) { return id >= 1 && id <= MOST_HOSTS ? u64{1} << (id - 1) : 0; }

void on_quorum(quorum_handle_t, uint32_t quorate, uint64_t, uint32_t count, uint32_t* ids) {
    view.quorate = quorate != 0;
    view.present = 0;
    for (uint32_t i = 0; i < count; ++i) view.present |= bit_of(ids[i]);
    changed = true;
}

void on_members(cpg_handle_t, const cpg_name*, const cpg_address* members, size_t count,
                const cpg_address*, size_t, const cpg_address*, size_t) {
    view.members = 0;
    answered_ms = now_ms();
    for (size_t i = 0; i < count; ++i) view.members |= bit_of(members[i].nodeid);
    view.joined = (view.members & bit_of(view.own)) != 0;
    changed = true;
}

/// Our own message has gone round: corosync is at work.
void on_message(cpg_handle_t, const cpg_name*, uint32_t node, uint32_t pid, void*, size_t) {
    if (node == view.own && pid == static_cast<uint32_t>(getpid())) answered_ms = now_ms();
}

/// A text of the configuration; empty: it is not there.
std::string text_at(cmap_handle_t map, const std::string& key) {
    char* text = nullptr;
    if (cmap_get_string(map, key.c_str(), &text) != CS_OK) return "";
    std::string copied = text;
    std::free(text);
    return copied;
}

template <size_t N>
void set_text(char (&to)[N], const std::string& text) {
    std::memset(to, 0, N);
    text.copy(to, N - 1);
}

/// What does not change while corosync runs. Only now: a question that meets a change of its membership may wait for ever.
void read_configuration(cmap_handle_t map) {
    uint32_t value = 0;
    require(cmap_get_uint32(map, "runtime.config.totem.token", &value), "the token timeout");
    view.token_ms = value;
    require(cmap_get_uint32(map, "runtime.config.totem.consensus", &value),
            "the consensus timeout");
    view.consensus_ms = value;
    set_text(view.cluster, text_at(map, "totem.cluster_name"));
    for (u32 i = 0; i < MOST_HOSTS; ++i) {
        const std::string node = "nodelist.node." + std::to_string(i) + ".";
        if (cmap_get_uint32(map, (node + "nodeid").c_str(), &value) != CS_OK) continue;
        if (value < 1 || value > MOST_HOSTS) continue;
        const std::string name = text_at(map, node + "name");
        set_text(view.hosts[value - 1], name.empty() ? text_at(map, node + "ring0_addr") : name);
    }
}

/// The group that the daemon names. False: the daemon has ended.
bool join(cpg_handle_t group) {
    GroupMessage wanted{};
    const ssize_t got = recv(VIEW_SOCKET, &wanted, sizeof wanted, 0);
    if (got <= 0) return false;
    if (got != sizeof wanted || wanted.magic != VIEW_MAGIC) end("a message that is none");
    cpg_name name{};
    for (const u8 byte : wanted.uuid) {
        std::snprintf(name.value + name.length, 3, "%02x", byte);
        name.length += 2;
    }
    cs_error_t joined;
    do {
        joined = cpg_join(group, &name);
        if (joined == CS_ERR_TRY_AGAIN) poll(nullptr, 0, 50);
    } while (joined == CS_ERR_TRY_AGAIN);
    require(joined, "the pool's process group");
    return true;
}

/// A message to all of the group, ourselves among them. While corosync's membership changes there is no sending.
void ask(cpg_handle_t group) {
    char word[] = "?";
    iovec part{word, sizeof word};
    const cs_error_t sent = cpg_mcast_joined(group, CPG_TYPE_AGREED, &part, 1);
    if (sent != CS_ERR_TRY_AGAIN) require(sent, "the pool's process group");
}

int serve() {
    uint32_t type = 0;
    cmap_handle_t map{};
    cpg_handle_t group{};
    quorum_handle_t quorum{};
    quorum_callbacks_t quorum_calls{on_quorum};
    cpg_callbacks_t group_calls{on_message, on_members};
    require(cmap_initialize(&map), "corosync");
    require(cpg_initialize(&group, &group_calls), "corosync's process groups");
    require(quorum_initialize(&quorum, &quorum_calls, &type), "corosync's quorum");
    if (type == QUORUM_FREE) {
        end("corosync has no quorum provider: set quorum { provider: corosync_votequorum } in "
            "corosync.conf");
    }
    view.magic = VIEW_MAGIC;
    require(cpg_local_get(group, &view.own), "the id of this node");
    require(quorum_trackstart(quorum, CS_TRACK_CHANGES | CS_TRACK_CURRENT), "corosync's quorum");
    int group_fd = -1, quorum_fd = -1;
    require(cpg_fd_get(group, &group_fd), "corosync's process groups");
    require(quorum_fd_get(quorum, &quorum_fd), "corosync's quorum");
    require(quorum_dispatch(quorum, CS_DISPATCH_ALL), "corosync's quorum");
    read_configuration(map);
    cmap_finalize(map);
    for (u64 said = 0;;) {
        if (changed || now_ms() - said >= VIEW_PERIOD_MS) {
            if (view.joined != 0 && !changed) ask(group);
            view.silent_ms = now_ms() - answered_ms;
            if (send(VIEW_SOCKET, &view, sizeof view, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
                errno != EAGAIN)
                return 0;  // the daemon has ended
            changed = false;
            said = now_ms();
        }
        pollfd fds[] = {{VIEW_SOCKET, POLLIN, 0}, {group_fd, POLLIN, 0}, {quorum_fd, POLLIN, 0}};
        poll(fds, 3, static_cast<int>(VIEW_PERIOD_MS));
        if (fds[0].revents != 0 && !join(group)) return 0;
        if (fds[1].revents != 0) require(cpg_dispatch(group, CS_DISPATCH_ALL), "corosync");
        if (fds[2].revents != 0) require(quorum_dispatch(quorum, CS_DISPATCH_ALL), "corosync");
    }
}

}  // namespace
}  // namespace aep

int main() { return aep::serve(); }
