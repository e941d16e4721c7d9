// A context for tests: makes a pool and a context in a directory, answers clients, and takes back
// what dead ones had. The smallest thing that speaks the daemon's protocol: one thread, provider
// none, no commands, no completion.
//
//   client_host DIRECTORY IMAGE [pool-size=64M] [clients=N] [slots=N] [client-limit=SIZE]
//               [context-limit=SIZE] [image-hash=wrong|unasked]
//
// Listens on DIRECTORY/socket and writes "ready" to fd 1 then. Ends with the process that started
// it, or by SIGTERM. Run by tests/client and by tests/conformance/run.sh (mode joined).
#include <errno.h>
#include <linux/falloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <image_identity.hpp>
#include <string>
#include <vector>

#include "dsm-core/context/node_ops.hpp"
#include "shim/backing/node_lock.hpp"
#include "shim/backing/pool_file.hpp"
#include "shim/context/context_file.hpp"
#include "shim/context/daemon_protocol.hpp"
#include "shim/sys/environment.hpp"

using namespace aep;

namespace {

struct Plan {
    std::string directory;
    std::string image;
    usize pool_bytes = 64 * MiB;
    ContextPlan context;
    bool asks_for_image = true;
};

Plan plan;
PoolFile pool_file;
int context_fd = -1;
int pool_fd = -1;
u32 node = 0;

[[noreturn]] void die(const char* what) {
    std::fprintf(stderr, "client_host: %s: %s\n", what, std::strerror(errno));
    std::exit(1);
}

std::string path(const char* name) { return plan.directory + "/" + name; }

bool lock_byte(int fd, short type, u64 at) {
    struct flock lock {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = static_cast<off_t>(at);
    lock.l_len = 1;
    return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

int open_again(const char* name) {
    const int fd = open(path(name).c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) die(name);
    return fd;
}

/// The node that all clients' chunks belong to in the pool: alive while somebody holds the lock.
void become_node(const PoolTables& tables) {
    while (try_node_lock(pool_fd, node) != NodeLock::taken) ++node;
    PoolNodeEntry& entry = tables.nodes[node];
    const u32 generation = tables.node(node).generation() + 1;
    entry.pid = static_cast<u32>(getpid());
    std::memcpy(entry.name, "client_host", 12);
    entry.word.store(PoolNodeWord::make(PoolNodeState::live, generation).bits);
    if (!lock_byte(pool_fd, F_RDLCK, NODE_LOCK_OFFSET + node)) die("node lock");
    context().node = node;
    context().node_generation = generation;
}

void make_context() {
    pool_fd = open_pool_file(pool_file, path("pool").c_str(), {.bytes = plan.pool_bytes},
                             PoolUser::process);
    if (pool_fd < 0 || sys::failed(map_pool_file(pool_file, pool_fd, nullptr))) die("pool");
    void* base = reinterpret_cast<void*>(pool_mapping_base(pool_file));
    const PoolTables tables = tables_of(base, shape_of(pool_file.superblock));
    plan.context.name = "test";
    plan.context.uid = geteuid();
    plan.context.pool_address = pool_mapping_base(pool_file);
    plan.context.pool = shape_of(pool_file.superblock);
    std::memcpy(plan.context.pool_uuid, pool_file.superblock.uuid, 16);
    context_fd = open(path("context").c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (context_fd < 0) die("context");
    ContextHeader header;
    if (const long made = format_context(context_fd, plan.context); sys::failed(made)) {
        errno = static_cast<int>(-made);
        die("format");
    }
    if (verify_context(context_fd, header)) die("verify");
    if (sys::failed(map_control(context_fd, header))) die("map");
    become_node(tables);
}

void punch(int fd, u64 at, u64 bytes) {
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at),
              static_cast<off_t>(bytes));
}

void clear_metadata(u32 chunk) {
    for (const MetaArray& array : SLICE_ARRAYS) {
        const usize bytes = array.stride * SLICES_PER_CHUNK;
        punch(context_fd, context_offset_of_meta(array.base + bytes * chunk), bytes);
    }
    punch(context_fd, context_offset_of_meta(CHUNK_DESCS.base + CHUNK_DESCS.stride * chunk),
          CHUNK_DESCS.stride);
}

/// Clients whose connection is over: some may still be mapped by a child.
std::vector<u32> leaving;

/// Takes back what a client had, if nobody maps its heap any more.
/// False: not yet.
bool recover(u32 index) {
    bool done = false;
    const int fd = open_again("context");
    ClientEntry& entry = client_at(index);
    if (lock_byte(fd, F_WRLCK, CLIENT_LOCKS_OFFSET + index) &&
        lock_byte(fd, F_WRLCK, FROZEN_LOCKS_OFFSET + index)) {
        for (u32 i = 0; i < context().max_slots; ++i) {
            Slot& slot = slot_at(i);
            const SlotOwner owner{slot.owner.load()};
            if (owner.bits == 0 || owner.client() != index) continue;
            // An operation on the domain alone dies with it.
            if ((slot.sequence.load() & 1) != 0 && !is_heap_operation(slot.op)) {
                context().poison_op = slot.op;
                context().poison_pid = entry.pid;
                context().state = static_cast<u32>(ContextState::poisoned);
            }
            slot.sequence.fetch_add(slot.sequence.load() & 1);
            slot.owner.store(0);
        }
        for (u32 c = 0; c < context().chunk_count; ++c) {
            if ((chunk_owner(c).load() & ~OWNER_CLAIMING) != index) continue;
            clear_metadata(c);
            reclaim_chunk(index, c);
        }
        punch(context_fd, context_offset_of_meta(reinterpret_cast<uptr>(&domain_at(index))),
              DOMAIN_STRIDE);
        entry.chunks = 0;
        entry.slots = 0;
        entry.private_heap = 0;
        ++context().recovered;
        entry.state = static_cast<u32>(ClientState::free);
        done = true;
    }
    close(fd);
    return done;
}

void recover_leaving() { std::erase_if(leaving, recover); }

u32 free_client() {
    for (int round = 0; round < 2; ++round) {
        for (u32 i = 1; i <= context().max_clients; ++i)
            if (client_at(i).state.load() == static_cast<u32>(ClientState::free)) return i;
        recover_leaving();
    }
    return 0;
}

AnswerMessage refusal(int error, const char* text) {
    AnswerMessage answer{};
    answer.error = static_cast<u32>(error);
    std::snprintf(answer.text, sizeof answer.text, "%s", text);
    return answer;
}

AnswerMessage attach(int connection, const AskMessage& ask, std::vector<int>& fds) {
    const bool same_image = !plan.asks_for_image || ask.image_hash == context().image_hash;
    if (!same_image || ask.layout_hash != CONTEXT_LAYOUT_HASH)
        return refusal(ENOEXEC, "it runs another build's image: restart its daemon");
    const u32 index = free_client();
    if (index == 0) return refusal(EAGAIN, "its client table is full");
    ucred peer{};
    socklen_t bytes = sizeof peer;
    getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &bytes);
    ClientEntry& entry = client_at(index);
    entry.generation.fetch_add(1);
    entry.pid = static_cast<u32>(peer.pid);
    entry.uid = peer.uid;
    std::memcpy(entry.name, ask.name, sizeof entry.name);
    entry.limit = context().client_limit.load();
    entry.peak = 0;
    entry.private_heap = ask.private_heap;
    entry.state = static_cast<u32>(ClientState::live);
    ++context().attached;
    fds = {open_again("context"), open_again("context"), open(plan.image.c_str(), O_RDONLY),
           open_again("pool")};
    if (!lock_byte(fds[FD_LIFE], F_WRLCK, CLIENT_LOCKS_OFFSET + index) ||
        !lock_byte(fds[FD_CONTEXT], F_WRLCK, FROZEN_LOCKS_OFFSET + index) ||
        !lock_byte(fds[FD_POOL], F_RDLCK, NODE_LOCK_OFFSET + node))
        die("client locks");
    AnswerMessage answer{};
    answer.client = index;
    answer.generation = entry.generation.load();
    answer.provider = static_cast<u32>(Provider::none);
    return answer;
}

void send_answer(int connection, AnswerMessage answer, const std::vector<int>& fds) {
    answer.magic = PROTOCOL_MAGIC;
    answer.version = PROTOCOL_VERSION;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * ATTACH_FDS)] = {};
    iovec part = {&answer, sizeof answer};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (!fds.empty()) {
        header.msg_control = control;
        header.msg_controllen = sizeof control;
        cmsghdr* rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
        std::memcpy(CMSG_DATA(rights), fds.data(), sizeof(int) * fds.size());
    }
    sendmsg(connection, &header, MSG_NOSIGNAL);
    for (const int fd : fds) close(fd);
}

struct Connection {
    int fd;
    u32 client;
};

/// False: the connection is over.
bool serve(Connection& from) {
    const int connection = from.fd;
    AskMessage ask{};
    if (recv(connection, &ask, sizeof ask, 0) != sizeof ask || ask.magic != PROTOCOL_MAGIC)
        return false;
    std::vector<int> fds;
    if (ask.ask == static_cast<u32>(Ask::attach)) {
        const AnswerMessage answer = attach(connection, ask, fds);
        from.client = answer.client;
        send_answer(connection, answer, fds);
    } else {
        send_answer(connection, refusal(EOPNOTSUPP, "no provider completes operations here"), {});
    }
    return true;
}

void serve_all() {
    const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof address.sun_path, "%s", path("socket").c_str());
    if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        listen(listener, 64) != 0)
        die("socket");
    if (write(1, "ready\n", 6) != 6) die("stdout");
    std::vector<Connection> connections;
    for (;;) {
        std::vector<pollfd> polled = {{listener, POLLIN, 0}};
        for (const Connection& c : connections) polled.push_back({c.fd, POLLIN, 0});
        // A child of a client that is gone says nothing when it ends.
        poll(polled.data(), polled.size(), leaving.empty() ? -1 : 5);
        for (usize i = connections.size(); i-- > 0;) {
            if (polled[i + 1].revents == 0 || serve(connections[i])) continue;
            close(connections[i].fd);
            if (connections[i].client != 0) leaving.push_back(connections[i].client);
            connections.erase(connections.begin() + static_cast<long>(i));
        }
        recover_leaving();
        if (polled[0].revents != 0) {
            const int connection = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
            if (connection >= 0) connections.push_back({connection, 0});
        }
    }
}

void read_option(const std::string& option) {
    const auto is = [&](const char* name) {
        return option.compare(0, std::strlen(name), name) == 0;
    };
    const char* value = std::strchr(option.c_str(), '=');
    usize number = 0;
    if (value == nullptr) die("option");
    if (is("image-hash=")) {
        plan.context.image_hash = 1;
        plan.asks_for_image = std::strcmp(value + 1, "unasked") != 0;
        return;
    }
    if (!parse_size(value + 1, number)) die("option");
    if (is("pool-size=")) plan.pool_bytes = number;
    if (is("clients=")) plan.context.max_clients = static_cast<u32>(number);
    if (is("slots=")) plan.context.max_slots = static_cast<u32>(number);
    if (is("client-limit=")) plan.context.client_limit = number;
    if (is("context-limit=")) plan.context.context_limit = number;
}

}  // namespace

int main(int argc, char** argv) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (argc < 3) die("arguments");
    plan.directory = argv[1];
    plan.image = argv[2];
    plan.context.image_hash = BUILT_IMAGE_HASH;
    plan.context.max_clients = 63;
    plan.context.max_slots = 512;
    for (int i = 3; i < argc; ++i) read_option(argv[i]);
    make_context();
    serve_all();
}
