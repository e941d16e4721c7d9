// Purpose: a store by the rule of Lightning (Zhuo et al., VLDB '22), written afresh as a baseline of our own: objects by number in a
//          table in shared memory, one lock for all of them, and an undo log of each client, into which every word goes before
//          it is changed, with a fence behind each.
// Who calls it: bench/apps/kv.cpp; tests/flat/lightning.cpp holds it to the count of logged words below.
// Crash rule: a client that is killed leaves its log, from which a monitor would undo its operation with all others stopped;
//             here nobody does, the team ends.
//
// What the published code does, and this with it: a lock word that is taken by compare-and-swap, between tries the processor is
// given away; a create logs the table's free list (2 words), the object's entry (8) and its chain (1 or 2); seal, get and release
// log a word each; a removal its chain (1 or 2) and the free list (2). Its allocator is a buddy system, each word of it logged, too;
// ours has lists of powers of two that are never merged, 3 words to take a block and 2 to give one back: that is less than theirs.
// It flushes no line. A client's log is in memory of its own that outlives it. A get takes a reference under the lock, and gives it
// back under the lock. Its protection keys, which cost two register writes an operation, are left out.
#pragma once

#include <bit>
#include <cstring>
#include <optional>
#include <string_view>

#include "apps/common/shared.hpp"
#include "apps/common/transport.hpp"
#include "apps/kv/partition.hpp"

namespace aep::apps::kv {

class Lightning {
  public:
    static constexpr const char* NAME = "lightning";
    static constexpr bool SURVIVES = false;

  private:
    using Word = std::atomic<std::uint64_t>;
    using Index = std::uint64_t;  // into the table, 0: none
    static constexpr std::uint64_t CHAINS = 65536;
    static constexpr unsigned CLASSES = 40;

    struct Entry {
        Word id, place, size, references, sealed, waiters, next, previous, next_free;
    };
    struct Header {
        alignas(64) Word lock;
        alignas(64) Word free_entry;
        Word unused_entry;  // those from here on were never used
        Word free_block[CLASSES];
        Word top;  // memory from here on was never used
        Word chain[CHAINS];
    };
    struct Old {
        Word* at;
        std::uint64_t value;
    };
    struct Log {
        static constexpr std::uint64_t LONGEST = 64;
        Word entries;
        Old entry[LONGEST];
    };
    /// Before an object's bytes; of a free block the next one.
    struct Block {
        Word size_class;
        Word next;
    };
    /// What an object holds: whose key it is, the key, the value.
    struct Content {
        std::uint64_t partition;
        std::uint64_t key_size;
        std::string_view key() const { return {reinterpret_cast<const char*>(this + 1), key_size}; }
    };

  public:
    class World {
      public:
        explicit World(const Plan& plan)
            : entries_(plan.objects_each * plan.members),
              heap_(4 * plan.bytes_each * plan.members + (1 << 20)),
              memory_(sizeof(Header) + sizeof(Log) * plan.members + sizeof(Entry) * entries_ +
                      heap_) {
            header().unused_entry = 1;
        }
        void enter(unsigned, char**) const {}

      private:
        friend class Lightning;
        Header& header() const { return *reinterpret_cast<Header*>(memory_.base()); }
        Log& log(unsigned member) const {
            return reinterpret_cast<Log*>(memory_.base() + sizeof(Header))[member];
        }
        Entry* table(unsigned members) const { return reinterpret_cast<Entry*>(&log(members)); }
        char* heap(unsigned members) const {
            return reinterpret_cast<char*>(table(members) + entries_);
        }
        std::uint64_t entries_;
        std::size_t heap_;
        SharedMemory memory_;
    };

    Lightning(const Plan& plan, World* world, unsigned me)
        : header_(world->header()),
          log_(world->log(me)),
          table_(world->table(plan.members)),
          entries_(world->entries_),
          heap_(world->heap(plan.members)),
          heap_bytes_(world->heap_),
          me_(me) {}

    void open(std::size_t) {}
    void look() {}

    /// Create, fill, seal; the object that had the number goes when nobody reads it any more. `in_place` is not to be had:
    /// objects are never changed.
    void put(std::string_view key, std::string_view value, bool) {
        const std::uint64_t id = hash_of(key);
        Entry* made = nullptr;
        in_transaction([&] { made = &create(id, sizeof(Content) + key.size() + value.size()); });
        char* bytes = heap_ + made->place.load(std::memory_order_relaxed);
        const Content content{me_, key.size()};
        std::memcpy(bytes, &content, sizeof content);
        std::memcpy(bytes + sizeof content, key.data(), key.size());
        std::memcpy(bytes + sizeof content + key.size(), value.data(), value.size());
        in_transaction([&] {
            if (Entry* old = find(id)) unlink(*old, id);
            link(*made, id);
            set(made->sealed, 1);
        });
    }
    bool remove(std::string_view key) {
        const std::uint64_t id = hash_of(key);
        bool found = false;
        in_transaction([&] {
            Entry* entry = find(id);
            found = entry != nullptr;
            if (found) unlink(*entry, id);
        });
        return found;
    }
    bool get(unsigned, std::string_view key, std::string& found) {
        const std::uint64_t id = hash_of(key);
        Entry* entry = nullptr;
        in_transaction([&] {
            entry = find(id);
            if (entry != nullptr) set(entry->references, entry->references + 1);
        });
        if (entry == nullptr) return false;
        const Content& content = content_of(*entry);
        const bool same = content.key() == key;
        found.assign(content.key().data() + content.key_size,
                     entry->size - sizeof(Content) - content.key_size);
        in_transaction([&] { release(*entry); });
        return same;
    }
    /// Under the lock.
    template <class Use>
    void scan(unsigned partition, Use&& use) {
        in_transaction([&] {
            for (const Word& chain : header_.chain) {
                for (Index i = chain; i != 0; i = table_[i].next) {
                    const Content& content = content_of(table_[i]);
                    if (content.partition != partition) continue;
                    use(content.key(),
                        std::string(content.key().data() + content.key_size,
                                    table_[i].size - sizeof(Content) - content.key_size));
                }
            }
        });
    }

    /// Words that this client has logged so far, each with its fence.
    std::uint64_t logged() const { return logged_; }

  private:
    template <class Do>
    void in_transaction(Do&& change) {
        std::uint64_t nobody = 0;
        // acquire: all that the last one changed is seen.
        while (!header_.lock.compare_exchange_weak(nobody, me_ + 1, std::memory_order_acquire)) {
            nobody = 0;
            sched_yield();
        }
        log_.entries.store(0, std::memory_order_relaxed);
        change();
        // release: what was changed comes before the log's end, and that before the next one's turn.
        log_.entries.store(0, std::memory_order_release);
        header_.lock.store(0, std::memory_order_release);
    }
    void set(Word& word, std::uint64_t value) {
        const std::uint64_t number = log_.entries.load(std::memory_order_relaxed);
        verify(number < Log::LONGEST, "lightning: an operation changes too many words");
        log_.entry[number] = {&word, word.load(std::memory_order_relaxed)};
        log_.entries.store(number + 1, std::memory_order_relaxed);
        // seq_cst: the old value is there before the new one.
        std::atomic_thread_fence(std::memory_order_seq_cst);
        word.store(value, std::memory_order_relaxed);
        ++logged_;
    }

    Word& chain_of(std::uint64_t id) { return header_.chain[id % CHAINS]; }
    Entry* find(std::uint64_t id) {
        for (Index i = chain_of(id); i != 0; i = table_[i].next)
            if (table_[i].id == id) return &table_[i];
        return nullptr;
    }
    const Content& content_of(const Entry& entry) const {
        return *reinterpret_cast<const Content*>(heap_ + entry.place);
    }

    /// A new entry with memory, in no chain.
    Entry& create(std::uint64_t id, std::size_t bytes) {
        Index i = header_.free_entry;
        if (i != 0) {
            set(header_.free_entry, table_[i].next_free);
        } else {
            i = header_.unused_entry;
            verify(i < entries_, "lightning: the table is full");
            set(header_.unused_entry, i + 1);
        }
        Entry& entry = table_[i];
        set(entry.next_free, 0);
        set(entry.id, id);
        set(entry.waiters, 0);
        set(entry.place, allocate(bytes));
        set(entry.size, bytes);
        set(entry.references, 1);
        set(entry.sealed, 0);
        return entry;
    }
    void link(Entry& entry, std::uint64_t id) {
        const auto i = static_cast<Index>(&entry - table_);
        const Index first = chain_of(id);
        set(entry.next, first);
        set(entry.previous, 0);
        if (first != 0) set(table_[first].previous, i);
        set(chain_of(id), i);
    }
    /// Nobody finds it any more; the store's own reference goes.
    void unlink(Entry& entry, std::uint64_t id) {
        const Index next = entry.next;
        const Index previous = entry.previous;
        set(previous == 0 ? chain_of(id) : table_[previous].next, next);
        if (next != 0) set(table_[next].previous, previous);
        release(entry);
    }
    void release(Entry& entry) {
        const std::uint64_t left = entry.references - 1;
        set(entry.references, left);
        if (left != 0) return;
        give_back(entry.place);
        set(entry.next_free, header_.free_entry);
        set(header_.free_entry, static_cast<Index>(&entry - table_));
    }

    /// Places of bytes, counted from the heap's begin; a block lies before them.
    std::uint64_t allocate(std::size_t bytes) {
        const auto size_class = static_cast<unsigned>(std::bit_width(bytes + sizeof(Block) - 1));
        Word& first = header_.free_block[size_class];
        std::uint64_t at = first;
        if (at != 0) {
            set(first, block(at).next);
        } else {
            at = header_.top + sizeof(Block);
            verify(header_.top + (std::uint64_t{1} << size_class) <= heap_bytes_,
                   "lightning: out of memory");
            set(header_.top, header_.top + (std::uint64_t{1} << size_class));
        }
        set(block(at).size_class, size_class);
        set(block(at).next, 0);
        return at;
    }
    void give_back(std::uint64_t at) {
        Word& first = header_.free_block[block(at).size_class];
        set(block(at).next, first);
        set(first, at);
    }
    Block& block(std::uint64_t at) const { return reinterpret_cast<Block*>(heap_ + at)[-1]; }

    Header& header_;
    Log& log_;
    Entry* table_;
    std::uint64_t entries_;
    char* heap_;
    std::size_t heap_bytes_;
    unsigned me_;
    std::uint64_t logged_ = 0;
};

}  // namespace aep::apps::kv
