// Purpose: what the tests of the node host share: a directory of its own for a context, client
//          processes that attach to a host of this process and wait to be killed.
// Who calls it: tests/node/*.cpp, inside in_child(): a host has fixed addresses.
// Crash rule: clients are children and end with their test; the directory is removed by the parent.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <functional>
#include <memory>

#include "dsm-core/context/node_ops.hpp"
#include "node/host.hpp"
#include "node/image_copy.hpp"
#include "node/node_error.hpp"
#include "tests/node/client.hpp"
#include "tests/unit/in_child.hpp"
#include "tests/unit/pool_fixture.hpp"

namespace aep::test {

inline NodeOptions options_in(const Directory& directory, u64 pool_bytes = 64 * MiB) {
    NodeOptions options;
    options.paths =
        context_paths("tested", directory.path() + "/context", directory.path() + "/socket");
    options.image = AEP_TEST_IMAGE;
    options.pool_bytes = pool_bytes;
    options.max_clients = 8;
    options.max_slots = 16;
    options.verify = true;
    return options;
}

/// What the host said, for tests that look for a word.
inline std::string said;
inline Log test_log() {
    return [](LogLevel, const std::string& text) { said += text + "\n"; };
}

inline bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

inline NoCompletion no_completion;

/// A completion that needs time: what was begun is performed when `finish` says so.
class Slow final : public Completion {
  public:
    bool ready = true;  // else nothing can begin
    bool finish = false;
    SlotOutcome complete(u32 slot) override {
        if (!is_open(slot_at(slot))) return SlotOutcome::completed;
        if (!finish) return SlotOutcome::pending;
        slot_at(slot).sequence.fetch_sub(1);
        return inner_.begin_operation(slot);
    }
    SlotOutcome begin_operation(u32 slot) override {
        if (ready) slot_at(slot).sequence.fetch_add(1);
        return SlotOutcome::pending;
    }
    bool performs_here() const override { return false; }

  private:
    NoCompletion inner_;
};

/// A host with all that it refers to.
struct Host : NodeHost {
    explicit Host(const NodeOptions& options, Completion& completion = no_completion)
        : NodeHost(options, completion, test_log()) {}
};

/// body(host), in a child, with a directory of its own.
template <class F>
void with_host(F&& body) {
    const Directory directory;
    in_child([&] {
        Host host(options_in(directory));
        body(host);
    });
}

/// Takes chunks as the node has them: no domain has heard of them, they are clean.
inline void claim_bare(Client& client, u32 count) {
    must(client.ask(op::ClaimChunks{.count = count}).status == Status::ok, "claim");
}
/// One of those that client `client` has. chunk_count: none.
inline u32 bare_chunk_of(u32 client) {
    u32 c = 0;
    while (c < context().chunk_count &&
           (chunk_owner(c).load() != client || chunk_desc(ChunkIndex{c})->holder.load() != 0))
        ++c;
    return c;
}
/// Has the host return a bare chunk for its dead client.
inline Performed return_for(NodeHost& host, u32 client, u32 chunk, op::ReturnChunk::Reply& reply) {
    return host.perform_for(client, op::ReturnChunk{.chunk = ChunkIndex{chunk}}, reply);
}

/// Waits until a process is dead as far as the kernel's locks go, without reaping it.
inline void wait_until_dead(pid_t pid) {
    const UniqueFd fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    pollfd poll_fd{fd.get(), POLLIN, 0};
    while (fd && poll(&poll_fd, 1, -1) < 0 && errno == EINTR) {
    }
}

/// A process that waits to be let in, does its body's work and then waits for its end. It may be
/// let in by any process that has its socket.
class ClientProcess {
  public:
    using Body = std::function<void(Client&)>;

    explicit ClientProcess(Body body = [](Client&) {}) {
        int ends[2];
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
        pid_ = fork();
        if (pid_ == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            work(ends[1], body);
        }
        close(ends[1]);
        socket_ = UniqueFd(ends[0]);
    }
    ~ClientProcess() { end(); }
    ClientProcess(const ClientProcess&) = delete;
    ClientProcess& operator=(const ClientProcess&) = delete;

    pid_t pid() const { return pid_; }

    /// Lets it in. The answer's error is 0, or nothing is sent.
    AnswerMessage attach(NodeHost& host, const AskMessage& ask = good_ask()) {
        Admission admission = host.admit(pid_, geteuid(), ask);
        if (admission.answer.error != 0) return admission.answer;
        iovec part{&admission.answer, sizeof admission.answer};
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * ATTACH_FDS)] = {};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * ATTACH_FDS);
        int numbers[ATTACH_FDS];
        for (u32 i = 0; i < ATTACH_FDS; ++i) numbers[i] = admission.fds[i].get();
        std::memcpy(CMSG_DATA(header), numbers, sizeof numbers);
        EXPECT_EQ(sendmsg(socket_.get(), &message, MSG_NOSIGNAL),
                  static_cast<ssize_t>(sizeof admission.answer));
        host.admitted(admission.answer.client);
        return admission.answer;
    }
    /// Until its body is done.
    void wait_ready() {
        char byte = 0;
        EXPECT_EQ(recv(socket_.get(), &byte, 1, 0), 1) << "a client failed";
        EXPECT_EQ(byte, 'r');
    }
    u32 attach_and_wait(NodeHost& host) {
        const AnswerMessage answer = attach(host);
        EXPECT_EQ(answer.error, 0u) << answer.text;
        if (answer.error == 0) wait_ready();
        return answer.client;
    }
    /// Kills it; on return its locks are gone. Not reaped: whoever forked it does that.
    void kill_it() {
        ::kill(pid_, SIGKILL);
        wait_until_dead(pid_);
    }
    void end() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }

  private:
    [[noreturn]] static void work(int socket, const Body& body) {
        // None of the host's descriptors: they would keep its locks.
        dup2(socket, 3);
        close_range(4, ~0u, 0);
        AnswerMessage answer{};
        UniqueFd fds[ATTACH_FDS];
        if (!receive_answer(3, answer, fds)) _exit(0);
        try {
            Client client(answer, fds);
            for (UniqueFd& fd : fds) fd.reset();
            body(client);
        } catch (const std::exception& error) {
            std::fprintf(stderr, "client: %s\n", error.what());
            _exit(1);
        }
        if (send(3, "r", 1, MSG_NOSIGNAL) != 1) _exit(1);
        char byte;
        while (recv(3, &byte, 1, 0) > 0) {
        }
        for (;;) pause();
    }

    pid_t pid_ = -1;
    UniqueFd socket_;
};

inline std::string all_of(const std::vector<Finding>& findings) {
    std::string text;
    for (const Finding& f : findings)
        text += fmt::format("{}: {} ({}, expected {})\n", f.where, f.what, f.found, f.expected);
    return text;
}

/// Leaves `chunks` chunks with data in the cache.
inline u32 fill_cache(Host& host, u32 chunks) {
    ClientProcess process([chunks](Client& client) {
        const u32 first = client.claim(chunks);
        must(first != raw(NO_CHUNK), "claim");
        void* at = reinterpret_cast<void*>(chunk_address(ChunkIndex{first}));
        mprotect(at, chunks * CHUNK_SIZE, PROT_READ | PROT_WRITE);
        std::memset(at, 0x5a, chunks * CHUNK_SIZE);
    });
    const u32 client = process.attach_and_wait(host);
    process.kill_it();
    return host.recover(client).chunks;
}

/// The chunks that are due now; one call does what it has time for.
inline u32 give_back(Host& host, u64 now_ms) {
    u32 returned = 0;
    while (const u32 some = host.return_cached(now_ms, false)) returned += some;
    return returned;
}

/// Asks for `count` chunks from `first` on; whether it got them.
inline bool claim_at(Client& client, u32 first, u32 count) {
    const auto reply = client.ask(op::ClaimChunks{.count = count, .at = ChunkIndex{first}});
    must(reply.status == Status::ok || reply.status == Status::miss, "claim at a place");
    must(reply.status == Status::miss || raw(reply.first) == first, "the place");
    return reply.status == Status::ok;
}

inline u32 free_chunks(const NodeHost& host) {
    u32 free = 0;
    for (u32 i = 0; i < host.pool().tables.chunk_count; ++i)
        free += host.pool().tables.chunk(i).bits == FREE_CHUNK.bits;
    return free;
}

/// All is back in the pool, and nothing is wrong.
inline void expect_all_back(NodeHost& host) {
    host.sweep(0);
    host.return_cached(0, true);
    EXPECT_EQ(free_chunks(host), host.pool().tables.chunk_count);
    EXPECT_EQ(bytes_of_clients(), 0u);
    EXPECT_EQ(context().chunks_cached.load(), 0u);
    EXPECT_EQ(all_of(host.check()), "");
    EXPECT_EQ(host.broken_domains(), 0u) << said;
}

}  // namespace aep::test
