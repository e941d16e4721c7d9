// Purpose: the transport `flat` of the applications (apps/common/transport.hpp): each member a client of the flat
//          baseline by the published rule, each object and each node of a structure one of its objects; whoever receives a
//          structure follows its pointers without taking references, as the published code does.
// Who calls it: the programs of this folder.
// Crash rule: the pool goes with the team.
#pragma once

#include <algorithm>

#include "apps/common/failure.hpp"
#include "apps/common/shared.hpp"
#include "apps/common/transport.hpp"
#include "bench/dsm/region.hpp"
#include "bench/flat/client.hpp"

namespace aep::apps {

class Flat {
  public:
    static constexpr const char* NAME = "flat";
    static constexpr bool SURVIVES = false;
    using Peer = unsigned;
    struct Object {
        flat::Ref ref;
        void* body;
        std::size_t bytes;
        std::vector<flat::Ref>* nodes;  // of a structure that was made here; owned by it
    };

    class World {
      public:
        explicit World(const Plan& plan)
            : geometry_(geometry_for(plan)),
              region_(flat::Pool::bytes(geometry_)),
              pool_(region_.base(), geometry_),
              bells_(plan.members * sizeof(Bell)) {
            for (unsigned i = 0; i < plan.members; ++i) (new (&bell(i)) Bell)->hang();
        }
        void enter(unsigned, char**) const {}
        Bell& bell(unsigned i) const { return reinterpret_cast<Bell*>(bells_.base())[i]; }
        const bench::Region& region() const { return region_; }
        const flat::Pool& pool() const { return pool_; }

      private:
        static flat::Geometry geometry_for(const Plan& plan) {
            flat::Geometry g{.clients = plan.members,
                             .refs = static_cast<u32>(plan.objects_each + 4096),
                             .pages = 0,
                             .slots = 64};
            while (g.largest() < plan.largest) ++g.page_shift;
            const usize page = usize{1} << g.page_shift;
            g.pages = static_cast<u32>(plan.members * (2 * plan.bytes_each / page + 8));
            return g;
        }
        flat::Geometry geometry_;
        bench::Region region_;
        flat::Pool pool_;
        SharedMemory bells_;
    };

    Flat(const Plan& plan, World* world, unsigned me)
        : world_(world),
          me_(me),
          memory_(world->region().memory<Memory>()),
          client_(memory_, world->pool(), me) {
        verify(client_.joined(), "flat: the member's place is taken");
        for (const auto& [a, b] : plan.links)
            if (a == me || b == me) peers_.push_back(a == me ? b : a);
    }

    std::optional<Peer> find(unsigned member) const { return member; }
    Object make(std::size_t bytes) {
        const flat::Ref ref = allocate(bytes);
        return {ref, client_.address(ref.object), bytes, nullptr};
    }
    Object make_structure(std::size_t bytes, std::size_t nodes) {
        Object object = make(bytes);
        object.nodes = new std::vector<flat::Ref>;
        object.nodes->reserve(nodes);
        return object;
    }
    Node* add(Object& object) {
        object.nodes->push_back(allocate(sizeof(Node)));
        return static_cast<Node*>(client_.address(object.nodes->back().object));
    }
    void* body(const Object& object) const { return object.body; }
    std::size_t size(const Object& object) const { return object.bytes; }

    bool send(Peer to, const Object& object) {
        while (!client_.has_room(to)) sched_yield();
        good(client_.send(to, object.ref), "flat: a send failed");
        world_->bell(to).ring();
        return true;
    }
    bool answer(Peer to, const Object& object) { return send(to, object); }
    std::optional<Message<Flat>> receive(int timeout_ms) {
        std::optional<Message<Flat>> message = take_message();
        if (message || timeout_ms == 0) return message;
        Bell& bell = world_->bell(me_);
        bell.prepare();
        if (!(message = take_message())) {
            bell.sleep(timeout_ms);
            message = take_message();
        }
        return message;
    }
    void drop(const Object& object) {
        if (object.nodes != nullptr)
            for (const flat::Ref& node : *object.nodes)
                good(client_.release(node), "flat: a node is not ours to drop");
        delete object.nodes;
        good(client_.release(object.ref), "flat: an object is not ours to drop");
    }
    int descriptor() {
        Bell& bell = world_->bell(me_);
        const int descriptor = bell.prepare();
        if (std::ranges::any_of(peers_,
                                [this](unsigned from) { return client_.has_message(from); }))
            bell.ring();
        return descriptor;
    }

  private:
    using Memory = flat::PublishedMemory<era::CxlMemory>;

    static void good(flat::Status status, const char* what) {
        verify(status == flat::Status::ok, what);
    }
    flat::Ref allocate(std::size_t bytes) {
        verify(bytes <= MAX_CLASS_SIZE, "flat: it has no objects of more than 128 KiB");
        flat::Ref ref{};
        good(client_.allocate(bytes, ref), "flat: out of memory");
        return ref;
    }
    std::optional<Message<Flat>> take_message() {
        for (const unsigned from : peers_) {
            if (!client_.has_message(from)) continue;
            flat::Ref ref{};
            good(client_.receive(from, ref), "flat: a receive failed");
            const flat::Pool& pool = world_->pool();
            const auto size_class =
                static_cast<u32>(memory_.load(pool.header(pool.page_of(ref.object)).size_class));
            return Message<Flat>{
                {ref, client_.address(ref.object), class_size(size_class), nullptr}, from};
        }
        return std::nullopt;
    }

    World* world_;
    unsigned me_;
    Memory memory_;
    flat::Client<Memory> client_;
    std::vector<unsigned> peers_;
};

}  // namespace aep::apps
