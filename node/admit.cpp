// Purpose: lets a process in as a client: an entry, locks that live as long as its mappings, an
//          empty domain, and the descriptors it maps everything through.
// Who calls it: the daemon, for the first message of a connection.
// Crash rule: the locks are taken before the entry is written and end with the host's descriptors:
//             an entry without locks is one whose client is dead, and is taken back like any other.
#include <errno.h>
#include <fcntl.h>

#include <cstdio>

#include <image_identity.hpp>
#include "node/believed.hpp"
#include "node/crash_points.hpp"
#include "node/file_lock.hpp"
#include "node/host.hpp"
#include "node/node_error.hpp"
#include "node/process_facts.hpp"
#include "shim/backing/node_lock.hpp"
#include "shim/context/context_file.hpp"

namespace aep {
namespace {

std::string hexadecimal(u64 value) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
    return text;
}

std::string differs(const char* what, const std::string& theirs, const std::string& ours) {
    return std::string("the process has ") + what + " " + theirs + ", the context " + ours +
           ": they come from different builds; install one of them for both";
}

}  // namespace

AnswerMessage make_answer(int error, const std::string& text) {
    AnswerMessage message{};
    message.magic = PROTOCOL_MAGIC;
    message.version = PROTOCOL_VERSION;
    message.error = static_cast<u32>(error);
    text.copy(message.text, sizeof message.text - 1);
    return message;
}

u32 NodeHost::free_client() const {
    for (u32 i = 1; i <= context().max_clients; ++i) {
        const u32 state = client_at(i).state.load(std::memory_order_acquire);
        // A lock without an entry: damage, or a client that never belonged to this host's table.
        if (state == static_cast<u32>(ClientState::free) && !life_held(i) &&
            !somebody_locks(context_fd_.get(), FROZEN_LOCKS_OFFSET + i)) {
            return i;
        }
    }
    return 0;
}

/// The four descriptors of an admission, two of them with the client's locks.
bool NodeHost::open_descriptions(u32 client, Admission& admission) {
    auto& fds = admission.fds;
    fds[FD_LIFE] = describe_again(context_fd_.get(), O_RDWR);
    fds[FD_CONTEXT] = describe_again(context_fd_.get(), O_RDWR);
    fds[FD_IMAGE] = describe_again(image_fd_.get(), O_RDONLY);
    fds[FD_POOL] = describe_again(pool_fd_.get(), O_RDWR);
    for (const UniqueFd& fd : fds) {
        if (!fd) return false;
    }
    const u64 node_byte = static_cast<u64>(NODE_LOCK_OFFSET) + pool_->owner.node;
    return set_file_lock(fds[FD_LIFE].get(), F_WRLCK, CLIENT_LOCKS_OFFSET + client) &&
           set_file_lock(fds[FD_CONTEXT].get(), F_WRLCK, FROZEN_LOCKS_OFFSET + client) &&
           set_file_lock(fds[FD_POOL].get(), F_RDLCK, node_byte);
}

Admission NodeHost::admit(pid_t pid, uid_t uid, const AskMessage& ask) {
    const auto refuse = [&](int error, const std::string& text) {
        say(LogLevel::warning, "refused pid " + std::to_string(pid) + ": " + text);
        Admission refused;
        refused.answer = make_answer(error, text);
        return refused;
    };
    const ContextHeader& h = context();
    if (uid != h.uid) {
        return refuse(EPERM, "the context belongs to user " + std::to_string(h.uid) +
                                 ", the process to user " + std::to_string(uid));
    }
    if (ask.magic != PROTOCOL_MAGIC) return refuse(EPROTO, "the message does not begin as ours do");
    if (ask.version != PROTOCOL_VERSION) {
        return refuse(EPROTO, differs("protocol version", std::to_string(ask.version),
                                      std::to_string(PROTOCOL_VERSION)));
    }
    if (ask.layout_hash != CONTEXT_LAYOUT_HASH) {
        return refuse(EPROTO, differs("layout hash", hexadecimal(ask.layout_hash),
                                      hexadecimal(CONTEXT_LAYOUT_HASH)));
    }
    if (ask.image_hash != h.image_hash) {
        return refuse(
            EPROTO, differs("image hash", hexadecimal(ask.image_hash), hexadecimal(h.image_hash)));
    }
    if (poisoned()) {
        return refuse(ENOTRECOVERABLE, "the context is poisoned: " + poison_text() +
                                           "; end its clients, then: aep down && aep up");
    }
    u32 client = free_client();
    if (client == 0) {  // perhaps some are dead and not yet taken back
        for (u32 i = 1; i <= h.max_clients; ++i) recover(i);
        client = free_client();
    }
    if (client == 0) {
        return refuse(EAGAIN, "all " + std::to_string(h.max_clients) +
                                  " entries of the client table are in use");
    }
    Admission admission;
    if (!open_descriptions(client, admission)) {
        return refuse(errno, "cannot open the context again: " + errno_text(errno));
    }
    AEP_NODE_CRASH_POINT("admit: locks taken");
    ClientEntry& entry = client_at(client);
    entry.pid = static_cast<u32>(pid);
    entry.uid = uid;
    entry.start_time = start_time_of(pid);
    entry.attached_ns = monotonic_ns();
    __builtin_memset(entry.name, 0, sizeof entry.name);
    const std::string name = printable(ask.name, sizeof ask.name);
    name.copy(entry.name, sizeof entry.name - 1);
    entry.limit.store(h.client_limit.load(std::memory_order_relaxed), std::memory_order_relaxed);
    entry.chunks.store(0, std::memory_order_relaxed);
    entry.peak.store(0, std::memory_order_relaxed);
    entry.private_heap.store(ask.private_heap != 0, std::memory_order_relaxed);
    entry.slots.store(0, std::memory_order_relaxed);
    entry.left_open.store(0, std::memory_order_relaxed);
    const u32 generation = entry.generation.load(std::memory_order_relaxed) + 1;
    entry.generation.store(generation, std::memory_order_relaxed);
    // release: who sees the entry in use sees whose it is.
    entry.state.store(static_cast<u32>(ClientState::attaching), std::memory_order_release);
    AEP_NODE_CRASH_POINT("admit: entry written");
    if (ask.private_heap == 0) {
        if (const long opened = open_domain(client); opened < 0) {
            empty_domain(client);
            entry.state.store(static_cast<u32>(ClientState::free), std::memory_order_release);
            return refuse(ENOMEM,
                          "no memory for its heap's tables: the context's tmpfs or memory "
                          "limit is full");
        }
    }
    AEP_NODE_CRASH_POINT("admit: domain made");
    context().attached.fetch_add(1, std::memory_order_relaxed);
    admission.answer = make_answer(0, "");
    admission.answer.client = client;
    admission.answer.generation = generation;
    admission.answer.provider = h.provider.load(std::memory_order_relaxed);
    say(LogLevel::info,
        "client " + std::to_string(client) + ": " + name + ", pid " + std::to_string(pid));
    return admission;
}

void NodeHost::turn_away(Admission& admission, const std::string& why) {
    const u32 client = admission.answer.client;
    say(LogLevel::warning, "refused client " + std::to_string(client) + ": " + why);
    admission = {};
    admission.answer = make_answer(EPERM, why);
    recover(client);  // its locks went with the descriptors
}

void NodeHost::admitted(u32 client) {
    u32 attaching = static_cast<u32>(ClientState::attaching);
    client_at(client).state.compare_exchange_strong(attaching, static_cast<u32>(ClientState::live));
}

AnswerMessage NodeHost::complete_slot(pid_t pid, const AskMessage& ask) {
    if (ask.slot >= context().max_slots) return make_answer(EINVAL, "there is no such slot");
    Slot& slot = slot_at(ask.slot);
    const u32 client = owner_of(slot).client();
    if (client == 0 || facts_of(client).pid != static_cast<u32>(pid)) {
        return make_answer(EPERM, "the slot is not the client's");
    }
    if (is_at_rest(slot)) return make_answer(0, "");
    SlotOutcome outcome = completion_.complete(ask.slot);
    if (outcome == SlotOutcome::no_capture && rolls_back_) {
        // Its heap goes on without what the operation had in hand: that cannot be undone.
        const u32 op = slot.op;
        if (op < static_cast<u32>(Op::count)) {
            return make_answer(ENOTRECOVERABLE,
                               "provider " + std::string(provider_name(provider())) +
                                   " cannot complete an operation of its heap that was left: the "
                                   "process gets no more memory; its end harms nobody");
        }
        outcome = roll_back(ask.slot);
    }
    switch (outcome) {
        case SlotOutcome::completed:
            return make_answer(0, "");
        case SlotOutcome::pending:
            return make_answer(EINPROGRESS, "");
        case SlotOutcome::no_capture:
            break;
    }
    poison(ask.slot);
    return make_answer(ENOTRECOVERABLE, "the context is poisoned: " + poison_text());
}

}  // namespace aep
