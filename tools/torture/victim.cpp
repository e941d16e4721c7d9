// Purpose: the torture's victim: threads that allocate, resize, free, send and receive blocks of
//          all kinds as fast as they can, verify what they hold, and die as they are told.
// Who calls it: the driver (main.cpp), as a child process.
// Crash rule: it is made to be killed.
//
// Usage: aep-torture-victim THREADS SEED DEATH MICROSECONDS PAUSE-FILE
// Writes one byte to fd 3 when its threads work. A block that changed under its owner's hands, or
// an allocation that fails, is told on fd 2; exit status 99.
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "include/aep/dsm.h"
#include "tools/torture/pause.hpp"
#include "tools/torture/shipment.hpp"

namespace {

constexpr unsigned BLOCKS = 400;    // a thread
constexpr unsigned MAX_NAMES = 10;  // of victims that others can find

struct Random {
    std::uint64_t state;
    std::uint64_t next() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state;
    }
    std::uint64_t below(std::uint64_t n) { return next() % n; }
};

struct Block {
    unsigned char* data = nullptr;
    std::size_t bytes = 0;
    unsigned char mark = 0;
};

constexpr unsigned MAX_THREADS = 64;
std::atomic<unsigned> working{0};
/// Blocks on their way from one thread to another: freed there, remotely.
std::atomic<unsigned char*> passed[64];

[[noreturn]] void die(const char* what) {
    char line[128];
    const int length = snprintf(line, sizeof line, "victim %d: %s\n", getpid(), what);
    if (write(2, line, static_cast<std::size_t>(length)) < 0) _exit(98);
    _exit(99);
}

/// Mostly small, some large, a few of several chunks.
std::size_t some_size(Random& random) {
    const auto dice = random.below(1000);
    if (dice < 900) return 1 + random.below(1024);
    if (dice < 985) return 1 + random.below(64 * 1024);
    if (dice < 998) return 1 + random.below(1024 * 1024);
    return 1 + random.below(6 * 1024 * 1024);
}

void fill(Block& block, unsigned char mark) {
    block.mark = mark;
    block.data[0] = mark;
    block.data[block.bytes - 1] = mark;
}

void verify(const Block& block) {
    if (block.data[0] != block.mark || block.data[block.bytes - 1] != block.mark)
        die("a block was changed by somebody else");
}

void renew(Block& block, Random& random) {
    const std::size_t bytes = some_size(random);
    void* p = nullptr;
    switch (random.below(6)) {
        case 0:
            p = calloc(1, bytes);
            break;
        case 1:
            if (posix_memalign(&p, std::size_t{16} << random.below(9), bytes) != 0) p = nullptr;
            break;
        default:
            p = malloc(bytes);
    }
    if (p == nullptr) return;  // a full pool or a limit: go on with what there is
    block.data = static_cast<unsigned char*>(p);
    block.bytes = bytes;
    fill(block, static_cast<unsigned char>(random.next()));
}

void resize(Block& block, Random& random) {
    const std::size_t bytes = some_size(random);
    void* p = realloc(block.data, bytes);
    if (p == nullptr) return;
    block.data = static_cast<unsigned char*>(p);
    if (block.data[0] != block.mark) die("realloc lost a block's contents");
    block.bytes = bytes;
    fill(block, block.mark);
}

/// Hands the block to whoever comes by, and frees what was there.
void pass_on(Block& block, Random& random) {
    free(passed[random.below(64)].exchange(block.data, std::memory_order_acq_rel));
    block = {};
}

/// One of the victims that live now, perhaps this one; 0: there is none of that name.
dsm_id some_peer(Random& random) {
    char name[] = "victim 0";
    name[sizeof name - 2] = static_cast<char>('0' + random.below(MAX_NAMES));
    return dsm_lookup(name);
}

/// Takes part in sharing under the first name that is free.
void take_part() {
    char name[] = "victim 0";
    for (unsigned i = 0; i < MAX_NAMES; ++i) {
        name[sizeof name - 2] = static_cast<char>('0' + i);
        if (dsm_attach(name) == 0) return;
    }
    if (dsm_attach(nullptr) != 0) die("cannot take part in sharing");
}

/// Sends the block, or takes what came, in turn; objects of others are looked at and dropped.
void share(const Block& block, Random& random) {
    if (random.below(2) == 0) {
        const dsm_id peer = some_peer(random);
        if (peer == 0) return;
        dsm_send(peer, block.data);
        void* const parcel = dsm_malloc(some_size(random));
        if (parcel != nullptr && dsm_send_message(peer, parcel, nullptr, 0, DSM_DROP) != 0)
            dsm_free(parcel);
        return;
    }
    for (unsigned i = 0; i < 3; ++i) {
        dsm_info info{};
        void* object = dsm_recv(DSM_ANY, 0, &info);
        if (object == nullptr) return;
        const auto* bytes = static_cast<const volatile unsigned char*>(object);
        // A group without a root comes by its own address, and with no size.
        if (bytes[0] != bytes[0] || (info.size == 0) != (info.group == object))
            die("a received object is none");
        if (info.group != nullptr && aep::torture::is_shipment(object, info.size)) {
            if (const char* fault = aep::torture::verify_shipment(object)) die(fault);
        }
        if (random.below(4) == 0) dsm_send(some_peer(random), object);
        if (random.below(4) == 0 &&
            dsm_send_message(some_peer(random), object, nullptr, 0, DSM_DROP) == 0)
            continue;
        if (random.below(2) == 0)
            free(object);
        else if (dsm_free(object) != 0)
            die("a received object cannot be dropped");
    }
}

/// A topic that others have, too, or a new one: some are published in it, and some taken. Few close it, as those who die do.
void use_a_topic(const Block& block, Random& random) {
    const char name[] = {'t', static_cast<char>('0' + random.below(4)), '\0'};
    const dsm_topic topic = dsm_topic_open(name, static_cast<unsigned>(random.below(6)), 100'000);
    if (topic == 0) return;
    const dsm_subscription how{.behind = static_cast<std::uint32_t>(random.below(3)),
                               .history = static_cast<std::uint32_t>(random.below(4)),
                               .messages = 0,
                               .reserved = 0,
                               .bytes = 0};
    if (dsm_topic_subscribe(topic, &how) != 0) die("a topic cannot be subscribed to");
    for (std::uint64_t i = random.below(4); i != 0; --i)
        dsm_topic_publish(topic, block.data, nullptr, 0, 0);
    for (std::uint64_t i = random.below(4); i != 0; --i)
        if (void* object = dsm_topic_take(topic, 0, nullptr, 0, nullptr)) dsm_free(object);
    if (random.below(4) == 0 && dsm_topic_leave(topic) != 0) die("a topic cannot be left");
    if (dsm_topic_close(topic) != 0) die("a topic cannot be closed");
}

/// A mailbox for one message, which comes or does not; or a call that nobody answers in time.
void use_a_mailbox(const Block& block, Random& random) {
    if (random.below(2) == 0) {
        if (const dsm_id peer = some_peer(random))
            dsm_free(dsm_call(peer, block.data, nullptr, 0, 0, nullptr, 0));
        return;
    }
    const dsm_id mailbox = dsm_mailbox_open();
    if (mailbox == 0) return;
    if (random.below(2) == 0) dsm_mailbox_limit(mailbox, random.below(100'000));
    for (std::uint64_t i = random.below(3); i != 0; --i) dsm_send(mailbox, block.data);
    if (const dsm_id peer = some_peer(random))
        dsm_send_as(mailbox, peer, block.data, nullptr, 0, 0);
    if (void* object = dsm_recv_at(mailbox, DSM_ANY, 0, nullptr, 0)) dsm_free(object);
    if (random.below(4) != 0 && dsm_mailbox_close(mailbox) != 0) die("a mailbox cannot be closed");
}

/// Sends several at once, and takes several; those that come are looked at and dropped. What was not sent stays.
void share_many(Random& random) {
    void* objects[20];
    std::size_t made = 0;
    while (made < 20 && random.below(12) != 0)
        if (void* const object = dsm_malloc(some_size(random))) objects[made++] = object;
    const unsigned flags = random.below(2) == 0 ? DSM_DROP : 0;
    const dsm_id peer = some_peer(random);
    const int sent =
        made == 0 || peer == 0 ? 0 : dsm_send_many(peer, objects, made, nullptr, 0, flags);
    for (std::size_t i = flags != 0 && sent > 0 ? static_cast<std::size_t>(sent) : 0; i < made; ++i)
        if (dsm_free(objects[i]) != 0) die("an object that was not sent cannot be dropped");
    dsm_message said[20];
    const int taken = dsm_recv_many(DSM_ANY, 0, objects, said, sizeof said[0], 20);
    for (int i = 0; i < taken; ++i) {
        if (said[i].group != nullptr && aep::torture::is_shipment(objects[i], said[i].size)) {
            if (const char* fault = aep::torture::verify_shipment(objects[i])) die(fault);
        }
    }
    if (taken > 0 && dsm_free_many(objects, static_cast<std::size_t>(taken)) != taken)
        die("an object of many cannot be dropped");
}

/// Is told who comes and goes, which is somebody all the time.
void follow_peers(Random& random) {
    if (random.below(8) == 0) dsm_watch_peers(random.below(8) != 0 ? DSM_WATCH : 0);
    dsm_event event{};
    while (dsm_next_event(&event, sizeof event, 0) == 0)
        if (event.kind < DSM_PEER_CAME || event.kind > DSM_PEER_RENAMED || event.peer == dsm_self())
            die("an event that cannot be");
}

/// Makes a group of several parts, whose root others read and drop as any object.
void share_group(Random& random) {
    dsm_group* group = dsm_group_create(random.below(2) * 10'000);
    if (group == nullptr) return;
    Block blocks[40];
    for (Block& block : blocks) {
        block.bytes = 1 + random.below(random.below(20) == 0 ? 100'000 : 1000);
        block.data = static_cast<unsigned char*>(dsm_group_alloc(group, block.bytes));
        if (block.data == nullptr) break;
        fill(block, static_cast<unsigned char>(random.next()));
    }
    const Block& root = blocks[0];
    // Nothing left there by a shipment may look like one.
    if (root.data != nullptr && root.bytes >= 8) memset(root.data, root.mark, 8);
    if (root.data != nullptr && dsm_group_set_root(group, root.data) != 0)
        die("no root of a group");
    for (unsigned i = 0; i < 2; ++i)
        if (const dsm_id peer = some_peer(random)) dsm_send(peer, group);
    for (const Block& block : blocks) {
        if (block.data == nullptr) break;
        verify(block);
        if (block.data != root.data && random.below(2) == 0 &&
            dsm_group_free(group, block.data) != 0)
            die("a block of a group cannot be freed");
    }
    if (random.below(2) == 0) {
        if (dsm_group_close(group) != 0) die("a group cannot be closed");
        return;
    }
    dsm_group_hand_over(group, random.below(2) == 0 ? dsm_self() : some_peer(random));
    const bool by_root = root.data != nullptr && random.below(2) == 0;
    void* const name = by_root ? static_cast<void*>(root.data) : group;
    if (random.below(2) == 0 &&
        dsm_send_message(some_peer(random), name, nullptr, 0, DSM_DROP) == 0)
        return;
    if (dsm_free(name) != 0) die("a group cannot be dropped");
}

/// What a worker hands to its successor.
struct Worker {
    std::uint64_t seed;
    Block* blocks;
    void* alternate_stack;
    const aep::torture::Pause* pause;
};

constexpr std::size_t ALTERNATE_BYTES = 64 * 1024;

void use_alternate_stack(const Worker& worker) {
    stack_t alternate{};
    alternate.ss_sp = worker.alternate_stack;
    alternate.ss_size = ALTERNATE_BYTES;
    if (sigaltstack(&alternate, nullptr) != 0) die("no alternate stack");
}

void leave_alternate_stack() {
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    sigaltstack(&none, nullptr);
}

void* work(void* argument);

/// Threads end all the time and others go on with what they had: heaps are abandoned and adopted.
/// False: the system gives no thread now.
bool start_worker(Worker* worker) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    const bool started = pthread_create(&thread, &attributes, work, worker) == 0;
    pthread_attr_destroy(&attributes);
    return started;
}

void one_step(Block& block, Random& random) {
    if (block.data == nullptr) return renew(block, random);
    verify(block);
    switch (random.below(8)) {
        case 0:
            resize(block, random);
            break;
        case 2:
            if (random.below(20) == 0) share_group(random);
            if (random.below(20) == 0) use_a_mailbox(block, random);
            if (random.below(100) == 0) follow_peers(random);
            if (random.below(20) == 0) share_many(random);
            if (random.below(20) == 0) use_a_topic(block, random);
            if (random.below(20) == 0)
                aep::torture::send_shipment(random.next(), {some_peer(random), some_peer(random)});
            share(block, random);
            break;
        case 1:
            pass_on(block, random);
            break;
        default:
            free(block.data);
            block = {};
    }
    if (random.below(20'000) == 0) malloc_trim(0);
}

void* work(void* argument) {
    Worker* const worker = static_cast<Worker*>(argument);
    use_alternate_stack(*worker);
    Random random{worker->seed};
    if (worker->blocks == nullptr) {
        worker->blocks = static_cast<Block*>(calloc(BLOCKS, sizeof(Block)));
        if (worker->blocks == nullptr) die("no memory at the start");
        working.fetch_add(1);
    }
    do {
        for (unsigned i = 0; i < 5000; ++i) {
            worker->pause->wait_out();
            one_step(worker->blocks[random.below(BLOCKS)], random);
        }
        worker->seed = random.next() | 1;
        leave_alternate_stack();  // the successor's now
    } while (!start_worker(worker));
    return nullptr;
}

void run_something_else() {
    char* const arguments[] = {const_cast<char*>("/bin/true"), nullptr};
    char* const environment[] = {nullptr};
    execve(arguments[0], arguments, environment);
}

/// Whether the signal came while its thread was in an operation: the handler runs on top of it, or
/// in the shadow entry, because the kernel let the operation end first.
bool on_top_of_operation(void* context) {
    constexpr std::uint64_t ENTRY = 0x3fff'ffff'0000, IMAGE_END = 0x4000'4000'0000;
    const auto* user = static_cast<const ucontext_t*>(context);
    const auto rip = static_cast<std::uint64_t>(user->uc_mcontext.gregs[REG_RIP]);
    return rip >= ENTRY && rip < IMAGE_END;
}

std::string_view death_in_handler;

void handler(int, siginfo_t*, void* context) {
    if (!on_top_of_operation(context)) return;
    if (death_in_handler == "handler-exec") run_something_else();
    if (death_in_handler == "handler-kill") syscall(SYS_tgkill, getpid(), gettid(), SIGKILL);
    syscall(SYS_exit_group, 0);
}

/// A breakpoint stops the process, with all that its threads are in the middle of, instead of ending it.
void stop_at_breakpoints() {
    struct sigaction action {};
    action.sa_handler = [](int) { syscall(SYS_kill, getpid(), SIGSTOP); };
    action.sa_flags = SA_RESTART;
    sigaction(SIGTRAP, &action, nullptr);
}

/// From now on a signal every millisecond of work falls on one of the threads, until the first that
/// finds an operation below it ends the process.
void storm(std::string_view death) {
    death_in_handler = death;
    struct sigaction action {};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | SA_RESTART | (death == "altstack-exit" ? SA_ONSTACK : 0);
    sigaction(SIGVTALRM, &action, nullptr);
    const itimerval often{{0, 1000}, {0, 1000}};
    setitimer(ITIMER_VIRTUAL, &often, nullptr);
}

void end_as_told(std::string_view death) {
    if (death == "exit") _exit(0);
    if (death == "exec") run_something_else();
    if (death == "segv" || death == "segv-core") {
        const rlimit limit{death == "segv" ? rlim_t{0} : RLIM_INFINITY, RLIM_INFINITY};
        setrlimit(RLIMIT_CORE, &limit);
        void* closed = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        *static_cast<volatile int*>(closed) = 1;
    }
    if (death == "oom") {  // the driver has put us into a small memory cgroup
        constexpr std::size_t BYTES = std::size_t{2} << 30;
        void* hog =
            mmap(nullptr, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (std::size_t i = 0; i < BYTES; i += 4096) static_cast<volatile char*>(hog)[i] = 1;
    }
    if (death.starts_with("handler-") || death == "altstack-exit") storm(death);
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 6) die("usage: aep-torture-victim THREADS SEED DEATH MICROSECONDS PAUSE-FILE");
    const unsigned threads = static_cast<unsigned>(atoi(arguments[1]));
    if (threads == 0 || threads > MAX_THREADS) die("1 to 64 threads");
    static Worker workers[MAX_THREADS];
    const std::uint64_t seed = strtoull(arguments[2], nullptr, 10);
    const useconds_t moment = static_cast<useconds_t>(atoi(arguments[4]));
    static const aep::torture::Pause asked(arguments[5]);
    if (!asked.is_there()) die("no file to be paused by");
    for (unsigned i = 0; i < threads; ++i) {
        void* stack = mmap(nullptr, ALTERNATE_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (stack == MAP_FAILED) die("no alternate stack");
        workers[i] = {((seed + i) * 0x9e37'79b9'7f4a'7c15) | 1, nullptr, stack, &asked};
        if (!start_worker(&workers[i])) die("no thread at the start");
    }
    take_part();
    while (working.load() < threads) sched_yield();
    if (std::string_view(arguments[3]) == "stop") stop_at_breakpoints();
    // The storm's signals are for the workers.
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    if (write(3, "w", 1) != 1) die("nobody waits for me");
    usleep(moment);
    end_as_told(arguments[3]);
    for (;;) pause();
}
