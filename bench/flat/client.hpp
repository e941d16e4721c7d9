// Purpose: one client of the flat baseline: allocates, frees, sends and receives objects of a pool,
//          each change of a reference being a transaction of dsm-core/era with its flushes and
//          fences; recovers other clients that died.
// Who calls it: bench/dsm, tests/flat. A client is one thread's.
// Crash rule: what is kept here and what is in free lists may be lost: the count words tell which
//             blocks are free, the cells who refers to what, the page words whose a page is.
//             Whoever recovers a client makes the lists of its pages anew.
//
// Two rules, by its Memory. *durable* (CxlMemory): whatever part of the unflushed lines is lost, nothing is; no
// flush is made that recovery does not need: a free list is in the pool, but it is a cache of the
// count words, so its lines are not flushed. *published* (PublishedMemory): the flushes and fences that CXL-SHM's
// published code makes, which are fewer.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "bench/flat/pool.hpp"
#include "bench/flat/published.hpp"
#include "dsm-core/era/chunks.hpp"
#include "dsm-core/era/mailbox.hpp"
#include "dsm-core/era/recovery.hpp"

namespace aep::flat {

using era::Status;

/// A reference of a client: its cell, and the object.
struct Ref {
    u32 cell;
    u32 object;
};

template <class Memory>
class Client {
  public:
    /// Joins as client `number`, which must be free: joined() tells.
    Client(Memory& memory, const Pool& pool, u32 number)
        : m(memory),
          p(pool),
          t(pool.tables()),
          number_(number),
          standing_(era::join(memory, pool.tables(), number)),
          lane_(memory, pool.tables(), number, 0, standing_),
          classes_(CLASS_COUNT) {
        if constexpr (is_published<Memory>) m.belongs_to(t);
    }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    bool joined() const { return standing_.bits != 0; }
    u32 number() const { return number_; }

    /// A new object with one reference. full: no page, or no cell for the reference; invalid: too
    /// large; fenced. Cost: 4 fences, and 1 for a new page.
    Status allocate(usize size, Ref& ref) {
        if (size > p.geometry().largest()) return Status::invalid;
        u32 cell = 0;
        if (!take_cell(cell)) return Status::full;
        u32 object = 0;
        Status status = take_block(flat_class_of(size), object);
        if (status == Status::ok) {
            status = create(cell, object);
            if (status != Status::ok) give_block(object);
        }
        return gained(status, cell, object, ref);
    }

    /// Drops the reference, and the object with its last one. Cost: 4 to 7 fences.
    Status release(Ref ref) {
        const Status status = lane_.release(ref.cell);
        if (status == Status::last)
            reclaim(ref.object);
        else if (status != Status::ok)
            return status;
        free_cells_.push_back(ref.cell);
        return Status::ok;
    }

    /// One more reference to an object that somebody keeps alive meanwhile. full: no cell.
    Status attach(u32 object, Ref& ref) {
        u32 cell = 0;
        if (!take_cell(cell)) return Status::full;
        return gained(lane_.attach(cell, object), cell, object, ref);
    }

    /// Sends an object, to which this client keeps its reference, to client `to`: see era::send.
    Status send(u32 to, Ref ref) {
        const Status status = era::send(lane_, to, ref.object);
        if (status == Status::last) {
            reclaim(ref.object);
            return Status::no_node;
        }
        return status;
    }

    /// The next object that client `from` sent. empty, full (no cell), fenced.
    Status receive(u32 from, Ref& ref) {
        u32 cell = 0;
        if (!take_cell(cell)) return Status::full;
        u32 object = 0;
        const Status status = era::receive(lane_, from, cell, object);
        return gained(status, cell, object, ref);
    }

    /// Whether a message of client `from` is there: cheaper than to try. False may be wrong when a
    /// client died in the middle of a message; receive() looks at all cells.
    bool has_message(u32 from) const {
        return era::each_message(
            m, t, from, number_, false, [](const era::RemoteMessage&) { return true; });
    }
    /// Whether the next cell for client `to` is empty; as has_message().
    bool has_room(u32 to) const {
        const u64 slot = m.load(t.tail(number_, to)) % t.shape.slots;
        return m.load(t.message(number_, to, static_cast<u32>(slot))) == era::Cell::empty().bits;
    }

    /// Where the object's memory is.
    void* address(u32 object) const {
        const u32 page = p.page_of(object);
        const u32 size_class = static_cast<u32>(m.load(p.header(page).size_class));
        return p.page_address(page) + p.block_of(object) * class_size(size_class);
    }

    /// Undoes all that client `dead` left, which must be kept from the pool: its references, its
    /// messages, its pages. Those with living objects become this client's. See era::Recovery.
    Status recover(u32 dead) {
        era::Disposal disposal;
        disposal.context = this;
        disposal.reclaim = [](void* client, u32 object) {
            static_cast<Client*>(client)->give_block(object);
        };
        disposal.clean = [](void* client, u32 page) {
            return !static_cast<Client*>(client)->adopt(page);
        };
        return era::Recovery<Memory>(lane_, disposal).recover(dead);
    }

    /// Bytes of this process's own memory that are kept for references and pages.
    usize local_bytes() const {
        usize bytes = free_cells_.capacity() * sizeof(u32);
        for (const Class& k : classes_)
            bytes += sizeof k + (k.pages.capacity() + k.available.capacity()) * sizeof(u32);
        return bytes;
    }

  private:
    static constexpr u32 NONE = ~u32{0};

    /// The client's pages of one class. `available` are those with free blocks but `current`.
    struct Class {
        std::vector<u32> pages;
        std::vector<u32> available;
        u32 current = NONE;
        u32 used_up = 0;  // pages used up since the last sweep
    };

    bool take_cell(u32& cell) {
        if (!free_cells_.empty()) {
            cell = free_cells_.back();
            free_cells_.pop_back();
            return true;
        }
        cell = next_cell_;
        return next_cell_ < t.shape.refs && ++next_cell_ != 0;
    }

    Status gained(Status status, u32 cell, u32 object, Ref& ref) {
        if (status == Status::ok)
            ref = {cell, object};
        else
            free_cells_.push_back(cell);
        return status;
    }

    Status create(u32 cell, u32 object) {
        if constexpr (!is_published<Memory>) {
            return lane_.create(cell, object);
        } else {
            m.allocation_begins();
            const Status status = lane_.create(cell, object);
            m.allocation_ends(t.ref(number_, cell));
            return status;
        }
    }

    /// A new page's class is durable before its first object is.
    void publish_class(const PageHeader& h) {
        if constexpr (is_published<Memory>)
            m.page_begins(t.lane(t.writer(number_, 0)).redo.head, h.size_class);
        else
            m.flush(h.size_class);  // the fence of the first create
    }

    /// After Status::last.
    void reclaim(u32 object) {
        give_block(object);
        lane_.reclaimed();
    }

    bool mine(u32 page) const {
        return m.load(t.chunks[page]) == ChunkWord::owned(number_, standing_.generation()).bits;
    }

    bool has_free(u32 page, u32 size_class) const {
        const PageHeader& h = p.header(page);
        return m.load(h.free) != 0 || m.load(h.used) < p.capacity(size_class);
    }

    Status take_block(u32 size_class, u32& object) {
        Class& k = classes_[size_class];
        while (k.current == NONE || !pop(k.current, size_class, object)) {
            const Status status = refill(k, size_class);
            if (status != Status::ok) return status;
        }
        return Status::ok;
    }

    bool pop(u32 page, u32 size_class, u32& object) {
        PageHeader& h = p.header(page);
        if (const u64 first = m.load(h.free); first != 0) {
            object = p.object(page, static_cast<u32>(first) - 1);
            m.store(h.free, m.load(p.link(object)));
            return true;
        }
        const u64 used = m.load(h.used);
        if (used == p.capacity(size_class)) return false;
        m.store(h.used, used + 1);
        object = p.object(page, static_cast<u32>(used));
        return true;
    }

    /// Back on its page's list, if the page is ours; else its owner finds it by the count word.
    void give_block(u32 object) {
        const u32 page = p.page_of(object);
        if (!mine(page)) return;
        PageHeader& h = p.header(page);
        const u32 size_class = static_cast<u32>(m.load(h.size_class));
        Class& k = classes_[size_class];
        if (page != k.current && !has_free(page, size_class)) k.available.push_back(page);
        m.store(p.link(object), m.load(h.free));
        m.store(h.free, p.block_of(object) + 1);
    }

    /// Another page to allocate from: one with free blocks, one whose blocks were freed by others,
    /// or a new one. full: there is none.
    Status refill(Class& k, u32 size_class) {
        k.current = NONE;
        if (use_available(k)) return Status::ok;
        // As many pages were used up as half of all: a look at all their counts costs little.
        if (k.used_up >= k.pages.size() / 2 + 1) {
            sweep(k, size_class, 8);
            if (use_available(k)) return Status::ok;
        }
        Status status = claim_page(k, size_class);
        if (status != Status::full) return status;
        for (u32 c = 0; c < CLASS_COUNT; ++c) {
            sweep(classes_[c], c, ~u32{0});
            give_back_empty(classes_[c], c);
        }
        return use_available(k) ? Status::ok : claim_page(k, size_class);
    }

    bool use_available(Class& k) {
        if (k.available.empty()) return false;
        k.current = k.available.back();
        k.available.pop_back();
        ++k.used_up;
        return true;
    }

    Status claim_page(Class& k, u32 size_class) {
        for (u32 i = 0; i < t.chunk_count; ++i) {
            const u32 page = next_page_;
            next_page_ = (next_page_ + 1) % t.chunk_count;
            if (m.load(t.chunks[page]) != FREE_CHUNK.bits) continue;
            const Status status = era::claim_chunk(m, t, number_, standing_, page);
            if (status == Status::fenced) return status;
            if (status == Status::ok) {
                PageHeader& h = p.header(page);
                m.store(h.free, 0);
                m.store(h.used, 0);
                m.store(h.size_class, size_class);
                publish_class(h);
                k.pages.push_back(page);
                k.current = page;
                ++k.used_up;
                return Status::ok;
            }
        }
        return Status::full;
    }

    /// Makes a page's free list from the count words; returns its length. Nobody else frees into
    /// the list, and nobody but its owner makes objects of a page.
    u32 make_list(u32 page, u32 size_class) {
        u32 length = 0;
        u64 first = 0;
        for (u32 block = p.capacity(size_class); block-- > 0;) {
            const u32 object = p.object(page, block);
            if (m.load(t.count(object)) == era::FREE_OBJECT.bits) {
                m.store(p.link(object), first);
                first = block + 1;
                ++length;
            }
        }
        m.store(p.header(page).free, first);
        m.store(p.header(page).used, p.capacity(size_class));
        return length;
    }

    /// Looks for blocks that others freed. A page is used again if a `part`th of it is free.
    void sweep(Class& k, u32 size_class, u32 part) {
        k.used_up = 0;
        const u32 least = std::max(p.capacity(size_class) / part, u32{1});
        for (const u32 page : k.pages) {
            if (has_free(page, size_class)) continue;
            if (make_list(page, size_class) < least) {
                m.store(p.header(page).free, 0);  // later, when there is more
                continue;
            }
            k.available.push_back(page);
            k.current = k.current == page ? NONE : k.current;
        }
    }

    /// Pages without objects go back to the pool: another class or client needs one.
    void give_back_empty(Class& k, u32 size_class) {
        std::erase_if(
            k.pages,
            [&](u32 page) {
                for (u32 block = 0; block < p.capacity(size_class); ++block)
                    if (m.load(t.count(p.object(page, block))) != era::FREE_OBJECT.bits)
                        return false;
                std::erase(k.available, page);
                k.current = k.current == page ? NONE : k.current;
                era::return_chunk(m, t, number_, standing_, page);
                return true;
            });
    }

    /// A dead client's page. False: it is empty. True: it is ours from now on.
    bool adopt(u32 page) {
        bool empty = true;
        for (u32 block = 0; empty && block < p.geometry().blocks(); ++block)
            empty = m.load(t.count(p.object(page, block))) == era::FREE_OBJECT.bits;
        if (empty) return false;
        const u32 size_class = static_cast<u32>(m.load(p.header(page).size_class));
        Class& k = classes_[size_class];
        k.pages.push_back(page);
        if (make_list(page, size_class) != 0) k.available.push_back(page);
        return true;
    }

    Memory& m;
    const Pool& p;
    const era::Tables& t;
    u32 number_;
    era::NodeWord standing_;
    era::Lane<Memory> lane_;
    std::vector<Class> classes_;
    std::vector<u32> free_cells_;
    u32 next_cell_ = 0;
    u32 next_page_ = 0;
};

}  // namespace aep::flat
