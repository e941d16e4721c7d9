// Purpose: pool memory that writes back what the published code of CXL-SHM writes back, and no more:
//          the flat baseline as such systems are run today. Counted in its sources: an allocation writes
//          back the line of its root reference, under one fence; the first one from a page also
//          the redo area and the page, under another; each other change of a reference the redo record
//          before its compare-and-swap, which is the fence, and once more if the count word shows
//          an era that was not seen before.
// Who calls it: bench/dsm, tests/flat, as the template argument Memory of a Client.
// Crash rule: none that holds: what is lost with a machine's cache may leave a count wrong. With
//             CxlMemory in its place a client loses nothing.
#pragma once

#include "bench/flat/pool.hpp"
#include "dsm-core/era/flush.hpp"

namespace aep::flat {

template <class Under>
class PublishedMemory {
  public:
    explicit PublishedMemory(Under under) : under_(std::move(under)) {}

    u64 load(const era::Word& word) { return under_.load(word); }
    void store(era::Word& word, u64 value) { under_.store(word, value); }
    bool cas(era::Word& word, u64 expected, u64 desired) {
        return under_.cas(word, expected, desired);
    }
    /// What the protocol asks for is done where the published code does it.
    void flush(const era::Word& word) {
        if (tables_ == nullptr || allocating_) return;
        if (is_begun_record(word) || is_seen_era(word)) under_.flush(word);
    }
    void fence() {}

    /// Which words they are. By the client, once.
    void belongs_to(const era::Tables& tables) { tables_ = &tables; }
    /// The object is made by transactions that write nothing back, until its root reference is.
    void allocation_begins() { allocating_ = true; }
    void allocation_ends(const era::Word& root) {
        allocating_ = false;
        under_.flush(root);
        under_.fence();
    }
    /// The first allocation from a page.
    void page_begins(const era::Word& record, const era::Word& page) {
        under_.flush(record);
        under_.flush(page);
        under_.fence();
    }

    Under& under() { return under_; }

  private:
    /// A redo record of what begins, and not of what has ended: that the published code leaves in
    /// the cache.
    bool is_begun_record(const era::Word& word) {
        const usize at = tables_->offset_of(word);
        if (at < tables_->at.lanes || at >= tables_->at.seen) return false;
        const era::RedoKind kind = era::RedoHead{under_.load(word)}.kind();
        return kind == era::RedoKind::attach || kind == era::RedoKind::release ||
               kind == era::RedoKind::move;
    }
    bool is_seen_era(const era::Word& word) const {
        const usize at = tables_->offset_of(word);
        return at >= tables_->at.seen && at < tables_->at.refs;
    }

    Under under_;
    const era::Tables* tables_ = nullptr;  // null: it joins
    bool allocating_ = false;
};

/// Whether a memory wants to be told what its client is doing.
template <class Memory>
inline constexpr bool is_published = false;
template <class Under>
inline constexpr bool is_published<PublishedMemory<Under>> = true;

}  // namespace aep::flat
