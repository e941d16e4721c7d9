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
        if (const ContextFault fault = verify_context(fd, header)) {
            throw std::runtime_error(fault.field);
        }
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
        heap_ = reinterpret_cast<Heap*>(ask(Op::heap_acquire, {}).value);
    }

    u32 number() const { return client_; }

    /// Performs one operation in the image.
    Reply ask(u32 number, const Request& request) {
        slot_->op = number;
        slot_->request = request;
        enter_image()(slot_);
        return slot_->reply;
    }
    Reply ask(Op op, Request request) {
        request.op = op;
        return ask(static_cast<u32>(op), request);
    }
    Reply ask(NodeOp op, const Request& request) { return ask(static_cast<u32>(op), request); }

    /// Takes chunks into the domain; the first one's index, or NO_CHUNK.
    u32 claim(u32 count) {
        Request request{};
        request.a = count;
        request.b = 1;
        request.mask = raw(NO_CHUNK);
        const Reply reply = ask(NodeOp::claim_chunks, request);
        if (reply.status != Status::ok) return raw(NO_CHUNK);
        Request add{};
        add.a = reply.value;
        add.b = count;
        add.zero = reply.mask != 0;
        add.committed = true;
        add.mask = reply.mask != 0 ? 0 : ~u64{0};
        ask(Op::add_chunks, add);
        return static_cast<u32>(reply.value);
    }

    /// As malloc does: a block of class `c`, on a new page when there is none with room. Null: no
    /// memory.
    PageDesc* take_block(u32 c) {
        PageDesc* page = heap_->queues[c].head;
        if (page_hand(page) == 0) {
            Request find{};
            find.heap = heap_;
            find.a = c;
            const Reply found = ask(Op::find_page, find);
            page =
                found.status == Status::ok ? reinterpret_cast<PageDesc*>(found.value) : new_page(c);
            if (page == nullptr) return nullptr;
        }
        uptr block;
        page_take(page, block);
        return last_ = page;
    }
    PageDesc* new_page(u32 c) {
        Request take{};
        take.heap = heap_;
        take.a = page_slices(c);
        take.b = 1;
        Reply run = ask(Op::take_run, take);
        if (run.status != Status::ok) {
            if (claim(1) == raw(NO_CHUNK)) return nullptr;
            run = ask(Op::take_run, take);
        }
        Request birth{};
        birth.heap = heap_;
        birth.a = c;
        birth.run = run.run;
        return reinterpret_cast<PageDesc*>(ask(Op::page_birth, birth).value);
    }
    /// A page's worth of live blocks; how many; fewer: no memory.
    u32 fill_page(u32 c) {
        const usize bytes = usize{page_slices(c)} << SLICE_SHIFT;
        const u32 capacity = static_cast<u32>(bytes / class_size(c));
        for (u32 i = 0; i < capacity; ++i) {
            if (take_block(c) == nullptr) return i;
        }
        return capacity;
    }
    u64 fill(u32 pages, usize bytes) {
        u64 blocks = 0;
        for (u32 i = 0; i < pages; ++i) blocks += fill_page(class_of(bytes));
        return blocks;
    }

    /// A large object of so many slices.
    uptr large(u32 slices) {
        Request take{};
        take.heap = heap_;
        take.a = slices;
        take.b = 1;
        take.thorough = true;
        Reply run = ask(Op::take_run, take);
        if (run.status != Status::ok) {
            if (claim(slices / SLICES_PER_CHUNK + 1) == raw(NO_CHUNK)) return 0;
            run = ask(Op::take_run, take);
        }
        Request birth{};
        birth.run = run.run;
        ask(Op::large_birth, birth);
        return run.run.address();
    }

    /// Operations without end.
    [[noreturn]] void churn() {
        for (u64 i = 0;; ++i) {
            take_block(class_of(16 + i * 48 % 4000));
            Request take{};
            take.heap = heap_;
            take.a = 1 + i % 40;
            take.b = 1;
            const Reply run = ask(Op::take_run, take);
            if (run.status == Status::ok) {
                Request give{};
                give.a = raw(run.run.first);
                give.b = run.run.slices;
                ask(Op::give_run, give);
            }
            Request chunk{};
            chunk.a = 1 + i % 2;
            chunk.b = 1;
            chunk.mask = raw(NO_CHUNK);
            const Reply claimed = ask(NodeOp::claim_chunks, chunk);
            for (u64 c = 0; claimed.status == Status::ok && c < chunk.a; ++c) {
                Request back{};
                back.a = claimed.value + c;
                back.b = claimed.mask != 0 && i % 3 == 0;
                ask(NodeOp::return_chunk, back);
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

    /// As if inside an operation of sharing, in the middle of its changes: it has the lock, and a
    /// count is one too high.
    void pretend_half_way(u32 number) {
        pretend_inside(number);
        sharing().lock.lock(slot());
        sharing().version.fetch_add(1);
        ++sharing().live_exports;
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
