// Purpose: pool memory that is farther away than this machine's: CxlMemory with a calibrated wait
//          for each fence that has flushes to wait for, and for each line that a client of the
//          pool has to fetch. And one that counts flushes and fences.
// Who calls it: bench/dsm, when --cxl-latency is given.
// Crash rule: no state that outlives the process but the version of each line, which only decides
//             how long somebody waits.
//
// A line is fetched when it is not among the 16,384 lines (1 MiB) that the client touched last, by
// a direct-mapped model of its cache, or when another client has written it since. Only the words
// of the protocol and of the allocator are seen; the objects' own content is not.
#pragma once

#include <time.h>
#include <x86intrin.h>

#include <vector>

#include "dsm-core/era/flush.hpp"

namespace aep::flat {

/// Ticks of the time stamp counter in a nanosecond, measured once.
inline double ticks_per_ns() {
    static const double ratio = [] {
        const auto now = [] {
            timespec t{};
            clock_gettime(CLOCK_MONOTONIC, &t);
            return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
        };
        const double begin = now();
        const u64 first = __rdtsc();
        while (now() - begin < 20e6) {
        }
        return static_cast<double>(__rdtsc() - first) / (now() - begin);
    }();
    return ratio;
}

/// Waits without giving the processor away, from when everything before it is done.
inline void wait_ticks(u64 ticks) {
    _mm_mfence();
    _mm_lfence();
    const u64 begin = __rdtsc();
    while (__rdtsc() - begin < ticks) _mm_pause();
}

/// One for each client. `versions`: VERSIONS counters that all clients of the pool share.
class EmulatedMemory {
  public:
    using Version = std::atomic<u32>;
    static constexpr usize VERSIONS = usize{1} << 20;

    EmulatedMemory(const era::CxlMemory& memory, u64 latency_ns, const void* base,
                   Version* versions)
        : memory_(memory),
          ticks_(static_cast<u64>(static_cast<double>(latency_ns) * ticks_per_ns())),
          base_(reinterpret_cast<uptr>(base)),
          versions_(versions),
          cache_(CACHED) {}

    u64 load(const era::Word& word) {
        fetch(word);
        return memory_.load(word);
    }
    void store(era::Word& word, u64 value) {
        Line& line = fetch(word);
        memory_.store(word, value);
        line.version = version(line.number).fetch_add(1, std::memory_order_relaxed) + 1;
    }
    bool cas(era::Word& word, u64 expected, u64 desired) {
        Line& line = fetch(word);
        const bool changed = memory_.cas(word, expected, desired);
        line.version = version(line.number).fetch_add(1, std::memory_order_relaxed) + 1;
        return changed;
    }
    void flush(const era::Word& word) {
        memory_.flush(word);
        flushed_ = true;
    }
    void fence() {
        memory_.fence();
        if (flushed_) {
            wait_ticks(ticks_);
            flushed_ = false;
        }
    }

  private:
    static constexpr usize CACHED = usize{1} << 14;
    struct Line {
        u64 number = ~u64{0};
        u32 version = 0;
    };

    Version& version(u64 line) { return versions_[line % VERSIONS]; }
    Line& fetch(const era::Word& word) {
        const u64 number = (reinterpret_cast<uptr>(&word) - base_) / CACHE_LINE;
        Line& line = cache_[number % CACHED];
        const u32 now = version(number).load(std::memory_order_relaxed);
        if (line.number != number || line.version != now) {
            wait_ticks(ticks_);
            line = {number, now};
        }
        return line;
    }

    era::CxlMemory memory_;
    u64 ticks_;
    uptr base_;
    Version* versions_;
    std::vector<Line> cache_;
    bool flushed_ = false;
};

/// Counts what the protocol asks for, and does it.
class CountingMemory {
  public:
    explicit CountingMemory(const era::CxlMemory& memory) : memory_(memory) {}
    u64 load(const era::Word& word) { return memory_.load(word); }
    void store(era::Word& word, u64 value) { memory_.store(word, value); }
    bool cas(era::Word& word, u64 expected, u64 desired) {
        return memory_.cas(word, expected, desired);
    }
    void flush(const era::Word& word) {
        memory_.flush(word);
        ++flushes;
    }
    void fence() {
        memory_.fence();
        ++fences;
    }
    u64 flushes = 0;
    u64 fences = 0;

  private:
    era::CxlMemory memory_;
};

}  // namespace aep::flat
