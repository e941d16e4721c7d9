// Purpose: the pool of the flat baseline: the tables of the era protocol with one node a client,
//          then the pages that objects lie on. "Flat" is the rule of CXL-SHM: every client takes
//          part in the protocol itself, and all metadata is in the pool.
// Who calls it: bench/flat/client.hpp; the benchmarks and tests that create a pool.
// Crash rule: a pool full of zeros is valid and empty. An object is free if and only if its count
//             word is 0; free lists are a cache of that, and are made anew from it.
//
//   tables       dsm-core/era/format.hpp; a client is a node with one lane
//   page words   one chunk word a page: whose it is
//   headers      one PageHeader a page
//   data         the pages, each with blocks of one size class
#pragma once

#include "dsm-core/era/flush.hpp"
#include "dsm-core/heap/size_class.hpp"

namespace aep::flat {

using era::Word;

/// The smallest block; a page has one object entry for each of them.
inline constexpr unsigned GRANULE_SHIFT = 6;
inline constexpr usize GRANULE = usize{1} << GRANULE_SHIFT;

/// Chosen when the pool is created, the same for every client.
struct Geometry {
    u32 clients;
    u32 refs;  // of each client
    u32 pages;
    u32 slots = 512;  // messages in each ring
    unsigned page_shift = SLICE_SHIFT;

    constexpr u32 blocks() const { return u32{1} << (page_shift - GRANULE_SHIFT); }  // of a page
    constexpr usize largest() const { return usize{1} << (page_shift - 2); }         // block
    constexpr era::Shape shape() const {
        return {.nodes = clients,
                .lanes = 1,
                .refs = refs,
                .objects = pages << (page_shift - GRANULE_SHIFT),
                .slots = slots};
    }
};

/// The class of blocks that hold `size` bytes, which is at most Geometry::largest().
constexpr u32 flat_class_of(usize size) { return class_of(size < GRANULE ? GRANULE : size); }

/// A page's state. Its first line is written by its owner at each allocation and free, its second
/// one is read by everybody who is sent an object.
struct PageHeader {
    alignas(CACHE_LINE) Word free;  // first block of the free list + 1; 0: the list is empty
    Word used;                      // blocks from here on were never handed out
    alignas(CACHE_LINE) Word size_class;
};
static_assert(sizeof(PageHeader) == 2 * CACHE_LINE);

/// A pool in a mapping. Objects are numbered page by page; the number leads to the count word and,
/// with the page's class, to the address.
class Pool {
  public:
    /// Bytes before the pages: all that the protocol and the allocator write.
    static constexpr usize metadata_bytes(const Geometry& g) {
        return round_up(headers_at(g) + g.pages * sizeof(PageHeader), OS_PAGE_SIZE);
    }
    static constexpr usize bytes(const Geometry& g) {
        return metadata_bytes(g) + (usize{g.pages} << g.page_shift);
    }

    /// The pool at `base`, which is a multiple of a cache line.
    Pool(void* base, const Geometry& geometry)
        : geometry_(geometry),
          tables_(
              era::tables_at(base, geometry.shape(),
                             reinterpret_cast<Word*>(static_cast<u8*>(base) + words_at(geometry)),
                             geometry.pages)) {}
    Pool(const Pool&) = delete;  // clients keep its address
    Pool& operator=(const Pool&) = delete;

    const Geometry& geometry() const { return geometry_; }
    const era::Tables& tables() const { return tables_; }
    PageHeader& header(u32 page) const {
        return reinterpret_cast<PageHeader*>(tables_.base + headers_at(geometry_))[page];
    }
    u8* page_address(u32 page) const {
        return tables_.base + metadata_bytes(geometry_) + (usize{page} << geometry_.page_shift);
    }
    u32 page_of(u32 object) const { return object >> (geometry_.page_shift - GRANULE_SHIFT); }
    u32 block_of(u32 object) const { return object & (geometry_.blocks() - 1); }
    u32 object(u32 page, u32 block) const {
        return page << (geometry_.page_shift - GRANULE_SHIFT) | block;
    }
    /// The free list's link of a free block, beside its count word: one line for both.
    Word& link(u32 object) const {
        return tables_.word_at(tables_.offset_of(tables_.count(object)) + sizeof(Word));
    }
    /// Blocks of a page of this class.
    u32 capacity(u32 size_class) const {
        return static_cast<u32>((usize{1} << geometry_.page_shift) / class_size(size_class));
    }

  private:
    static constexpr usize words_at(const Geometry& g) { return era::layout_of(g.shape()).bytes; }
    static constexpr usize headers_at(const Geometry& g) {
        return words_at(g) + round_up(g.pages * sizeof(Word), CACHE_LINE);
    }

    Geometry geometry_;
    era::Tables tables_;
};

}  // namespace aep::flat
