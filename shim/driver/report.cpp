// Purpose: see report.hpp.
// Who calls it: shim/driver/deallocate.cpp, shim/driver/outside.cpp, shim/driver/reallocate.cpp, shim/driver/process.cpp.
// Crash rule: see report.hpp.
#include "shim/driver/report.hpp"

#include "shim/driver/process.hpp"
#include "shim/sys/message.hpp"

namespace aep {

namespace {

std::atomic<u64> ignored{0};

const char* text_of(BadFree what) {
    switch (what) {
        case BadFree::not_live:
            return "not a live block (freed twice, or never allocated)";
        case BadFree::twice:
            return "freed twice";
        case BadFree::interior:
            return "points inside a block, not at its start";
        case BadFree::foreign:
            return "foreign: not memory of this allocator";
    }
    return "bad free";
}

}  // namespace

void report_bad_free(uptr address, BadFree what) {
    MessageLine line;
    line.add("free(");
    line.add(Hex{address});
    line.add("): ");
    line.add(text_of(what));
    if (owns(reinterpret_cast<const void*>(address))) {
        const PageDesc* d = desc_of(slice_at(address));
        u32 kind = kind_of(d->tag.load(std::memory_order_relaxed));
        if (kind == TAG_TAIL) {
            d -= d->head_delta;
            kind = TAG_PAGE;
        }
        if (kind == TAG_PAGE) {
            line.add("; its page holds blocks of ");
            line.add(d->block_size);
            line.add(" bytes");
        }
    }
    line.send();
    after_bad_free();
}

void after_bad_free() {
    if (settings().on_error == OnError::abort) abort_process();
    ignored.fetch_add(1, std::memory_order_relaxed);
}

u64 bad_free_count() { return ignored.load(std::memory_order_relaxed); }

}  // namespace aep
