// Purpose: see session.hpp.
// Who calls it: the property tests, the fuzz target.
// Crash rule: a broken property is a message on fd 2 and an abort.
#include "tests/property/session.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "dsm-core/heap/check.hpp"
#include "shim/driver/allocator.hpp"
#include "shim/driver/growth.hpp"
#include "shim/driver/report.hpp"
#include "shim/driver/thread.hpp"
#include "shim/driver/transact.hpp"

namespace aep::test {

namespace {

/// Contents are written and compared in full up to here, beyond it in the first bytes of each OS
/// page and at the end.
constexpr usize FULL_BYTES = 8 * KiB;
constexpr usize SAMPLE = 16;

/// Calls f(address, bytes) for the parts of the first `bytes` of a block that carry its pattern.
template <class F>
void for_samples(uptr p, usize block_size, usize bytes, F&& f) {
    if (block_size <= FULL_BYTES) return f(p, bytes);
    for (usize at = 0; at + SAMPLE <= bytes; at += OS_PAGE_SIZE) f(p + at, SAMPLE);
}

Heap* acquire() {
    for (;;) {
        const auto r = transact(op::AcquireHeap{});
        if (r.status == Status::ok) return r.heap;
        if (!add_heaps()) return nullptr;
    }
}

}  // namespace

Session::Session(Choices& choices, const Options& options) : choices_(choices), options_(options) {
    actors_[0] = attached_heap();
    if (actors_[0] == nullptr) broken("no heap", 0);
    for (u32 i = 1; i < ACTORS; ++i) actors_[i] = acquire();
}

void Session::broken(const char* what, uptr p, u64 found, u64 expected) {
    std::fprintf(stderr,
                 "%s: seed %llu, step %llu: %s; block 0x%llx, found 0x%llx, expected 0x%llx; %zu "
                 "blocks live\n",
                 options_.name, static_cast<unsigned long long>(options_.seed),
                 static_cast<unsigned long long>(steps_), what, static_cast<unsigned long long>(p),
                 static_cast<unsigned long long>(found), static_cast<unsigned long long>(expected),
                 live_.size());
    std::abort();
}

void Session::check(const char* when) {
    CheckReport report;
    if (check_domain(domain(), report)) return;
    std::fprintf(stderr, "%s: broken invariant %s: %s; %s\n", options_.name, when, report.broken,
                 report.kind);
    broken(report.broken, report.object, report.found, report.expected);
}

void Session::take_turn() {
    actor_ = choices_.below(ACTORS);
    use_heap(actors_[actor_]);
}

usize Session::some_size() {
    const u32 kind = choices_.below(16);
    const u32 fine = choices_.below(4096);
    if (kind < 6) return fine % (MAX_DIRECT + 1);
    if (kind < 9) return fine * 4;
    if (kind < 12) return fine * 33;                                     // up to 132 KiB
    if (kind < 13) return class_size(fine % CLASS_COUNT) + fine / 2048;  // at and behind a class
    if (kind < 15) return MAX_CLASS_SIZE + usize{fine} * 509;            // up to 2 MiB
    return usize{fine} * 3 * KiB;                                        // up to 12 MiB
}

uptr Session::some_block() {
    if (order_.empty()) return 0;
    return order_[choices_.below(static_cast<u32>(order_.size()))];
}

void Session::fill(uptr p, const Block& b) {
    for_samples(p, b.size, b.size,
                [&](uptr at, usize n) { std::memset(reinterpret_cast<void*>(at), b.fill, n); });
    if (b.size != 0) *reinterpret_cast<u8*>(p + b.size - 1) = b.fill;
}

void Session::verify(uptr p, const Block& b, usize bytes) {
    for_samples(p, b.size, bytes < b.size ? bytes : b.size, [&](uptr at, usize n) {
        for (usize i = 0; i < n; ++i) {
            const u8 found = reinterpret_cast<u8*>(at)[i];
            if (found != b.fill) broken("a block's contents changed", at + i, found, b.fill);
        }
    });
    if (bytes >= b.size && b.size != 0 && *reinterpret_cast<u8*>(p + b.size - 1) != b.fill)
        broken("a block's last byte changed", p, *reinterpret_cast<u8*>(p + b.size - 1), b.fill);
}

void Session::expect_zero(uptr p, usize bytes) {
    const u8* b = reinterpret_cast<u8*>(p);
    if (bytes == 0 || (b[0] == 0 && std::memcmp(b, b + 1, bytes - 1) == 0)) return;
    usize i = 0;
    while (b[i] == 0) ++i;
    broken("calloc's memory is not zero", p + i, b[i]);
}

/// Enters a block into the model, where it must fit between its neighbours.
void Session::add(void* memory, usize size, usize alignment, bool zeroed) {
    if (memory == nullptr) {
        if (!options_.may_fail) broken("no memory", 0, size);
        ++refusals_;
        return;
    }
    const uptr p = reinterpret_cast<uptr>(memory);
    const usize usable = usable_size(memory);
    if (p % alignment != 0) broken("not aligned", p, p % alignment, alignment);
    if (usable < size || usable == 0) broken("usable size is too small", p, usable, size);
    const auto after = live_.lower_bound(p);
    if (after != live_.end() && after->first < p + usable)
        broken("overlaps the block behind it", p, after->first);
    if (after != live_.begin()) {
        const auto before = std::prev(after);
        if (before->first + before->second.usable > p)
            broken("overlaps the block before it", p, before->first);
    }
    if (zeroed) expect_zero(p, size);
    const Block b{size, usable, ++next_fill_};
    live_.emplace(p, b);
    place_[p] = order_.size();
    order_.push_back(p);
    live_bytes_ += usable;
    fill(p, b);
}

void Session::free_block(uptr p) {
    const auto it = live_.find(p);
    verify(p, it->second, it->second.size);
    if (usable_size(reinterpret_cast<void*>(p)) != it->second.usable)
        broken("usable size changed", p, usable_size(reinterpret_cast<void*>(p)),
               it->second.usable);
    live_bytes_ -= it->second.usable;
    live_.erase(it);
    const usize at = place_[p];
    place_.erase(p);
    if (order_.back() != p) {
        order_[at] = order_.back();
        place_[order_[at]] = at;
    }
    order_.pop_back();
    deallocate(reinterpret_cast<void*>(p));
}

void Session::do_allocate() {
    const usize size = some_size();
    add(allocate(size), size, MIN_ALIGNMENT, false);
}

void Session::do_zeroed() {
    const usize size = some_size();
    add(allocate_zeroed(size), size, MIN_ALIGNMENT, true);
}

void Session::do_aligned() {
    const usize alignment = usize{1} << choices_.below(24);
    usize size = some_size();
    if (size > MiB) size /= 8;
    add(allocate_aligned(alignment, size), size, alignment, false);
}

void Session::do_reallocate() {
    const uptr p = some_block();
    if (p == 0) return;
    const Block old = live_.at(p);
    usize size = 0;
    switch (choices_.below(4)) {
        case 0:
            size = some_size();
            break;
        case 1:
            size = old.size + 1 + old.size / 2;
            break;
        case 2:
            size = old.size / 2;
            break;
        default:
            size = old.usable + choices_.below(3) - 1;
    }
    if (size == 0 || size > 16 * MiB) size = 1;
    verify(p, old, old.size);
    // Taken out of the model while it moves: whoever gets the same place now would be found by the
    // next add.
    void* q = reallocate(reinterpret_cast<void*>(p), size);
    if (q == nullptr) {
        if (!options_.may_fail) broken("realloc: no memory", p, size);
        ++refusals_;
        verify(p, old, old.size);
        if (usable_size(reinterpret_cast<void*>(p)) != old.usable)
            broken("a refused realloc changed the block", p);
        return;
    }
    live_bytes_ -= old.usable;
    live_.erase(p);
    const usize at = place_[p];
    place_.erase(p);
    if (order_.back() != p) {
        order_[at] = order_.back();
        place_[order_[at]] = at;
    }
    order_.pop_back();
    verify(reinterpret_cast<uptr>(q), old, size < old.size ? size : old.size);
    add(q, size, MIN_ALIGNMENT, false);
}

void Session::do_free() {
    if (const uptr p = some_block()) free_block(p);
}

/// Many blocks of one size: pages fill, become full, and empty again in another order, perhaps by
/// other actors.
void Session::do_burst() {
    const u32 count = 1 + choices_.below(200);
    if (!growing_) {
        const bool all_mine = choices_.below(2) == 0;
        for (u32 i = 0; i < count && !order_.empty(); ++i) {
            if (!all_mine) take_turn();
            do_free();
        }
        return;
    }
    usize size = some_size();
    if (size > 16 * KiB) size = 16 * KiB;
    for (u32 i = 0; i < count && live_bytes_ < options_.max_live; ++i)
        add(allocate(size), size, MIN_ALIGNMENT, false);
}

/// Frees that must be refused and change nothing (the settings say: ignore).
void Session::do_bad_free() {
    const uptr p = some_block();
    if (p == 0 || !options_.bad_frees) return;
    const Block& b = live_.at(p);
    const u64 before = bad_free_count();
    deallocate(reinterpret_cast<void*>(
        p + 1 + choices_.below(static_cast<u32>(b.usable < 100'000 ? b.usable - 1 : 99'999))));
    if (bad_free_count() != before + 1) broken("an interior free was not noticed", p, b.size);
    verify(p, b, b.size);
}

/// The actor's thread ends; another takes its place, with a heap of its own or with one that was
/// left.
void Session::do_end() {
    if (actor_ == 0) return;
    transact(op::AbandonHeap{.heap = thread_heap, .now = now_ms()});
    thread_heap = actors_[0];
    actors_[actor_] = acquire();
    actor_ = 0;
}

void Session::step() {
    ++steps_;
    take_turn();
    if (choices_.below(300) == 0) growing_ = !growing_;
    if (live_bytes_ > options_.max_live) growing_ = false;
    if (live_bytes_ < options_.max_live / 8) growing_ = true;
    const u32 what = choices_.below(64);
    if (what < 24)
        if (growing_)
            do_allocate();
        else
            do_free();
    else if (what < 36)
        do_free();
    else if (what < 42)
        do_zeroed();
    else if (what < 46)
        do_aligned();
    else if (what < 54)
        do_reallocate();
    else if (what < 59)
        do_burst();
    else if (what < 61)
        do_bad_free();
    else if (what < 63)
        do_end();
    else
        trim();
    if (steps_ % options_.check_every == 0) check("after a step");
}

void Session::finish() {
    while (!order_.empty()) {
        if (order_.size() % 7 == 0) take_turn();
        free_block(order_.back());
    }
    check("when everything was freed");
    for (u32 i = 1; i < ACTORS; ++i) transact(op::AbandonHeap{.heap = actors_[i], .now = now_ms()});
    thread_heap = actors_[0];
    trim();
    check("at the end");
    CheckReport report;
    check_domain(domain(), report);
    if (report.live_blocks != 0)
        broken("blocks are live though all were freed", 0, report.live_blocks);
    if (report.large_objects != 0)
        broken("objects are live though all were freed", 0, report.large_objects);
    if (report.pages != 0) broken("pages remain though nothing lives on them", 0, report.pages);
}

}  // namespace aep::test
