// Purpose: a partition of the store: a hash table that one process writes and any number read at the same time, without
//          a lock. All of it lies in memory of one heap, which lets what was freed stay as it is while readers may be
//          on their way through it.
// Who calls it: store.hpp.
// Crash rule: each change becomes visible by one store of a pointer or a version: a writer that is killed leaves the
//             old or the new state to the readers, and to whoever takes the partition over.
//
// A value is replaced (a new block, the old one freed) or, if it fits, changed in place: each has two buffers, of which
// its version says which one counts, so a writer never writes what readers read.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <new>
#include <string>
#include <string_view>

#include "apps/common/failure.hpp"

namespace aep::apps::kv {

struct Buffer {
    std::uint64_t size;
    char* bytes() { return reinterpret_cast<char*>(this + 1); }
};

/// Followed by its buffers: two of `capacity` bytes each, or one if it is never changed in place.
struct Value {
    std::atomic<std::uint64_t> version;
    std::uint64_t capacity;
    bool in_place;

    static std::size_t bytes(std::size_t capacity, bool in_place) {
        return sizeof(Value) + (in_place ? 2 : 1) * (sizeof(Buffer) + capacity);
    }
    Buffer* buffer(std::uint64_t of_version) {
        char* first = reinterpret_cast<char*>(this + 1);
        return reinterpret_cast<Buffer*>(first + (in_place ? of_version & 1 : 0) *
                                                     (sizeof(Buffer) + capacity));
    }
};

/// A key with its value.
struct Item {
    std::uint64_t hash;
    std::atomic<Value*> value;
    std::uint64_t key_size;
    std::string_view key() const { return {reinterpret_cast<const char*>(this + 1), key_size}; }
};

/// A bucket's list. Made anew when the table grows, so that readers of the old table miss nothing.
struct Link {
    std::atomic<Link*> next;
    Item* item;
};

/// The buckets, a power of two, lie in segments, so that no block is large.
struct Table {
    static constexpr std::uint64_t SEGMENT = 4096;
    using Bucket = std::atomic<Link*>;

    std::uint64_t buckets;
    std::uint64_t segments() const { return (buckets + SEGMENT - 1) / SEGMENT; }
    Bucket** segment(std::uint64_t i) { return reinterpret_cast<Bucket**>(this + 1) + i; }
    Bucket* bucket(std::uint64_t hash) {
        const std::uint64_t i = hash & (buckets - 1);
        return *segment(i / SEGMENT) + i % SEGMENT;
    }
};

/// What the partition is known by.
struct Root {
    std::uint64_t partition;
    std::uint64_t generation;  // of its writers and their copies: the highest one counts
    std::atomic<Table*> table;
    std::atomic<std::uint64_t> count;
};

inline std::uint64_t hash_of(std::string_view key) {
    std::uint64_t hash = 14695981039346656037u;  // FNV-1a, mixed once more
    for (const char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
    return hash ^ (hash >> 29);
}

/// What may be done by anybody who can read it.
class Reader {
  public:
    explicit Reader(Root* root) : root_(root) {}

    /// The value, copied; false: there is none.
    bool get(std::string_view key, std::string& found) const {
        const Item* item = find(key, hash_of(key));
        if (item == nullptr) return false;
        copy(item->value.load(std::memory_order_acquire), found);  // with what it points at
        return true;
    }

    /// Calls `use(key, value)` for each key that was there during all of the scan, in no order.
    void scan(const std::function<void(std::string_view, const std::string&)>& use) const {
        std::string value;
        Table* table = root_->table.load(std::memory_order_acquire);  // with its lists
        for (std::uint64_t i = 0; i < table->buckets; ++i) {
            // acquire: with the links and items behind it.
            for (Link* link = table->bucket(i)->load(std::memory_order_acquire); link != nullptr;
                 link = link->next.load(std::memory_order_acquire)) {
                copy(link->item->value.load(std::memory_order_acquire), value);
                use(link->item->key(), value);
            }
        }
    }
    std::uint64_t generation() const { return root_->generation; }
    std::uint64_t count() const { return root_->count.load(std::memory_order_relaxed); }

  protected:
    Item* find(std::string_view key, std::uint64_t hash) const {
        Table* table = root_->table.load(std::memory_order_acquire);  // with its lists
        for (Link* link = table->bucket(hash)->load(std::memory_order_acquire); link != nullptr;
             link = link->next.load(std::memory_order_acquire))  // with the item
            if (link->item->hash == hash && link->item->key() == key) return link->item;
        return nullptr;
    }

    Root* root_;

  private:
    static void copy(Value* value, std::string& to) {
        for (;;) {
            // acquire: with its buffer.
            const std::uint64_t version = value->version.load(std::memory_order_acquire);
            Buffer* buffer = value->buffer(version);
            to.assign(buffer->bytes(), std::min<std::size_t>(buffer->size, value->capacity));
            std::atomic_thread_fence(std::memory_order_acquire);  // all of it was read before
            // The writer may have come round to this buffer again.
            if (value->version.load(std::memory_order_relaxed) == version) return;
        }
    }
};

/// What its one writer may do besides. A Heap has allocate(bytes), which throws, and free(block).
template <class Heap>
class Writer : public Reader {
  public:
    /// A new partition, with what `before` has, if there is one.
    Writer(Heap& heap, std::uint64_t partition, const Reader* before)
        : Reader(make<Root>(heap, sizeof(Root))), heap_(heap) {
        root_->partition = partition;
        root_->generation = before == nullptr ? 1 : before->generation() + 1;
        root_->count = 0;
        root_->table = make_table(FIRST_BUCKETS);
        if (before != nullptr)
            before->scan(
                [this](std::string_view key, const std::string& value) { put(key, value, true); });
    }
    Root* root() const { return root_; }

    /// Adds the key or changes its value; `in_place`: in the block it has, if that is large enough and was made so.
    void put(std::string_view key, std::string_view bytes, bool in_place) {
        const std::uint64_t hash = hash_of(key);
        Item* item = find(key, hash);
        if (item == nullptr) {
            add(key, hash, make_value(bytes, in_place));
            return;
        }
        Value* old = item->value.load(std::memory_order_relaxed);  // ours
        if (in_place && old->in_place && bytes.size() <= old->capacity) {
            const std::uint64_t next = old->version.load(std::memory_order_relaxed) + 1;
            // release: the last version is seen before this buffer changes.
            std::atomic_thread_fence(std::memory_order_release);
            fill(*old->buffer(next), bytes);
            old->version.store(next, std::memory_order_release);  // with the buffer
            return;
        }
        item->value.store(make_value(bytes, in_place),
                          std::memory_order_release);  // with its bytes
        heap_.free(old);
    }

    /// False: there is none.
    bool remove(std::string_view key) {
        const std::uint64_t hash = hash_of(key);
        Table::Bucket* at = root_->table.load(std::memory_order_relaxed)->bucket(hash);  // ours
        for (Link* link = at->load(std::memory_order_relaxed); link != nullptr;
             at = &link->next, link = at->load(std::memory_order_relaxed)) {
            Item* item = link->item;
            if (item->hash != hash || item->key() != key) continue;
            at->store(link->next.load(std::memory_order_relaxed),
                      std::memory_order_release);  // it was readable before
            count_by(-1);
            heap_.free(item->value.load(std::memory_order_relaxed));
            heap_.free(item);
            heap_.free(link);
            return true;
        }
        return false;
    }

  private:
    static constexpr std::uint64_t FIRST_BUCKETS = 64;

    template <class T>
    static T* make(Heap& heap, std::size_t bytes) {
        return new (heap.allocate(bytes)) T{};
    }
    Table* make_table(std::uint64_t buckets) {
        const Table shape{buckets};
        Table* table =
            new (heap_.allocate(sizeof(Table) + shape.segments() * sizeof(void*))) Table{shape};
        for (std::uint64_t i = 0; i < table->segments(); ++i) {
            const std::uint64_t length = std::min(buckets, Table::SEGMENT);
            auto* segment =
                static_cast<Table::Bucket*>(heap_.allocate(length * sizeof(Table::Bucket)));
            for (std::uint64_t k = 0; k < length; ++k) new (segment + k) Table::Bucket(nullptr);
            *table->segment(i) = segment;
        }
        return table;
    }
    Value* make_value(std::string_view bytes, bool in_place) {
        Value* value = make<Value>(heap_, Value::bytes(bytes.size(), in_place));
        value->capacity = bytes.size();
        value->in_place = in_place;
        fill(*value->buffer(0), bytes);
        return value;
    }
    static void fill(Buffer& buffer, std::string_view bytes) {
        buffer.size = bytes.size();
        std::memcpy(buffer.bytes(), bytes.data(), bytes.size());
    }
    void count_by(std::int64_t change) {
        root_->count.store(
            root_->count.load(std::memory_order_relaxed) + static_cast<std::uint64_t>(change),
            std::memory_order_relaxed);
    }

    void add(std::string_view key, std::uint64_t hash, Value* value) {
        Item* item = make<Item>(heap_, sizeof(Item) + key.size());
        item->hash = hash;
        item->value.store(value, std::memory_order_relaxed);  // with the item, below
        item->key_size = key.size();
        std::memcpy(reinterpret_cast<char*>(item + 1), key.data(), key.size());
        Table* table = root_->table.load(std::memory_order_relaxed);
        if (count() >= table->buckets) table = grow(table);
        put_first(table, item);
        count_by(1);
    }
    void put_first(Table* table, Item* item) {
        Table::Bucket* bucket = table->bucket(item->hash);
        Link* link = make<Link>(heap_, sizeof(Link));
        link->item = item;
        link->next.store(bucket->load(std::memory_order_relaxed), std::memory_order_relaxed);
        bucket->store(link, std::memory_order_release);  // with the item and its value
    }
    Table* grow(Table* old) {
        Table* table = make_table(old->buckets * 2);
        each_link(old, [&](Link* link) { put_first(table, link->item); });
        root_->table.store(table, std::memory_order_release);  // with its lists
        each_link(old, [&](Link* link) { heap_.free(link); });
        for (std::uint64_t i = 0; i < old->segments(); ++i) heap_.free(*old->segment(i));
        heap_.free(old);
        return table;
    }
    template <class Use>
    static void each_link(Table* table, Use&& use) {
        for (std::uint64_t i = 0; i < table->buckets; ++i) {
            for (Link* link = table->bucket(i)->load(std::memory_order_relaxed); link != nullptr;) {
                Link* next = link->next.load(std::memory_order_relaxed);
                use(link);
                link = next;
            }
        }
    }

    Heap& heap_;
};

}  // namespace aep::apps::kv
