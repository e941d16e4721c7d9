// Purpose: see node.hpp.
// Who calls it: every test in this folder.
#include "tests/provider/node.hpp"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <image_identity.hpp>

#include "aep-lib/completer/world.hpp"
#include "dsm-core/pool/superblock.hpp"

namespace aep::test {
namespace {

int nameless_file() {
    const int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) ADD_FAILURE() << "a file on /dev/shm: " << strerror(errno);
    return fd;
}

/// A pool whose chunks are all free, with one node.
int make_pool(u64 bytes, Superblock& superblock) {
    const int fd = nameless_file();
    const u8 uuid[16] = {7};
    make_superblock(superblock, bytes, uuid);
    EXPECT_EQ(ftruncate(fd, static_cast<off_t>(bytes)), 0);
    EXPECT_EQ(pwrite(fd, &superblock, sizeof superblock, 0),
              static_cast<ssize_t>(sizeof superblock));
    return fd;
}

}  // namespace

Node::Node(With with, u64 pool_bytes) : owner_(getpid()) {
    Superblock superblock;
    pool_ = make_pool(pool_bytes, superblock);
    context_ = nameless_file();
    image_ = open(AEP_IMAGE_PATH, O_RDONLY | O_CLOEXEC);
    image = *read_image_info(image_);

    ContextPlan plan;
    plan.name = "test";
    plan.image_hash = BUILT_IMAGE_HASH;
    plan.max_clients = 3;
    plan.max_slots = MAX_SLOTS;
    plan.pool = shape_of(superblock);
    plan.pool_address = HEAP_BASE - superblock.chunks_offset;
    memcpy(plan.pool_uuid, superblock.uuid, sizeof plan.pool_uuid);
    EXPECT_EQ(format_context(context_, plan), 0);
    EXPECT_FALSE(verify_context(context_, header_));
    EXPECT_EQ(map_control(context_, header_), 0);
    EXPECT_EQ(map_heap_metadata(context_, header_), 0);
    EXPECT_EQ(map_domain(context_, CLIENT), 0);
    EXPECT_EQ(open_domain(CLIENT), 0);
    context().node_generation = 1;
    client_at(CLIENT).state = static_cast<u32>(ClientState::live);
    for (u32 i = 0; i < MAX_SLOTS; ++i) slot_at(i).owner = SlotOwner::make(CLIENT, 1).bits;

    void* shared =
        mmap(nullptr, sizeof(Session), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    session = new (shared) Session{};
    if (with == With::nothing) {
        provider = no_provider();
        return;
    }
    pins_ = pins_of_user() + "/test-" + std::to_string(getpid());
    enter_provider();
    start_completer();
}

Node::~Node() {
    if (getpid() != owner_) return;
    kill_completer();
    provider.reset();
    if (!pins_.empty()) EXPECT_EQ(remove_pins(pins_), "");
    munmap(session, sizeof(Session));
    munmap(reinterpret_cast<void*>(control_base()), CONTROL_WINDOW);
    munmap(reinterpret_cast<void*>(META_BASE), META_WINDOW);
    munmap(reinterpret_cast<void*>(DESCS_BASE), DESCS_WINDOW);
    for (const int fd : {context_, pool_, image_}) close(fd);
}

void Node::enter_provider() {
    auto opened = open_ebpf_provider(ebpf_plan(pins_, header_, image));
    ASSERT_TRUE(opened) << opened.error();
    provider = std::move(*opened);
}

void Node::start_completer(CompleterUser user) {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    const long started = aep::start_completer(AEP_COMPLETER_PATH, completer_fds(ends[1]), user);
    close(ends[1]);
    ASSERT_GT(started, 0);
    completer_ = static_cast<pid_t>(started);
    socket_ = ends[0];
    ASSERT_EQ(provider->add_member(static_cast<u32>(completer_), COMPLETER_CLIENT), "");
    ASSERT_EQ(report().outcome, CompleterOutcome::ready);
}

void Node::kill_completer() {
    if (completer_ == 0) return;
    kill(completer_, SIGKILL);
    wait_for(completer_);
    close(socket_);
    forget_completer();
}

void Node::leave_completer() {
    close(socket_);
    const int status = wait_for(completer_);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    forget_completer();
}

void Node::forget_completer() {
    provider->remove_member(static_cast<u32>(completer_), COMPLETER_CLIENT);
    completer_ = 0;
}

void Node::write_stack(u32 slot, u64 at, const void* from, usize bytes) {
    const u64 offset = STACKS_OFFSET + (stack_of_slot(slot) - stacks_base()) + at;
    ASSERT_EQ(pwrite(context_, from, bytes, static_cast<off_t>(offset)),
              static_cast<ssize_t>(bytes));
}

void Node::ask(u32 slot) {
    const CompleterJob job{slot};
    ASSERT_EQ(send(socket_, &job, sizeof job, MSG_NOSIGNAL), static_cast<ssize_t>(sizeof job));
}

bool Node::report_waits() {
    pollfd end{socket_, POLLIN, 0};
    return poll(&end, 1, 0) == 1;
}

CompleterReport Node::report() {
    CompleterReport report{};
    pollfd end{socket_, POLLIN, 0};
    if (poll(&end, 1, 20'000) != 1 ||
        recv(socket_, &report, sizeof report, 0) != static_cast<ssize_t>(sizeof report))
        ADD_FAILURE() << "no report from the completer";
    return report;
}

u32 Node::recover() {
    u32 open = 0;
    for (u32 i = 0; i < MAX_SLOTS; ++i) {
        if (slot_at(i).sequence.load() % 2 == 0) continue;
        ++open;
        ask(i);
    }
    for (u32 i = 0; i < open; ++i) {
        const CompleterReport r = report();
        EXPECT_EQ(r.outcome, CompleterOutcome::completed)
            << "slot " << r.slot << " op " << r.op << " signal " << r.signal << " at 0x" << std::hex
            << r.rip << " kind " << provider->captures()[r.slot].kind << " captured at 0x"
            << provider->captures()[r.slot].registers.rip;
        EXPECT_EQ(slot_at(r.slot).sequence.load() % 2, 0u);
    }
    if (!::testing::Test::HasFailure()) check();
    return open;
}

void Node::check() {
    CheckReport r;
    EXPECT_TRUE(check_domain(domain_at(CLIENT), r, CheckMoment::underway))
        << r.broken << ": " << r.kind << " 0x" << std::hex << r.object << " " << r.found << " "
        << r.expected;
}

pid_t Node::fork_victim() {
    const long flags = SIGCHLD | (in_own_pid_space ? CLONE_NEWPID : 0);
    const pid_t child =
        in_own_pid_space ? static_cast<pid_t>(syscall(SYS_clone, flags, 0, 0, 0, 0)) : fork();
    if (child != 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const rlimit no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    const bool attached =
        map_control(context_, header_) == 0 && map_stacks(context_, header_, false) == 0 &&
        map_heap_metadata(context_, header_) == 0 && map_domain(context_, CLIENT) == 0 &&
        map_pool_tables(pool_, header_) == 0 &&
        map_image(image_, BUILT_IMAGE_BYTES, ImageUse::enter) == 0;
    for (u32 i = 0; attached && i < MAX_SLOTS; ++i)
        if (open_stack(i) != 0) _exit(98);
    if (!attached) _exit(97);
    while (session->go == 0) sched_yield();
    return 0;
}

void Node::end_victim() { _exit(0); }

void Node::watch(pid_t child) {
    ASSERT_GT(child, 0);
    ASSERT_EQ(provider->add_member(static_cast<u32>(child), CLIENT), "");
}

int wait_for(pid_t child) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

}  // namespace aep::test
