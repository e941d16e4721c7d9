// Purpose: see heap_verifier.hpp.
// Who calls it: see heap_verifier.hpp.
// Crash rule: see heap_verifier.hpp.
#include "node/heap_verifier.hpp"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "dsm-core/heap/adoption.hpp"
#include "dsm-core/heap/check.hpp"
#include "node/believed.hpp"
#include "node/node_error.hpp"
#include "node/process_facts.hpp"
#include "shim/context/context_file.hpp"

namespace aep {
namespace {

/// So long somebody may wait to be let in. About a million pages of small blocks.
constexpr u64 LONGEST_WALK_MS = 10'000;

/// What the walk tells: text, for its pointers are nobody's but its own.
struct Verdict {
    u32 broken = 0;
    char what[100] = {};
    char kind[20] = {};
    u64 object = 0, found = 0, expected = 0;
};

/// A purge that never ended took slices out of the arena: back with them, or the walk misses them.
void restore_withdrawn(Domain& dom) {
    u32 inside_until = 0;
    for (u32 c = dom.arena.chunk_first();
         c < std::min(dom.arena.chunk_limit(), context().chunk_count); ++c) {
        const ChunkDesc* chunk = chunk_desc(ChunkIndex{c});
        if (!dom.arena.holds(chunk)) continue;
        u64 withdrawn = 0;
        for (u64 used = ~chunk->free; used != 0; used &= used - 1) {
            const u32 slice = raw(first_slice(ChunkIndex{c})) + lowest_bit(used);
            if (slice < inside_until) continue;
            const PageDesc* d = desc_of(SliceIndex{slice});
            if (kind_of(d->tag.load(std::memory_order_relaxed)) == TAG_FREE)
                withdrawn |= used & -used;
            else
                inside_until = slice + d->slices;
        }
        if (withdrawn != 0) dom.arena.purge_end({ChunkIndex{c}, withdrawn}, 0, true);
    }
}

/// Nothing that this process could be made to do is more than a client may.
bool drop_privileges() {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[2]{};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_capset, &header, none) == 0;
}

/// The host's locks and sockets end with the host, not with this process.
void close_all_but(int a, int b) {
    const auto close_from = [](int first, unsigned last) {
        if (static_cast<unsigned>(first) <= last)
            syscall(SYS_close_range, static_cast<unsigned>(first), last, 0);
    };
    const int low = std::min(a, b), high = std::max(a, b);
    close_from(3, static_cast<unsigned>(low) - 1);
    close_from(low + 1, static_cast<unsigned>(high) - 1);
    close_from(high + 1, ~0U);
}

/// In the walk's process, which has none of the mappings: no allocation, the host's threads are
/// not here. Its answer goes into `out`.
[[noreturn]] void walk(int fd, const ContextConstants& constants, u32 client, int out) {
    close_all_but(fd, out);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!drop_privileges() || map_control(fd, constants) < 0 ||
        map_heap_metadata(fd, constants) < 0 || map_domain(fd, client) < 0)
        _exit(1);
    Domain& dom = domain_at(client);
    Verdict verdict;
    if (dom.heaps_mapped.load(std::memory_order_relaxed) != 0) {  // else it was never made whole
        restore_withdrawn(dom);
        repair_after_fork(dom, nullptr, monotonic_ms());
        CheckReport report;
        if (!check_domain(dom, report, CheckMoment::idle)) {
            verdict = {.broken = 1,
                       .object = report.object,
                       .found = report.found,
                       .expected = report.expected};
            strncpy(verdict.what, report.broken, sizeof verdict.what - 1);
            strncpy(verdict.kind, report.kind, sizeof verdict.kind - 1);
        }
    }
    _exit(write(out, &verdict, sizeof verdict) == sizeof verdict ? 0 : 1);
}

/// What came of a walk.
struct Walk {
    std::string broken;   // what is broken; empty: nothing that we know
    std::string missing;  // why there was none; empty: there was one
};

/// Waits for the verdict of process `pid` and for its end; without one, what became of the walk.
Walk await(pid_t pid, int from, Verdict& verdict) {
    const u64 end = monotonic_ms() + LONGEST_WALK_MS;
    pollfd answer{from, POLLIN, 0};
    int ready = 0;
    for (u64 now; ready <= 0 && (now = monotonic_ms()) < end;) {
        ready = poll(&answer, 1, static_cast<int>(end - now));
        if (ready < 0 && errno != EINTR) break;
    }
    const bool told = ready > 0 && read(from, &verdict, sizeof verdict) == sizeof verdict;
    if (ready <= 0) kill(pid, SIGKILL);
    int status = 0;
    pid_t ended;
    do ended = waitpid(pid, &status, 0);
    while (ended < 0 && errno == EINTR);
    if (told) return {};
    if (ready <= 0) return {fmt::format("the walk did not end in {} ms", LONGEST_WALK_MS), ""};
    if (ended == pid && WIFSIGNALED(status))
        return {fmt::format("the walk was led astray (signal {})", WTERMSIG(status)), ""};
    return {"", "its process could not map what it needs"};
}

/// Has the heap of a client walked.
Walk walk_apart(int context_fd, u32 client) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return {"", "no pipe: " + errno_text(errno)};
    const UniqueFd from(ends[0]);
    UniqueFd to(ends[1]);
    const ContextConstants constants = context();
    const pid_t pid = fork();
    if (pid == 0) walk(context_fd, constants, client, to.get());
    if (pid < 0) return {"", "no process: " + errno_text(errno)};
    to.reset();
    Verdict verdict;
    Walk done = await(pid, from.get(), verdict);
    if (verdict.broken == 0) return done;
    done.broken = fmt::format("{} ({} at {}, found {}, expected {})",
                              printable(verdict.what, sizeof verdict.what),
                              printable(verdict.kind, sizeof verdict.kind), verdict.object,
                              verdict.found, verdict.expected);
    return done;
}

}  // namespace

void HeapVerifier::verify(u32 client) {
    // What left the context, and what nobody could end, is not as a heap is.
    if (client_at(client).private_heap.load(std::memory_order_relaxed) != 0 ||
        client_at(client).left_open.load(std::memory_order_relaxed) != 0)
        return;
    const Walk walk = walk_apart(served_.fd(), client);
    if (!walk.missing.empty()) {
        log_(LogLevel::warning,
             fmt::format("client {}: its heap was not walked: {}", client, walk.missing));
    }
    if (walk.broken.empty()) return;
    ++broken_;
    log_(LogLevel::error, fmt::format("client {}: its heap is broken: {}", client, walk.broken));
}

}  // namespace aep
