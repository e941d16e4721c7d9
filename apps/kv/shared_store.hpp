// Purpose: the store over memory that forked processes share (`local`, and the flat baseline): roots in a table, and
//          freed blocks kept until every member has been between two operations since.
// Who calls it: kv.hpp.
// Crash rule: none: a member that is killed may leave anything, and the team ends.
#pragma once

#include <deque>
#include <memory>

#include "apps/common/shared.hpp"
#include "apps/common/transport.hpp"
#include "apps/kv/partition.hpp"

namespace aep::apps::kv {

template <Transport T>
class SharedStore {
  public:
    static constexpr const char* NAME = T::NAME;
    static constexpr bool SURVIVES = false;

    /// Of each member: its partition, and how often it was between operations.
    struct alignas(64) Place {
        std::atomic<Root*> root;
        std::atomic<std::uint64_t> looks;
    };
    class World {
      public:
        explicit World(const Plan& plan) : under(plan), places_(plan.members * sizeof(Place)) {}
        void enter(unsigned, char**) const {}
        Place* places() const { return reinterpret_cast<Place*>(places_.base()); }
        typename T::World under;

      private:
        SharedMemory places_;
    };

    SharedStore(const Plan& plan, World* world, unsigned me)
        : memory_(plan, &world->under, me),
          places_(world->places()),
          members_(plan.members),
          me_(me) {}

    void* allocate(std::size_t bytes) {
        const typename T::Object object = memory_.make(sizeof(Head) + bytes);
        return new (memory_.body(object)) Head{object} + 1;
    }
    void free(void* block) { freed_.push_back(static_cast<Head*>(block) - 1); }

    void open(std::size_t) {
        own_ = std::make_unique<Writer<SharedStore>>(*this, me_, nullptr);
        places_[me_].root.store(own_->root(), std::memory_order_release);  // with what it leads to
        for (unsigned i = 0; i < members_; ++i)
            while (places_[i].root.load(std::memory_order_acquire) == nullptr) sched_yield();
    }
    void put(std::string_view key, std::string_view value, bool in_place) {
        own_->put(key, value, in_place);
    }
    bool remove(std::string_view key) { return own_->remove(key); }
    bool get(unsigned partition, std::string_view key, std::string& found) {
        return reader(partition).get(key, found);
    }
    template <class Use>
    void scan(unsigned partition, Use&& use) {
        reader(partition).scan(use);
    }

    /// When all have looked since the last batch of freed blocks was closed, nobody reads them any more.
    void look() {
        places_[me_].looks.fetch_add(1);  // seq_cst: what was read before is over
        for (unsigned i = 0; !since_.empty() && i < members_; ++i)
            if (i != me_ && places_[i].looks.load() == since_[i]) return;
        for (std::size_t left = closed_; left != 0; --left) {
            memory_.drop(freed_.front()->object);
            freed_.pop_front();
        }
        closed_ = freed_.size();
        since_.clear();
        for (unsigned i = 0; i < members_; ++i) since_.push_back(places_[i].looks.load());
    }

  private:
    struct alignas(16) Head {
        typename T::Object object;
    };
    Reader reader(unsigned partition) {
        return Reader(places_[partition].root.load(std::memory_order_acquire));
    }

    T memory_;
    Place* places_;
    unsigned members_;
    unsigned me_;
    std::unique_ptr<Writer<SharedStore>> own_;
    std::deque<Head*> freed_;
    std::size_t closed_ = 0;  // of them, that wait for `since_`
    std::vector<std::uint64_t> since_;
};

}  // namespace aep::apps::kv
