// Purpose: see process.hpp.
// Who calls it: shim/allocator.cpp, preload/.
// Crash rule: private to the process. Lock order: start, growth, purge, then the gate, then locks
// inside operations.
#include "shim/process.hpp"

#include <time.h>

#include "dsm-core/heap/check.hpp"
#include "shim/message.hpp"
#include "shim/report.hpp"
#include "shim/syscall.hpp"

namespace aep {

std::atomic<usize> window_bytes{0};

namespace {

Settings process_settings;
const Backing* process_backing = nullptr;
std::atomic<bool> started{false};
Lock start_lock;
Lock growth_lock;  // one thread at a time takes chunks from the backing
Lock purge_lock;   // one thread at a time gives memory back

constexpr int PURGES_AT_ONCE = 16;

/// This thread's part of the domain's `visitors`: more than zero only where a signal handler has
/// interrupted an operation.
__thread u32 own_visits __attribute__((tls_model("initial-exec"))) = 0;

bool map_fixed(uptr address, usize bytes) {
    constexpr int FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    return !sys::failed(sys::mmap(address, bytes, PROT_READ | PROT_WRITE, FLAGS));
}

usize heaps_end(u32 count) { return HEAPS_OFFSET + (usize{count} + 1) * HEAP_STRIDE; }

void choose_backing() {
    if (process_backing != nullptr) return;  // configured
    process_settings = read_settings();
    if (process_settings.pool != nullptr) {
        process_backing = pool_backing(process_settings.pool, process_settings.pool_bytes);
        if (process_backing == nullptr) {
            if (process_settings.require)
                fatal("AEP_REQUIRE=1 and the pool cannot be used: giving up");
            message(
                "continuing in private mode: nothing is shared (AEP_REQUIRE=1 makes this fatal)");
        }
    }
    if (process_backing == nullptr) process_backing = anonymous_backing();
}

void note_chunks(const ChunkRun& run) {
    const usize end = (usize{raw(run.first)} + run.count) << CHUNK_SHIFT;
    // Release: whoever passes the window check may read the metadata behind it. Under the growth
    // lock.
    if (end > window_bytes.load(std::memory_order_relaxed)) {
        window_bytes.store(end, std::memory_order_release);
    }
    transact({.op = Op::add_chunks,
              .a = raw(run.first),
              .b = run.count,
              .zero = run.zero,
              .committed = process_backing->commit == nullptr,
              .coarse = run.coarse});
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

Run take_or_grow(const Request& take) {
    Reply reply = transact(take);
    if (reply.status == Status::ok) return reply.run;
    LockScope scope(growth_lock);
    reply = transact(take);  // another thread may have grown meanwhile
    if (reply.status == Status::ok) return reply.run;
    const u32 chunks = static_cast<u32>((take.a + SLICES_PER_CHUNK - 1) / SLICES_PER_CHUNK);
    const u32 alignment =
        take.b <= SLICES_PER_CHUNK ? 1 : static_cast<u32>(take.b) / SLICES_PER_CHUNK;
    const ChunkRun run = process_backing->provide(chunks, alignment, NO_CHUNK);
    if (!run) return {};
    note_chunks(run);
    reply = transact(take);
    return reply.status == Status::ok ? reply.run : Run{};
}

/// Purges what has been free for `decay` ms; at most `limit` chunks. True if anything was.
bool purge(u64 now, u64 decay, int limit) {
    bool any = false;
    for (int i = 0; i < limit; ++i) {
        const Reply begun = transact({.op = Op::purge_begin, .a = decay, .now = now});
        if (begun.status != Status::ok) break;
        any = true;
        const uptr base = chunk_address(ChunkIndex{static_cast<u32>(begun.value)});
        u64 zero = 0;
        for (u64 mask = begun.mask; mask != 0;) {
            const u32 first = lowest_bit(mask);
            const u64 gap = ~(mask >> first);
            const u32 length = gap == 0 ? 64 - first : lowest_bit(gap);
            const u64 run = mask_of(first, length < 64 - first ? length : 64 - first);
            if (process_backing->purge(base + first * SLICE_SIZE, length * SLICE_SIZE)) zero |= run;
            mask &= ~run;
        }
        transact({.op = Op::purge_end,
                  .a = begun.value,
                  .b = zero,
                  .mask = begun.mask,
                  // A purge that failed may have given back a part all the same.
                  .committed = process_backing->commit == nullptr});
    }
    return any;
}

/// Lets other nodes of the pool use chunks that hold nothing.
void release_free_chunks(u32 keep) {
    for (;;) {
        const Reply reply = transact({.op = Op::detach_chunk, .a = keep});
        if (reply.status != Status::ok) return;
        const ChunkIndex chunk{static_cast<u32>(reply.value)};
        if (process_backing->release(chunk, 1)) continue;
        transact(
            {.op = Op::add_chunks, .a = raw(chunk), .b = 1, .zero = false, .committed = false});
        return;
    }
}

}  // namespace

bool process_start() {
    if (AEP_LIKELY(started.load(std::memory_order_acquire))) return true;
    LockScope scope(start_lock);
    if (started.load(std::memory_order_relaxed)) return true;
    if (!map_fixed(DOMAIN_BASE, heaps_end(HEAPS_PER_STEP))) {
        message("cannot map the allocator's metadata at ", Hex{DOMAIN_BASE},
                ": the address space is limited or in use");
        return false;
    }
    domain().arena.init();
    domain().heaps_mapped.store(HEAPS_PER_STEP, std::memory_order_relaxed);
    choose_backing();
    started.store(true, std::memory_order_release);
    return true;
}

void process_configure(const Backing* backing, const Settings& settings) {
    process_settings = settings;
    process_backing = backing;
}

const Settings& settings() { return process_settings; }
const Backing& backing() { return *process_backing; }

Reply transact(const Request& request) {
    Domain& dom = domain();
    Heap* h = request.heap;
    std::atomic<u32>& open = h != nullptr ? h->sequence : dom.visitors;
    if (h == nullptr) ++own_visits;
    // seq_cst: fork closes the gate first and looks at the counters second; we do it the other way
    // round.
    open.fetch_add(1, std::memory_order_seq_cst);
    while (AEP_UNLIKELY(dom.gate.load(std::memory_order_seq_cst) != 0)) {
        open.fetch_sub(1, std::memory_order_seq_cst);
        while (dom.gate.load(std::memory_order_acquire) != 0)
            detail::futex(&dom.gate, detail::FUTEX_WAIT, 1);
        open.fetch_add(1, std::memory_order_seq_cst);
    }
    const Reply reply = perform(request);
#if defined(AEP_CHECKED)
    if (CheckReport report; !check_operation(request, reply, report)) {
        fatal("broken invariant after operation ", static_cast<u32>(request.op), ": ",
              report.broken, "; ", report.kind, " ", Hex{report.object}, ", found ",
              Hex{report.found}, ", expected ", Hex{report.expected});
    }
#endif
    if (h != nullptr) {
        open.store(open.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    } else {
        open.fetch_sub(1, std::memory_order_release);
        --own_visits;
    }
    if (AEP_UNLIKELY(reply.twice_freed != 0)) report_bad_free(reply.twice_freed, BadFree::twice);
    return reply;
}

u64 now_ms() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return static_cast<u64>(t.tv_sec) * 1000 + static_cast<u64>(t.tv_nsec) / 1'000'000;
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

bool extend_page(Heap* heap, PageDesc* d) {
    const bool coarse = chunk_desc(chunk_of(slice_of(d)))->coarse != 0;
    usize goal = commit_goal(d->size_class, usize{d->extended} * d->block_size);
    if (coarse) goal = round_up(goal, SLICE_SIZE);
    const uptr end = d->base + d->committed;
    if (!process_backing->commit(end, goal - d->committed)) {
        purge_all();  // memory that is only kept for reuse may be what is missing
        if (!process_backing->commit(end, goal - d->committed)) return false;
    }
    transact({.op = Op::extend_page, .heap = heap, .a = reinterpret_cast<u64>(d), .b = goal});
    return true;
}

bool extend_window(u32 at, u32 chunks) {
    LockScope scope(growth_lock);
    if (at != domain().arena.chunk_limit()) return false;
    const ChunkRun run = process_backing->provide(chunks, 1, ChunkIndex{at});
    if (!run) return false;
    note_chunks(run);
    return true;
}

bool add_heaps() {
    LockScope scope(growth_lock);
    const u32 have = domain().heaps_mapped.load(std::memory_order_relaxed);
    if (have > domain().heaps_used) return true;
    u32 count = have + HEAPS_PER_STEP;
    if (count > MAX_HEAPS) count = MAX_HEAPS;
    if (count == have) return false;
    if (!map_fixed(DOMAIN_BASE + heaps_end(have), heaps_end(count) - heaps_end(have))) return false;
    transact({.op = Op::add_heaps, .a = count});
    return true;
}

void purge_if_due(u64 now) {
    const u64 oldest = domain().arena.oldest_dirty();
    const u64 decay = process_settings.decay_ms;
    if (AEP_LIKELY(now < oldest || now - oldest < decay)) return;
    if (!purge_lock.try_lock()) return;
    purge(now, decay, PURGES_AT_ONCE);
    if (process_backing->commit != nullptr) release_free_chunks(1);
    purge_lock.unlock();
}

bool purge_all() {
    LockScope scope(purge_lock);
    const bool any = purge(now_ms(), 0, static_cast<int>(MAX_CHUNKS));
    if (process_backing->commit != nullptr) release_free_chunks(0);
    return any;
}

bool fork_prepare(Heap* self) {
    if (!process_start()) return true;  // nothing to protect
    start_lock.lock();
    growth_lock.lock();
    purge_lock.lock();
    Domain& dom = domain();
    dom.gate.store(1, std::memory_order_seq_cst);
    // Operations are short: spin until each of the other threads is outside.
    for (u32 id = 1; id <= dom.heaps_used; ++id) {
        Heap* h = heap_of_id(id);
        while (h != self && (h->sequence.load(std::memory_order_seq_cst) & 1) != 0)
            __builtin_ia32_pause();
    }
    while (dom.visitors.load(std::memory_order_seq_cst) > own_visits) __builtin_ia32_pause();
    if (process_backing->fork_prepare()) return true;
    fork_parent();
    return false;
}

void fork_parent() {
    if (!started.load(std::memory_order_relaxed)) return;
    process_backing->fork_parent();
    domain().gate.store(0, std::memory_order_seq_cst);
    detail::futex(&domain().gate, detail::FUTEX_WAKE, 0x7fff'ffff);
    purge_lock.unlock();
    growth_lock.unlock();
    start_lock.unlock();
}

void fork_child(Heap* survivor) {
    if (!started.load(std::memory_order_relaxed)) return;
    start_lock.reset();
    growth_lock.reset();
    purge_lock.reset();
    domain().gate.store(0, std::memory_order_relaxed);
    process_backing->fork_child();
    perform({.op = Op::repair_after_fork, .heap = survivor, .now = now_ms()});
    domain().visitors.store(own_visits, std::memory_order_relaxed);
}

}  // namespace aep
