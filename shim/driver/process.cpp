// Purpose: see process.hpp.
// Who calls it: shim/driver/allocator.cpp, preload/.
// Crash rule: private to the process. Lock order: start, growth, purge, then the gate, then locks
// inside operations.
#include "shim/driver/process.hpp"

#include <errno.h>
#include <sys/uio.h>

#include "dsm-core/heap/check.hpp"
#include "shim/backing/anonymous_backing.hpp"
#include "shim/backing/domain_memory.hpp"
#include "shim/context/join.hpp"
#include "shim/context/joined_backing.hpp"
#include "shim/context/slots.hpp"
#include "shim/driver/aside.hpp"
#include "shim/driver/background.hpp"
#include "shim/driver/driver_lock.hpp"
#include "shim/driver/heap_turn.hpp"
#include "shim/driver/idle_heaps.hpp"
#include "shim/driver/libc_heap.hpp"
#include "shim/driver/purging.hpp"
#include "shim/driver/report.hpp"
#include "shim/driver/scarcity.hpp"
#include "shim/driver/slow_path.hpp"
#include "shim/driver/thread.hpp"
#include "shim/sys/message.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {

std::atomic<usize> window_slices{0};
constinit bool pure_mode = false;
constinit uptr domain_address = DOMAINS_BASE;
constinit u32 own_domain_heaps = 0;

namespace {

Settings process_settings;
const Backing* process_backing = nullptr;
bool configured = false;
bool said_unmapped = false;
std::atomic<bool> started{false};
DriverLock start_lock{HELD_START};
DriverLock growth_lock{HELD_GROWTH};  // one thread at a time takes chunks from the backing
u32 fork_took = 0;                    // those of them that fork_prepare has locked

/// 1: operations wait outside until fork is done. Not in the domain, whose mapping fork exchanges:
/// who sleeps on it must be found afterwards.
std::atomic<u32> gate{0};

/// This thread's part of the domain's `visitors`: more than zero only where a signal handler has
/// interrupted an operation.
__thread u32 own_visits __attribute__((tls_model("initial-exec"))) = 0;

/// After a message that said why.
void go_on_privately(const char* what) {
    if (process_settings.require) fatal("AEP_REQUIRE=1 and ", what, " cannot be used: giving up");
    message("continuing in private mode: nothing is shared (AEP_REQUIRE=1 makes this fatal)");
}

void choose_backing() {
    if (process_backing != nullptr) return;  // configured
    if (!configured) process_settings = read_settings();
    switch (join_context(process_settings)) {
        case Join::joined:
            process_backing = joined_backing();
            break;
        case Join::failed:
            go_on_privately("the context");
            break;
        case Join::absent:
            break;
    }
    if (process_backing == nullptr && process_settings.pool != nullptr) {
        process_backing = pool_backing(process_settings.pool, process_settings.pool_bytes);
        if (process_backing == nullptr) go_on_privately("the pool");
    }
    if (process_backing == nullptr) process_backing = anonymous_backing();
    anonymous_use_huge_pages(process_settings.huge_from);
}

/// Memory for the domain, unless it is the context's.
bool map_domain_memory() {
    if (process_backing->commit_domain != nullptr) {
        domain_address = reinterpret_cast<uptr>(&domain_at(this_client.index));
        arena_is_open(context().chunk_count);
        return true;
    }
    if (!open_own_domain(domain(), HEAPS_PER_STEP)) {
        if (!said_unmapped) {  // each request tries again
            said_unmapped = true;
            message("cannot map the allocator's metadata at ", Hex{domain_address},
                    ": the address space is limited (ulimit -v) or in use, or all memory is locked "
                    "(mlockall) and the limit of that is low (ulimit -l)");
        }
        return false;
    }
    domain_init(domain(), index_of(domain()));
    domain().heaps_mapped.store(HEAPS_PER_STEP, std::memory_order_relaxed);
    return true;
}

void note_chunks(const ChunkRun& run) {
    const usize end = (usize{raw(run.first)} + run.count) * SLICES_PER_CHUNK;
    // Release: whoever passes the window check may read the metadata behind it. Under the growth
    // lock.
    if (end > window_slices.load(std::memory_order_relaxed)) {
        window_slices.store(end, std::memory_order_release);
    }
    transact({.op = Op::add_chunks,
              .a = raw(run.first),
              .b = run.count,
              .now = run.dirty ? now_ms() : 0,
              .mask = run.dirty ? ~u64{0} : 0,
              .zero = run.zero,
              .committed = process_backing->commit == nullptr,
              .coarse = run.coarse});
}

/// Takes chunks from the backing. False: there are none. Under the growth lock.
bool grow(u32 chunks, u32 alignment, ChunkIndex at, u32* first = nullptr) {
    const ChunkRun run = process_backing->provide(chunks, alignment, at);
    if (!run) return false;
    if (!open_arena(domain(), raw(run.first) + run.count)) {
        process_backing->release(run.first, run.count);
        return false;
    }
    note_chunks(run);
    note_scarcity(process_backing->is_scarce != nullptr && process_backing->is_scarce());
    if (first != nullptr) *first = raw(run.first);
    return true;
}

/// Makes the first `bytes` of the run writable, or gives it back.
bool commit_run(Run& run, usize bytes) {
    if (run.coarse) bytes = round_up(bytes, SLICE_SIZE);
    if (run.committed >= bytes) return true;
    if (process_backing->commit(run.address() + run.committed, bytes - run.committed)) {
        run.committed = bytes;
        if (const u64 whole = bytes >> SLICE_SHIFT; whole != 0) {
            transact({.op = Op::commit_run, .a = raw(run.first), .b = whole});
        }
        return true;
    }
    transact({.op = Op::give_run, .a = raw(run.first), .b = run.slices, .now = now_ms()});
    return false;
}

/// Others, who need not grow, may take what one got before it comes to it: that is no lack of
/// memory.
constexpr int MOST_GROWTHS = 16;

Run take_or_grow(const Request& take) {
    Reply reply = transact(take);
    if (reply.status == Status::ok) return reply.run;
    DriverScope scope(growth_lock);
    const u32 chunks = static_cast<u32>((take.a + SLICES_PER_CHUNK - 1) / SLICES_PER_CHUNK);
    const u32 alignment =
        take.b <= SLICES_PER_CHUNK ? 1 : static_cast<u32>(take.b) / SLICES_PER_CHUNK;
    for (int growth = 0;; ++growth) {
        reply = transact(take);  // another thread may have grown meanwhile
        if (reply.status == Status::ok) return reply.run;
        if (growth == MOST_GROWTHS) return {};
        if (growth == 0 && take_back_if_worth(now_ms())) continue;
        if (!grow(chunks, alignment, NO_CHUNK)) return {};
    }
}

}  // namespace

bool process_start() {
    if (AEP_LIKELY(started.load(std::memory_order_acquire))) return true;
    if (stays_on_libc()) return false;
    DriverScope scope(start_lock);
    if (started.load(std::memory_order_relaxed)) return true;
    choose_backing();
    pure_mode = process_settings.pure;
    background_enable(process_settings.background);
    if (!map_domain_memory()) return false;
    own_domain_heaps = index_of(domain()) * HEAP_IDS;
    started.store(true, std::memory_order_release);
    return true;
}

void process_configure(const Backing* backing, const Settings& settings) {
    process_settings = settings;
    process_backing = backing;
    configured = true;
}

void process_start_early() {
    if (started.load(std::memory_order_acquire) || configured) return;
    process_configure(nullptr, read_settings());
    if (process_settings.names_context() || process_settings.pool != nullptr) process_start();
}

const Settings& settings() { return process_settings; }
const Backing& backing() { return *process_backing; }

namespace {

/// Performs one operation of `h` (null: of a thread without heap) while no fork goes on.
template <class Perform>
Reply within_gate(Heap* h, Perform perform_it) {
    // seq_cst: fork closes the gate first and looks at the counters second; we do it the other way
    // round.
    const auto enter = [h] {
        if (h != nullptr) return begin_turn(h);
        domain().visitors.fetch_add(1, std::memory_order_seq_cst);
    };
    const auto leave = [h] {
        if (h != nullptr) return end_turn(h);
        domain().visitors.fetch_sub(1, std::memory_order_release);
    };
    if (h == nullptr) ++own_visits;
    enter();
    while (AEP_UNLIKELY(gate.load(std::memory_order_seq_cst) != 0)) {
        leave();
        while (gate.load(std::memory_order_acquire) != 0)
            detail::futex(&gate, detail::FUTEX_WAIT, 1);
        enter();
    }
    const Reply reply = perform_it();
    leave();
    if (h == nullptr) --own_visits;
    return reply;
}

/// Behind the gate: the first fork takes the heap out of the context.
Reply perform_checked(const Request& request) {
    const Reply result = AEP_LIKELY(!heap_in_context.load(std::memory_order_relaxed))
                             ? perform(domain(), request)
                             : perform_in_image(request);
#if defined(AEP_CHECKED)
    if (CheckReport report; !check_operation(domain(), request, result, report)) {
        fatal("broken invariant after operation ", static_cast<u32>(request.op), ": ",
              report.broken, "; ", report.kind, " ", Hex{report.object}, ", found ",
              Hex{report.found}, ", expected ", Hex{report.expected});
    }
#endif
    return result;
}

}  // namespace

Reply visit(const Request& request) {
    Reply reply{.status = Status::miss};
    if (!try_begin_turn(request.heap)) return reply;
    if (gate.load(std::memory_order_seq_cst) == 0) reply = perform_checked(request);
    end_turn(request.heap);
    // Its own thread may have come meanwhile.
    detail::futex(&request.heap->sequence, detail::FUTEX_WAKE, 0x7fff'ffff);
    return reply;
}

Reply transact(const Request& request) {
    const Reply reply = within_gate(request.heap, [&] { return perform_checked(request); });
    background_notice(domain().arena.next_purge());
    if (AEP_UNLIKELY(reply.twice_freed != 0)) report_bad_free(reply.twice_freed, BadFree::twice);
    return reply;
}

long copy_from_client(void* to, const void* from, usize bytes) {
    iovec local = {to, bytes};
    iovec remote = {const_cast<void*>(from), bytes};
    const long got = sys::call(__NR_process_vm_readv, sys::getpid(), sys::word(&local), 1,
                               sys::word(&remote), 1);
    return got == static_cast<long>(bytes) ? 0 : -EFAULT;
}

long call_operation(u32 number, const void* arguments, usize bytes) {
    Request request{};
    if (bytes != sizeof request) return -EINVAL;
    if (const long copied = copy_from_client(&request, arguments, bytes); copied != 0) {
        return copied;
    }
    if (!process_start()) return -ENOMEM;
    SlowPath here;
    if (here.nested()) return -EAGAIN;
    request.op = static_cast<Op>(number);
    const Reply reply = within_gate(request.heap, [&]() -> Reply {
        if (heap_in_context.load(std::memory_order_relaxed)) return perform_number(number, request);
        if (number < static_cast<u32>(Op::count)) return perform(domain(), request);
        if (known_operation(number) && this_client.attached) return perform_number(number, request);
        return {.status = Status::no_such_op};
    });
    switch (reply.status) {
        case Status::ok:
            return 0;
        case Status::no_such_op:
            return -ENOSYS;
        case Status::limit:
        case Status::poisoned:
        case Status::need_heaps:
            return -ENOMEM;
        default:
            return -ENOENT;
    }
}

Run obtain_run(Heap* heap, u32 slices, u32 alignment_slices, usize bytes) {
    Request take{.op = Op::take_run, .heap = heap, .a = slices, .b = alignment_slices};
    for (int attempt = 0; attempt < 2; ++attempt) {
        Run run = take_or_grow(take);
        if (run && commit_run(run, bytes)) return run;
        // The last resort: memory that is only kept for reuse may be what is missing, and a run
        // over a chunk's border may do.
        purge_all();
        take.thorough = true;
    }
    return {};
}

Run obtain_run_within(Heap* heap, u32 slices, u32 alignment_slices, usize bytes,
                      bool (*suits)(u32 chunk)) {
    Request take{.op = Op::take_run, .heap = heap, .a = slices, .b = alignment_slices};
    const u32 chunks = (slices + SLICES_PER_CHUNK - 1) / SLICES_PER_CHUNK;
    const u32 alignment =
        alignment_slices <= SLICES_PER_CHUNK ? 1 : alignment_slices / SLICES_PER_CHUNK;
    DriverScope scope(growth_lock);
    for (int growth = 0;; ++growth) {
        const u32 limit = domain().arena.chunk_limit();
        for (u32 first = domain().arena.chunk_first(); first < limit;) {
            u32 end = first;
            while (end < limit && suits(end)) ++end;
            if (end != first) {
                take.mask = u64{end} << 32 | first;
                Reply reply = transact(take);
                if (reply.status == Status::ok) {
                    return commit_run(reply.run, bytes) ? reply.run : Run{};
                }
            }
            first = end + 1;
        }
        if (growth == MOST_GROWTHS) return {};
        u32 first = 0;
        if (!grow(chunks, alignment, NO_CHUNK, &first)) return {};
        if (!suits(first)) return {};  // memory of another kind is all there is
    }
}

bool extend_page(Heap* heap, PageDesc* d) {
    const bool coarse = chunk_desc(chunk_of(slice_of(d)))->coarse != 0;
    usize goal = commit_goal(d->size_class, usize{d->extended} * d->block_size);
    if (coarse) goal = round_up(goal, SLICE_SIZE);
    const uptr end = base_of(d) + d->committed;
    if (!process_backing->commit(end, goal - d->committed)) {
        purge_all();  // memory that is only kept for reuse may be what is missing
        if (!process_backing->commit(end, goal - d->committed)) return false;
    }
    transact({.op = Op::extend_page, .heap = heap, .a = reinterpret_cast<u64>(d), .b = goal});
    return true;
}

bool extend_window(u32 at, u32 chunks) {
    DriverScope scope(growth_lock);
    return at == domain().arena.chunk_limit() && grow(chunks, 1, ChunkIndex{at});
}

bool commit_page_metadata(const Run& run) {
    if (AEP_LIKELY(process_backing->commit_page == nullptr)) return true;
    if (process_backing->commit_page(run.first)) return true;
    transact({.op = Op::give_run, .a = raw(run.first), .b = run.slices, .now = now_ms()});
    return false;
}

bool add_heaps() {
    DriverScope scope(growth_lock);
    const u32 have = domain().heaps_mapped.load(std::memory_order_relaxed);
    if (have > domain().heaps_used) return true;
    // Memory of a context is made present at once, so little of it at a time.
    const bool shared = process_backing->commit_domain != nullptr;
    u32 count = have + (shared ? HEAPS_PER_STEP / 16 : HEAPS_PER_STEP);
    if (count > MAX_HEAPS) count = MAX_HEAPS;
    if (count == have) return false;
    const uptr begin = domain_address + heaps_end(have);
    const usize bytes = heaps_end(count) - heaps_end(have);
    if (!(shared ? process_backing->commit_domain(begin, bytes) : map_own_heaps(begin, bytes))) {
        return false;
    }
    transact({.op = Op::add_heaps, .a = count});
    return true;
}

long attach_again() {
    const SlowPath here;
    if (here.nested()) return -EDEADLK;
    DriverScope scope(growth_lock);
    if (this_client.attached) return 0;
    return this_client.joined ? join_again() : -ENOTCONN;
}

void release_left_locks() {
    for (DriverLock* lock : {&start_lock, &growth_lock, &purge_lock}) lock->release_if_held();
    release_left_heap_lock();
    Heap* h = current_heap();
    if (h != nullptr && (h->sequence.load(std::memory_order_relaxed) & 1) != 0) {
        h->sequence.fetch_add(1, std::memory_order_release);
    }
    if (own_visits != 0) domain().visitors.fetch_sub(own_visits, std::memory_order_release);
    own_visits = 0;
}

int fork_prepare(Heap* self) {
    // Below a handler that interrupted the start, or an operation in the image, whose stack no
    // child has; and a backing that was interrupted cannot be asked to freeze.
    if (start_lock.wanted() || inside_image()) return EAGAIN;
    if (!process_start()) return 0;  // nothing to protect
    const bool interrupted = growth_lock.wanted() || purge_lock.wanted();
    if (interrupted && process_backing->commit != nullptr) return EAGAIN;
    start_lock.lock();
    fork_took = 0;
    // One that the interrupted thread itself holds stays its own, in both processes.
    for (DriverLock* lock : {&growth_lock, &purge_lock}) {
        if (lock->wanted()) continue;
        lock->lock();
        fork_took |= lock->bit();
    }
    gate.store(1, std::memory_order_seq_cst);
    Domain& dom = domain();
    // Operations are short: spin until each of the other threads is outside.
    for (u32 n = 1; n <= dom.heaps_used; ++n) {
        Heap* h = heap_at(dom, n);
        while (h != self && (h->sequence.load(std::memory_order_seq_cst) & 1) != 0)
            __builtin_ia32_pause();
    }
    while (dom.visitors.load(std::memory_order_seq_cst) > own_visits) __builtin_ia32_pause();
    if (process_backing->fork_prepare()) return 0;
    fork_parent();
    return ENOMEM;
}

void fork_parent() {
    if (!started.load(std::memory_order_relaxed)) return;
    process_backing->fork_parent();
    gate.store(0, std::memory_order_seq_cst);
    detail::futex(&gate, detail::FUTEX_WAKE, 0x7fff'ffff);
    for (DriverLock* lock : {&purge_lock, &growth_lock}) {
        if ((fork_took & lock->bit()) != 0) lock->unlock();
    }
    start_lock.unlock();
}

void fork_child(Heap* survivor) {
    if (!started.load(std::memory_order_relaxed)) return;
    start_lock.reset();
    growth_lock.reset();
    purge_lock.reset();
    held_locks = 0;
    background_forget();
    gate.store(0, std::memory_order_relaxed);
    process_backing->fork_child();
    perform(domain(), {.op = Op::repair_after_fork, .heap = survivor, .now = now_ms()});
    domain().visitors.store(own_visits, std::memory_order_relaxed);
}

}  // namespace aep
