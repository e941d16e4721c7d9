// Purpose: a client as the tests need one: attaches over a connection, maps all that it was given,
//          works through the image, and can be left in any state to be killed in.
// Who calls it: tests/node/*.cpp, in a process of its own each.
// Crash rule: it is there to be killed.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

#include "aep-lib/image/enter.hpp"
#include "dsm-core/context/node_ops.hpp"
#include "dsm-core/sharing/format.hpp"
#include "shim/backing/pool_file.hpp"
#include "shim/context/context_file.hpp"
#include "tests/node/attach.hpp"

namespace aep::test {

inline void must(bool holds, const char* what) {
    if (!holds) throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}
inline void must_map(long result, const char* what) {
    errno = result < 0 ? static_cast<int>(-result) : 0;
    must(result >= 0, what);
}

class Client {
  public:
    /// Maps what the descriptors of a good answer give.
    Client(const AnswerMessage& answer, UniqueFd (&fds)[ATTACH_FDS])
        : client_(answer.client), generation_(answer.generation) {
        const int fd = fds[FD_CONTEXT].get();
        life_ = mmap(nullptr, OS_PAGE_SIZE, PROT_NONE, MAP_SHARED, fds[FD_LIFE].get(), 0);
        must(life_ != MAP_FAILED, "life");
        madvise(life_, OS_PAGE_SIZE, MADV_DONTFORK);
        ContextHeader header;
        if (const ContextFault fault = verify_context(fd, header))
            throw std::runtime_error(fault.field);
        const bool member = answer.provider == static_cast<u32>(Provider::kernel);
        if (member) {
            must_map(check_membership(header), "membership");
        } else {
            const int image = fds[FD_IMAGE].get();
            must_map(map_control(fd, header), "control");
            must_map(map_stacks(fd, header, false), "stacks");
            must_map(map_image(image, BUILT_IMAGE_BYTES, ImageUse::enter), "image");
        }
        must_map(map_heap_metadata(fd, header), "metadata");
        must_map(map_domain(fd, client_), "domain");
        must(pread(fds[FD_POOL].get(), &pool_.superblock, sizeof pool_.superblock, 0) ==
                 sizeof pool_.superblock,
             "superblock");
        pool_.page_bytes = OS_PAGE_SIZE;
        must_map(map_pool_file(pool_, fds[FD_POOL].get(), nullptr), "pool");
        if (shares_between_nodes()) must_map(open_era_region(pool_), "what nodes share");
        for (u32 i = 0; i < host_slot() && slot_ == nullptr; ++i) {
            u64 nobody = 0;
            if (slot_at(i).owner.compare_exchange_strong(
                    nobody, SlotOwner::make(client_, generation_).bits)) {
                slot_ = &slot_at(i);
                must_map(member ? commit_stack(i) : open_stack(i), "stack");
            }
        }
        must(slot_ != nullptr, "slot");
        heap_ = ask(op::AcquireHeap{}).heap;
    }

    u32 number() const { return client_; }

    /// Performs one operation in the image.
    template <class O>
    typename O::Reply ask(const O& o) {
        return perform_through(*slot_, o);
    }

    /// Takes chunks into the domain; the first one's index, or NO_CHUNK.
    u32 claim(u32 count) {
        const auto claimed = ask(op::ClaimChunks{.count = count});
        if (claimed.status != Status::ok) return raw(NO_CHUNK);
        ask(op::AddChunks{.first = claimed.first,
                          .count = count,
                          .dirty = !claimed.clean,
                          .zero = claimed.clean,
                          .committed = true});
        return raw(claimed.first);
    }

    /// As malloc does: a block of class `c`, on a new page when there is none with room. Null: no
    /// memory.
    PageDesc* take_block(u32 c) {
        PageDesc* page = heap_->queues[c].head;
        if (page_hand(page) == 0) {
            const auto found = ask(op::Refill{.heap = heap_, .size_class = c});
            page = found.status == Status::ok ? found.page : new_page(c);
            if (page == nullptr) return nullptr;
        }
        uptr block;
        page_take(page, block);
        return last_ = page;
    }
    PageDesc* new_page(u32 c) {
        const op::TakeRun take{.heap = heap_, .slices = page_slices(c), .alignment = 1};
        auto taken = ask(take);
        if (taken.status != Status::ok) {
            if (claim(1) == raw(NO_CHUNK)) return nullptr;
            taken = ask(take);
        }
        return ask(op::Refill{.heap = heap_, .size_class = c, .run = taken.run}).page;
    }
    /// A page's worth of live blocks; how many; fewer: no memory.
    u32 fill_page(u32 c) {
        const usize bytes = usize{page_slices(c)} << SLICE_SHIFT;
        const u32 capacity = static_cast<u32>(bytes / class_size(c));
        for (u32 i = 0; i < capacity; ++i)
            if (take_block(c) == nullptr) return i;
        return capacity;
    }
    u64 fill(u32 pages, usize bytes) {
        u64 blocks = 0;
        for (u32 i = 0; i < pages; ++i) blocks += fill_page(class_of(bytes));
        return blocks;
    }

    /// A large object of so many slices.
    uptr large(u32 slices) {
        const op::TakeRun take{.heap = heap_, .slices = slices, .alignment = 1, .thorough = true};
        auto taken = ask(take);
        if (taken.status != Status::ok) {
            if (claim(slices / SLICES_PER_CHUNK + 1) == raw(NO_CHUNK)) return 0;
            taken = ask(take);
        }
        ask(op::MakeLarge{.run = taken.run});
        return taken.run.address();
    }

    /// Operations without end.
    [[noreturn]] void churn() {
        for (u32 i = 0;; ++i) {
            take_block(class_of(16 + i * 48 % 4000));
            const auto taken =
                ask(op::TakeRun{.heap = heap_, .slices = 1 + i % 40, .alignment = 1});
            if (taken.status == Status::ok)
                ask(op::GiveRun{.first = taken.run.first, .slices = taken.run.slices});
            const u32 chunks = 1 + i % 2;
            const auto claimed = ask(op::ClaimChunks{.count = chunks});
            for (u32 c = 0; claimed.status == Status::ok && c < chunks; ++c) {
                ask(op::ReturnChunk{.chunk = ChunkIndex{raw(claimed.first) + c},
                                    .clean = claimed.clean && i % 3 == 0});
            }
        }
    }

    /// As another thread of ours would, without telling the owner: only the mark.
    void mark_remote(u32 bit) { last_->bits[bit / 64].freed.fetch_or(u64{1} << bit % 64); }

    /// From here on the slot looks as if the thread were inside operation `number`.
    void pretend_inside(u32 number) {
        slot_->op = number;
        slot_->sequence.fetch_add(1);
    }

    /// Nobody's lock, as an operation takes it.
    void take_lock() {
        log_in(slot());
        undo_log().note_lock(0, share_client(0).lock.taken());
        share_client(0).lock.taken().lock(slot());
    }

    /// As if inside an operation of sharing, in the middle of its changes: it has the lock, and a
    /// count is one too high.
    void pretend_half_way(u32 number) {
        pretend_inside(number);
        take_lock();
        slot_->turns.fetch_add(1);
        ++share_client(0).exports;
    }

    u32 index() const { return client_; }
    u32 slot() const { return index_of(*slot_); }
    Slot& slot_entry() { return *slot_; }
    Domain& domain() { return domain_at(client_); }
    Heap* heap() { return heap_; }

  private:
    u32 client_;
    u32 generation_;
    void* life_ = nullptr;
    PoolFile pool_{};
    Slot* slot_ = nullptr;
    Heap* heap_ = nullptr;
    PageDesc* last_ = nullptr;
};

}  // namespace aep::test
