// Purpose: the transport `local`: plain allocation in memory that the team's processes share, counted references, rings
//          of pointers. No fault tolerance at all: what is possible at most.
// Who calls it: the applications.
// Crash rule: none: a member that is killed may leave anything, and the team ends.
#pragma once

#include <bit>
#include <memory>
#include <new>

#include "apps/common/shared.hpp"
#include "apps/common/transport.hpp"

namespace aep::apps {

class Local {
  public:
    static constexpr const char* NAME = "local";
    static constexpr bool SURVIVES = false;
    using Peer = unsigned;

    /// Before each body. A structure's nodes lie in further blocks, its parts.
    struct alignas(64) Head {
        std::atomic<std::uint32_t> references;
        std::uint16_t owner;
        std::uint16_t size_class;
        std::size_t bytes;
        Head* next;       // of a free list, of what others gave back, or of a structure's parts
        Head* parts;      // newest first
        Node* free_node;  // of the newest part
        Node* end_node;
    };
    static_assert(sizeof(Head) == 64);
    using Object = Head*;

    class World;

    Local(const Plan& plan, World* world, unsigned me);

    std::optional<Peer> find(unsigned member) const { return member; }
    Object make(std::size_t bytes) {
        Head* head = allocate(bytes);
        head->references.store(1, std::memory_order_relaxed);  // nobody else knows it
        head->parts = nullptr;
        head->free_node = head->end_node = nullptr;
        return head;
    }
    Object make_structure(std::size_t bytes, std::size_t) { return make(bytes); }
    Node* add(Object& object) {
        if (object->free_node == object->end_node) {
            Head* part = allocate(PART - sizeof(Head));
            part->next = object->parts;
            object->parts = part;
            object->free_node = reinterpret_cast<Node*>(part + 1);
            object->end_node = object->free_node + (PART - sizeof(Head)) / sizeof(Node);
        }
        return object->free_node++;
    }
    void* body(Object object) const { return object + 1; }
    std::size_t size(Object object) const { return object->bytes; }

    bool send(Peer to, Object object);
    bool answer(Peer to, Object object) { return send(to, object); }
    std::optional<Message<Local>> receive(int timeout_ms);
    void drop(Object object) {
        // acq_rel: all that others did with it is before it is used again.
        if (object->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
        for (Head* part = object->parts; part != nullptr;) {
            Head* next = part->next;
            give_back(part);
            part = next;
        }
        give_back(object);
    }
    int descriptor();

  private:
    static constexpr unsigned CLASSES = 40;  // powers of two
    static constexpr std::size_t PART = 64 << 10;

    struct Arena {
        Bell bell;
        alignas(64) std::atomic<Head*> returned{nullptr};  // by others
    };
    struct Ring {
        static constexpr std::uint64_t SLOTS = 512;
        alignas(64) std::atomic<std::uint64_t> head{0};
        alignas(64) std::atomic<std::uint64_t> tail{0};
        Head* slots[SLOTS];
    };

    Head* allocate(std::size_t bytes) {
        const auto size_class = static_cast<unsigned>(std::bit_width(bytes + sizeof(Head) - 1));
        verify(size_class < CLASSES, "local: an object is too large");
        if (free_[size_class] == nullptr) take_returned();
        Head* head = free_[size_class];
        if (head != nullptr) {
            free_[size_class] = head->next;
        } else {
            verify(std::size_t(end_ - top_) >= std::size_t{1} << size_class,
                   "local: out of memory");
            head = new (top_) Head{};
            top_ += std::size_t{1} << size_class;
        }
        head->owner = static_cast<std::uint16_t>(me_);
        head->size_class = static_cast<std::uint16_t>(size_class);
        head->bytes = bytes;
        return head;
    }
    void take_returned();
    void give_back(Head* head);
    bool take_message(Message<Local>& message);

    World* world_;
    unsigned me_;
    std::vector<unsigned> peers_;
    Head* free_[CLASSES] = {};
    char* top_;
    char* end_;
};

/// Control of each member, a ring for each pair, and each member's memory.
class Local::World {
  public:
    explicit World(const Plan& plan)
        : members_(plan.members),
          bytes_each_((plan.bytes_each * 4 + (4 << 20)) & ~std::size_t{63}),
          memory_(sizeof(Arena) * members_ + sizeof(Ring) * members_ * members_ +
                  bytes_each_ * members_) {
        for (std::size_t i = 0; i < members_; ++i) (new (&arena(i)) Arena)->bell.hang();
        for (std::size_t i = 0; i < members_ * members_; ++i)
            new (&ring(i / members_, i % members_)) Ring;
    }
    void enter(unsigned, char**) const {}

    Arena& arena(std::size_t i) { return reinterpret_cast<Arena*>(memory_.base())[i]; }
    Ring& ring(std::size_t from, std::size_t to) {
        return reinterpret_cast<Ring*>(memory_.base() +
                                       sizeof(Arena) * members_)[from * members_ + to];
    }
    char* heap(std::size_t i) {
        return memory_.base() + sizeof(Arena) * members_ + sizeof(Ring) * members_ * members_ +
               bytes_each_ * i;
    }

  private:
    std::size_t members_;
    std::size_t bytes_each_;
    SharedMemory memory_;
};

inline Local::Local(const Plan& plan, World* world, unsigned me)
    : world_(world), me_(me), top_(world->heap(me)), end_(world->heap(me + 1)) {
    for (const auto& [a, b] : plan.links)
        if (a == me || b == me) peers_.push_back(a == me ? b : a);
}

inline void Local::take_returned() {
    // acquire: what the others did with the blocks is over.
    Head* head = world_->arena(me_).returned.exchange(nullptr, std::memory_order_acquire);
    while (head != nullptr) {
        Head* next = head->next;
        head->next = free_[head->size_class];
        free_[head->size_class] = head;
        head = next;
    }
}

inline void Local::give_back(Head* head) {
    if (head->owner == me_) {
        head->next = free_[head->size_class];
        free_[head->size_class] = head;
        return;
    }
    std::atomic<Head*>& returned = world_->arena(head->owner).returned;
    head->next = returned.load(std::memory_order_relaxed);
    // release: our use of the block is before its owner's next.
    while (!returned.compare_exchange_weak(head->next, head, std::memory_order_release,
                                           std::memory_order_relaxed)) {
    }
}

inline bool Local::send(Peer to, Object object) {
    object->references.fetch_add(1, std::memory_order_relaxed);  // we have one meanwhile
    Ring& ring = world_->ring(me_, to);
    const std::uint64_t tail = ring.tail.load(std::memory_order_relaxed);  // ours
    // acquire: the slot was read before it is written again.
    while (tail - ring.head.load(std::memory_order_acquire) == Ring::SLOTS) sched_yield();
    ring.slots[tail % Ring::SLOTS] = object;
    ring.tail.store(tail + 1, std::memory_order_release);  // with the slot and the body
    world_->arena(to).bell.ring();
    return true;
}

inline bool Local::take_message(Message<Local>& message) {
    for (const unsigned from : peers_) {
        Ring& ring = world_->ring(from, me_);
        const std::uint64_t head = ring.head.load(std::memory_order_relaxed);  // ours
        if (head == ring.tail.load(std::memory_order_acquire))
            continue;  // with the slot and the body
        message = {ring.slots[head % Ring::SLOTS], from};
        ring.head.store(head + 1, std::memory_order_release);  // the slot was read
        return true;
    }
    return false;
}

inline std::optional<Message<Local>> Local::receive(int timeout_ms) {
    Message<Local> message{};
    if (take_message(message)) return message;
    if (timeout_ms == 0) return std::nullopt;
    Bell& bell = world_->arena(me_).bell;
    bell.prepare();
    if (!take_message(message)) {
        bell.sleep(timeout_ms);
        if (!take_message(message)) return std::nullopt;
    }
    return message;
}

inline int Local::descriptor() {
    Bell& bell = world_->arena(me_).bell;
    const int descriptor = bell.prepare();
    for (const unsigned from : peers_) {
        const Ring& ring = world_->ring(from, me_);
        if (ring.head.load(std::memory_order_relaxed) != ring.tail.load(std::memory_order_relaxed))
            bell.ring();
    }
    return descriptor;
}

}  // namespace aep::apps
