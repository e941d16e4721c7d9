// Purpose: see client_admission.hpp.
// Who calls it: see client_admission.hpp.
// Crash rule: see client_admission.hpp.
#include "node/client_admission.hpp"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <image_identity.hpp>
#include "dsm-core/sharing/format.hpp"
#include "node/answer.hpp"
#include "node/believed.hpp"
#include "node/context_state.hpp"
#include "node/crash_points.hpp"
#include "node/draining.hpp"
#include "node/node_error.hpp"
#include "node/process_facts.hpp"
#include "shim/backing/node_lock.hpp"
#include "shim/context/context_file.hpp"

namespace aep {
namespace {

ClientAdmission::Objection differs(const char* what, const std::string& theirs,
                                   const std::string& ours) {
    return {EPROTO, fmt::format("the process has {} {}, the context {}: they come from different "
                                "builds; install one of them for both",
                                what, theirs, ours)};
}

/// Writes the entry of a client that has its locks. Its generation.
u32 write_entry(u32 client, pid_t pid, uid_t uid, const AskMessage& ask) {
    ClientEntry& entry = client_at(client);
    entry.pid = static_cast<u32>(pid);
    entry.uid = uid;
    entry.start_time = start_time_of(pid);
    entry.attached_ns = monotonic_ns();
    __builtin_memset(entry.name, 0, sizeof entry.name);
    printable(ask.name, sizeof ask.name).copy(entry.name, sizeof entry.name - 1);
    entry.limit.store(context().client_limit.load(std::memory_order_relaxed),
                      std::memory_order_relaxed);
    entry.chunks.store(0, std::memory_order_relaxed);
    entry.peak.store(0, std::memory_order_relaxed);
    entry.private_heap.store(ask.private_heap != 0, std::memory_order_relaxed);
    entry.slots.store(0, std::memory_order_relaxed);
    entry.left_open.store(0, std::memory_order_relaxed);
    const u32 generation = entry.generation.load(std::memory_order_relaxed) + 1;
    entry.generation.store(generation, std::memory_order_relaxed);
    // release: who sees the entry in use sees whose it is.
    entry.state.store(static_cast<u32>(ClientState::attaching), std::memory_order_release);
    return generation;
}

}  // namespace

u32 ClientAdmission::free_client() const {
    for (u32 i = 1; i <= context().max_clients; ++i) {
        const u32 state = client_at(i).state.load(std::memory_order_acquire);
        // A lock without an entry: damage, or a client that never belonged to this host's table.
        if (state == static_cast<u32>(ClientState::free) && !served_.lives(i) &&
            !served_.has_descendants(i))
            return i;
    }
    return 0;
}

/// A free entry; perhaps of one that is dead and not yet taken back. 0: there is none.
u32 ClientAdmission::find_room() {
    if (const u32 client = free_client(); client != 0) return client;
    Sweep done;
    recovery_.recover_all(done);
    return free_client();
}

/// The four descriptors of an admission, two of them with the client's locks.
bool ClientAdmission::open_descriptions(u32 client, Admission& admission) {
    auto& fds = admission.fds;
    fds[FD_LIFE] = describe_again(served_.fd(), O_RDWR);
    fds[FD_CONTEXT] = describe_again(served_.fd(), O_RDWR);
    fds[FD_IMAGE] = describe_again(image_fd_, O_RDONLY);
    fds[FD_POOL] = describe_again(pool_.fd(), O_RDWR);
    for (const UniqueFd& fd : fds)
        if (!fd) return false;
    const u64 node_byte = NODE_LOCK_OFFSET + pool_.owner().node;
    return set_file_lock(fds[FD_LIFE].get(), F_WRLCK, CLIENT_LOCKS_OFFSET + client) &&
           set_file_lock(fds[FD_CONTEXT].get(), F_WRLCK, FROZEN_LOCKS_OFFSET + client) &&
           set_file_lock(fds[FD_POOL].get(), F_RDLCK, node_byte);
}

/// Why the process cannot be let in, whatever there is room for.
std::optional<ClientAdmission::Objection> ClientAdmission::objection(uid_t uid,
                                                                     const AskMessage& ask) const {
    const ContextHeader& h = context();
    if (uid != h.uid) {
        return Objection{
            EPERM,
            fmt::format("the context belongs to user {}, the process to user {}", h.uid, uid)};
    }
    if (ask.magic != PROTOCOL_MAGIC)
        return Objection{EPROTO, "the message does not begin as ours do"};
    if (ask.version != PROTOCOL_VERSION) {
        return differs("protocol version", fmt::to_string(ask.version),
                       fmt::to_string(PROTOCOL_VERSION));
    }
    if (ask.layout_hash != CONTEXT_LAYOUT_HASH) {
        return differs("layout hash", fmt::format("{:#x}", ask.layout_hash),
                       fmt::format("{:#x}", CONTEXT_LAYOUT_HASH));
    }
    if (ask.image_hash != h.image_hash) {
        return differs("image hash", fmt::format("{:#x}", ask.image_hash),
                       fmt::format("{:#x}", h.image_hash));
    }
    if (shares_between_nodes() && draining_of(era_tables(), h.era_node).wished) {
        return Objection{ESHUTDOWN,
                         fmt::format("the context's node is to leave the pool and takes no new "
                                     "programs; if it is to stay: aep node drain {} --cancel",
                                     h.era_node + 1)};
    }
    if (is_poisoned()) {
        return Objection{ENOTRECOVERABLE,
                         fmt::format("the context is poisoned: {}; end its clients, "
                                     "then: aep down && aep up",
                                     poison_text())};
    }
    return {};
}

Admission ClientAdmission::admit(pid_t pid, uid_t uid, const AskMessage& ask) {
    const auto refuse = [&](const Objection& why) {
        log_(LogLevel::warning, fmt::format("refused pid {}: {}", pid, why.text));
        Admission refused;
        refused.answer = make_answer(why.error, why.text);
        return refused;
    };
    if (const std::optional<Objection> why = objection(uid, ask)) return refuse(*why);
    const u32 client = find_room();
    if (client == 0) {
        return refuse(
            {EAGAIN, fmt::format("all {} entries of the client table are in use: end clients, "
                                 "or make a context with more (aepd --max-clients)",
                                 context().max_clients)});
    }
    Admission admission;
    if (!open_descriptions(client, admission)) {
        const int error = errno;
        return refuse({error, fmt::format("cannot open the context again: {}", errno_text(error))});
    }
    AEP_NODE_CRASH_POINT("admit: locks taken");
    const u32 generation = write_entry(client, pid, uid, ask);
    AEP_NODE_CRASH_POINT("admit: entry written");
    if (ask.private_heap == 0 && open_domain(client) < 0) {
        recovery_.empty_domain(client);
        client_at(client).state.store(static_cast<u32>(ClientState::free),
                                      std::memory_order_release);
        return refuse({ENOMEM,
                       "no memory for its heap's tables: the context's tmpfs or memory limit is "
                       "full: free some (aep status, df /dev/shm)"});
    }
    AEP_NODE_CRASH_POINT("admit: domain made");
    ContextHeader& h = context();
    h.attached.fetch_add(1, std::memory_order_relaxed);
    admission.answer = make_answer(0, "");
    admission.answer.client = client;
    admission.answer.generation = generation;
    admission.answer.provider = h.provider.load(std::memory_order_relaxed);
    log_(LogLevel::info,
         fmt::format("client {}: {}, pid {}", client, printable(ask.name, sizeof ask.name), pid));
    return admission;
}

void ClientAdmission::turn_away(Admission& admission, const std::string& why) {
    const u32 client = admission.answer.client;
    log_(LogLevel::warning, fmt::format("refused client {}: {}", client, why));
    admission = {};
    admission.answer = make_answer(EPERM, why);
    recovery_.recover(client);  // its locks went with the descriptors
}

void ClientAdmission::admitted(u32 client) {
    u32 attaching = static_cast<u32>(ClientState::attaching);
    client_at(client).state.compare_exchange_strong(attaching, static_cast<u32>(ClientState::live));
}

}  // namespace aep
