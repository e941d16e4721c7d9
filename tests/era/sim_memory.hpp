// Purpose: machines that share memory, in one thread: each has a write-back cache that is lost with
//          it, line by line, unless it was flushed or another machine has looked. The protocol's
//          own code runs on it: this is its Memory.
// Who calls it: the tests of dsm-core/era.
// Crash rule: this is the test of the crash rules.
#pragma once

#include <cstring>
#include <functional>
#include <vector>

#include "dsm-core/era/flush.hpp"

namespace aep::era::test {

inline constexpr u32 NO_HOST = 0xffff'ffff;

/// What a broken variant of the protocol leaves out. Tests that the tests can fail.
struct Sabotage {
    bool no_tell = false;           // the matrix is not written
    bool no_foreign_flush = false;  // a count word that another lane wrote is not flushed
    bool no_record = false;         // flushes of redo records do nothing, and so on
    bool no_seen = false;           //
    bool no_count = false;          //
    bool no_cell = false;           //
    bool no_epoch = false;          // of the lane's epoch, at a renewal
};

/// Lines that are dirty in a machine's cache, and memory behind them.
class SimMemory {
  public:
    SimMemory() = default;
    SimMemory(const SimMemory&) = delete;
    SimMemory& operator=(const SimMemory&) = delete;

    /// Begins anew: everything zero. `before` is called before each access and may switch to
    /// another caller; `host` and `caller` then say who goes on.
    void reset(const Tables& tables, usize bytes) {
        t = &tables;
        lines_ = bytes / CACHE_LINE;
        memory_.assign(bytes / sizeof(u64), 0);
        std::memset(tables.base, 0, bytes);
        state_.assign(lines_, Line{});
        pending_.clear();
        host = 0;
        caller = 0;
    }

    u64 load(const Word& word) {
        before(Access::load, word);
        touch(word, false);
        return word.load(std::memory_order_relaxed);
    }
    void store(Word& word, u64 value) {
        before(Access::store, word);
        touch(word, true);
        word.store(value, std::memory_order_relaxed);
    }
    bool cas(Word& word, u64 expected, u64 desired) {
        before(Access::cas, word);
        if (sabotage.no_tell && region_of(word) == Region::seen) return true;
        touch(word, true);
        return word.compare_exchange_strong(expected, desired, std::memory_order_relaxed);
    }
    /// Notes the line as it is; it reaches memory at the caller's next fence, at the latest.
    void flush(const Word& word) {
        before(Access::flush, word);
        if (ignored(word)) return;
        const usize line = line_of(word);
        Flush f{caller, line, state_[line].version, {}};
        std::memcpy(f.content, t->base + line * CACHE_LINE, CACHE_LINE);
        pending_.push_back(f);
    }
    void fence() {
        before(Access::fence, t->node(0));
        std::erase_if(pending_, [this](const Flush& f) {
            if (f.caller != caller) return false;
            Line& line = state_[f.line];
            if (f.version > line.saved) {
                std::memcpy(memory_.data() + f.line * WORDS, f.content, CACHE_LINE);
                line.saved = f.version;
                line.owner = line.saved == line.version ? NO_HOST : line.owner;
            }
            return true;
        });
    }

    /// The dirty lines of a machine.
    std::vector<usize> dirty(u32 of) const {
        std::vector<usize> found;
        for (usize i = 0; i < lines_; ++i)
            if (state_[i].owner == of) found.push_back(i);
        return found;
    }
    /// A dirty line is lost with its machine, or was written back at the last moment.
    void settle(usize line, bool lost) {
        if (lost) {
            std::memcpy(t->base + line * CACHE_LINE, memory_.data() + line * WORDS, CACHE_LINE);
            state_[line].version = state_[line].saved = state_[line].version + 1;
            state_[line].owner = NO_HOST;
        } else {
            write_back(line);
        }
    }
    /// A line goes to memory because the cache needs room.
    void evict(usize line) { write_back(line); }
    /// Nothing is in any cache.
    void write_back_all() {
        for (usize i = 0; i < lines_; ++i) write_back(i);
        pending_.clear();
    }

    enum class Region : u8 { node, record, epoch, seen, ref, ring, letter, object, chunk };
    Region region_of(const Word& word) const {
        const usize offset = t->offset_of(word);
        if (offset < t->at.lanes) return Region::node;
        if (offset < t->at.seen) {
            return (offset - t->at.lanes) % sizeof(LaneEntry) < sizeof(RedoRecord) ? Region::record
                                                                                   : Region::epoch;
        }
        if (offset < t->at.refs) return Region::seen;
        if (offset < t->at.rings) return Region::ref;
        if (offset < t->at.objects) {
            const usize in_ring = (offset - t->at.rings) % t->at.ring;
            const bool cell = in_ring < 2 * CACHE_LINE || in_ring % sizeof(MessageEntry) == 0;
            return cell ? Region::ring : Region::letter;
        }
        return offset < t->at.bytes ? Region::object : Region::chunk;
    }

    std::function<void(Access, const Word&)> before = [](Access, const Word&) {};
    Sabotage sabotage;
    u32 host = 0;    // whose cache
    u32 caller = 0;  // whose flushes wait for whose fence

  private:
    static constexpr usize WORDS = CACHE_LINE / sizeof(u64);
    struct Line {
        u32 owner = NO_HOST;  // dirty in this machine's cache only
        u32 writer = 0;       // caller of the last store
        u64 version = 0;      // of what everybody sees
        u64 saved = 0;        // of what memory has
    };
    struct Flush {
        u32 caller;
        usize line;
        u64 version;
        u64 content[WORDS];
    };

    usize line_of(const Word& word) const { return t->offset_of(word) / CACHE_LINE; }

    /// Another machine's dirty line is written back before we see it.
    void touch(const Word& word, bool write) {
        const usize i = line_of(word);
        if (state_[i].owner != NO_HOST && state_[i].owner != host) write_back(i);
        if (write) {
            state_[i].owner = host;
            state_[i].writer = caller;
            ++state_[i].version;
        }
    }
    void write_back(usize i) {
        std::memcpy(memory_.data() + i * WORDS, t->base + i * CACHE_LINE, CACHE_LINE);
        state_[i].saved = state_[i].version;
        state_[i].owner = NO_HOST;
    }
    bool ignored(const Word& word) const {
        switch (region_of(word)) {
            case Region::record:
                return sabotage.no_record;
            case Region::seen:
                return sabotage.no_seen;
            case Region::epoch:
                return sabotage.no_epoch;
            case Region::ref:
            case Region::ring:
            case Region::letter:
                return sabotage.no_cell;
            case Region::object:
                return sabotage.no_count ||
                       (sabotage.no_foreign_flush && state_[line_of(word)].writer != caller);
            default:
                return false;
        }
    }

    const Tables* t = nullptr;
    usize lines_ = 0;
    std::vector<u64> memory_;  // what survives
    std::vector<Line> state_;
    std::vector<Flush> pending_;
};

}  // namespace aep::era::test
