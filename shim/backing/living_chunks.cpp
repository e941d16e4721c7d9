// Purpose: see living_chunks.hpp.
// Who calls it: see living_chunks.hpp.
// Crash rule: see living_chunks.hpp.
#include "shim/backing/living_chunks.hpp"

#include "dsm-core/era/region.hpp"
#include "shim/sys/syscall.hpp"

namespace aep {

namespace {

/// Whether a node ever took part: until then all of it are holes, and to look at one takes memory.
/// What cannot be read may say so.
bool somebody_may_have_shared(const PoolFile& file, int fd) {
    const Superblock& s = file.superblock;
    for (u32 i = 0; i < s.era.nodes; ++i) {
        u64 word = 0;
        const u64 at = s.era_offset + i * sizeof(era::NodeEntry);
        if (!read_pool(file, fd, &word, sizeof word, at) || word != 0) return true;
    }
    return false;
}

}  // namespace

LivingChunks::LivingChunks(const PoolFile& file, int fd) {
    const Superblock& s = file.superblock;
    if (!somebody_may_have_shared(file, fd)) return;
    // A mapping of its own: the process's may be without access.
    const u64 begin = round_down(s.era_offset, file.page_bytes);
    const usize mapped = round_up(s.era_offset + s.era_bytes - begin, file.page_bytes);
    const long at = sys::mmap(0, mapped, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, begin);
    const long own = sys::mmap(0, s.chunk_count, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    if (!sys::failed(own)) {
        marks_ = reinterpret_cast<u8*>(own);
        bytes_ = s.chunk_count;
    }
    unknown_ = sys::failed(at) || sys::failed(own);
    if (!unknown_) {
        u8* tables = reinterpret_cast<u8*>(at) + (s.era_offset - begin);
        era::each_living_span(era::tables_at(tables, s.era), s.chunk_count,
                              [this](u32 first, u32 end) {
                                  for (u32 c = first; c < end; ++c) marks_[c] = 1;
                              });
    }
    if (!sys::failed(at)) sys::munmap(static_cast<uptr>(at), mapped);
}

LivingChunks::~LivingChunks() {
    if (marks_ != nullptr) sys::munmap(reinterpret_cast<uptr>(marks_), bytes_);
}

}  // namespace aep
