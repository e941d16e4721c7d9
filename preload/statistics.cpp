// Purpose: what libc tells about its heap (mallinfo, malloc_stats, malloc_info) and lets one tune
// (mallopt, malloc_trim), for
//          ours; and the statistics at exit that AEP_STATS=1 asks for.
// Who calls it: the program.
// Crash rule: reads only, but for malloc_trim, which is an ordinary operation.
#include <errno.h>
#include <malloc.h>
#include <stdio.h>

#include "dsm-core/heap/survey.hpp"
#include "preload/export.hpp"
#include "preload/kept_stderr.hpp"
#include "shim/context/join.hpp"
#include "shim/driver/allocator.hpp"
#include "shim/driver/report.hpp"
#include "shim/sys/message.hpp"

namespace {

using namespace aep;

Survey current_survey() { return process_start() ? survey(domain()) : Survey{}; }

const char* mode() {
    return this_client.joined ? "context" : backing().commit == nullptr ? "private" : "pool";
}

/// One line a fact on fd 2, without stdio: it also runs when the program is ending.
void print_statistics() {
    const Survey s = current_survey();
    message("mode: ", mode());
    message("chunks held: ", s.chunk_bytes >> CHUNK_SHIFT, " (", Bytes{s.chunk_bytes}, ")");
    message("pages: ", s.page_count, " (", Bytes{s.page_bytes}, "), live blocks: ", s.block_count,
            " (", s.block_bytes, " bytes)");
    message("large objects: ", s.large_count, " (", Bytes{s.large_bytes}, ")");
    message("free: ", Bytes{s.free_run_bytes}, ", of these with memory: ", Bytes{s.dirty_bytes},
            ", given back so far: ", Bytes{domain().purged_bytes.load(std::memory_order_relaxed)});
    message("heaps: ", domain().heaps_used.load(std::memory_order_relaxed),
            ", abandoned now: ", domain().abandoned_count.load(std::memory_order_relaxed));
    if (bad_free_count() != 0) message("bad frees ignored: ", bad_free_count());
}

__attribute__((destructor)) void at_exit() {
    if (!settings().stats || !process_start()) return;
    give_stderr_back();
    print_statistics();
}

struct mallinfo2 to_mallinfo(const Survey& s) {
    struct mallinfo2 m {};
    m.arena = s.chunk_bytes;
    m.ordblks = s.page_count;
    m.hblks = s.large_count;
    m.hblkhd = s.large_bytes;
    m.uordblks = s.block_bytes + s.large_bytes;
    m.fordblks = s.chunk_bytes - m.uordblks;
    m.keepcost = s.dirty_bytes;
    return m;
}

}  // namespace

/// See mallinfo(3): arena = bytes of chunks held, uordblks = bytes in live blocks, fordblks = the
/// rest, hblk* = large objects.
AEP_EXPORT struct mallinfo2 mallinfo2() noexcept { return to_mallinfo(current_survey()); }

AEP_EXPORT struct mallinfo mallinfo() noexcept {
    const struct mallinfo2 m = to_mallinfo(current_survey());
    struct mallinfo small {};
    small.arena = static_cast<int>(m.arena);
    small.ordblks = static_cast<int>(m.ordblks);
    small.hblks = static_cast<int>(m.hblks);
    small.hblkhd = static_cast<int>(m.hblkhd);
    small.uordblks = static_cast<int>(m.uordblks);
    small.fordblks = static_cast<int>(m.fordblks);
    small.keepcost = static_cast<int>(m.keepcost);
    return small;
}

AEP_EXPORT void malloc_stats() noexcept {
    if (process_start()) print_statistics();
}

/// An XML report like glibc's: totals, and a line for each size class in use.
AEP_EXPORT int malloc_info(int options, FILE* out) noexcept {
    if (options != 0) return EINVAL;
    const Survey s = current_survey();
    fprintf(out, "<malloc version=\"aep-1\">\n<heap nr=\"0\">\n<sizes>\n");
    for (u32 c = 0; c < CLASS_COUNT; ++c) {
        if (s.classes[c].pages == 0) continue;
        fprintf(out, "<size to=\"%zu\" pages=\"%lu\" count=\"%lu\" total=\"%lu\"/>\n",
                class_size(c), s.classes[c].pages, s.classes[c].blocks,
                s.classes[c].blocks * class_size(c));
    }
    fprintf(out, "</sizes>\n<total type=\"large\" count=\"%lu\" size=\"%lu\"/>\n", s.large_count,
            s.large_bytes);
    fprintf(out, "<total type=\"rest\" count=\"%lu\" size=\"%lu\"/>\n", s.block_count,
            s.block_bytes);
    fprintf(out, "<system type=\"current\" size=\"%lu\"/>\n</heap>\n</malloc>\n", s.chunk_bytes);
    return 0;
}

/// malloc_trim(3): 1 if memory was returned to the system.
AEP_EXPORT int malloc_trim(size_t) noexcept { return trim() ? 1 : 0; }

/// mallopt(3): glibc's parameters have no counterpart here; they are accepted and have no effect.
AEP_EXPORT int mallopt(int, int) noexcept { return 1; }
