// Purpose: the transport `boost`: objects in the form of parcels through message queues of Boost.Interprocess, one for each member.
// Who calls it: the programs of this folder, where Boost is installed.
// Crash rule: a member that is killed within a queue's lock leaves it locked, and the team ends.
#pragma once

#include <boost/date_time/posix_time/posix_time_types.hpp>
#include <boost/interprocess/ipc/message_queue.hpp>
#include <memory>
#include <optional>
#include <string>

#include "apps/common/parcel.hpp"
#include "apps/common/transport.hpp"

namespace aep::apps {

class BoostQueues : public CopiedObjects {
    using Queue = boost::interprocess::message_queue;

  public:
    static constexpr const char* NAME = "boost";
    static constexpr bool SURVIVES = false;
    using Peer = unsigned;  // a member

    /// The queues. They have their room, so many of the largest messages, from the start.
    class World {
      public:
        explicit World(const Plan& plan)
            : members_(plan.members), largest_(largest_parcel(plan)), team_(plan.team) {
            const std::size_t depth = std::clamp<std::size_t>(MOST_BYTES / largest_, 2, MOST_DEPTH);
            for (unsigned i = 0; i < members_; ++i)
                Queue(boost::interprocess::create_only, name(i).c_str(), depth, largest_,
                      boost::interprocess::permissions(0600));
        }
        World(const World&) = delete;
        World& operator=(const World&) = delete;
        ~World() {
            for (unsigned i = 0; i < members_; ++i) Queue::remove(name(i).c_str());
        }
        void enter(unsigned, char**) const {}
        std::string name(unsigned member) const {
            return "aep-boost-" + team_ + "-" + std::to_string(member);
        }
        std::size_t largest() const { return largest_; }

      private:
        static constexpr std::size_t MOST_BYTES = 32 << 20, MOST_DEPTH = 64;

        static std::size_t largest_parcel(const Plan& plan) {
            return plan.largest + plan.objects_each * sizeof(wire::Node) + 4096;
        }
        unsigned members_;
        std::size_t largest_;
        std::string team_;
    };

    BoostQueues(const Plan& plan, World* world, unsigned me)
        : me_(me),
          largest_(world->largest()),
          memory_(std::make_unique_for_overwrite<std::uint8_t[]>(largest_)) {
        for (unsigned i = 0; i < plan.members; ++i)
            queues_.push_back(
                std::make_unique<Queue>(boost::interprocess::open_only, world->name(i).c_str()));
    }

    std::optional<Peer> find(unsigned member) const { return member; }
    bool send(Peer to, Object object) { return put(to, *object, object->structure); }
    bool answer(Peer to, Object object) { return put(to, *object, false); }
    std::optional<Message<BoostQueues>> receive(int timeout_ms) {
        Queue& queue = *queues_[me_];
        std::size_t bytes = 0;
        Peer from = 0;  // its priority: each sender's messages stay in order
        if (timeout_ms < 0) {
            queue.receive(memory_.get(), largest_, bytes, from);
        } else if (timeout_ms == 0) {
            if (!queue.try_receive(memory_.get(), largest_, bytes, from)) return std::nullopt;
        } else {
            const auto until = boost::posix_time::microsec_clock::universal_time() +
                               boost::posix_time::milliseconds(timeout_ms);
            if (!queue.timed_receive(memory_.get(), largest_, bytes, from, until))
                return std::nullopt;
        }
        verify(bytes >= sizeof(std::uint32_t), "a message is no parcel");
        const std::size_t length = bytes - sizeof(std::uint32_t);
        auto object = std::make_unique<CopiedObject>(length);
        std::memcpy(object->memory.get(), memory_.get() + sizeof(std::uint32_t), length);
        unpack(*object, length);
        return Message<BoostQueues>{object.release(), from};
    }
    int descriptor() const {
        throw std::runtime_error("boost: there is no descriptor; --wait polling or blocking");
    }

  private:
    bool put(Peer to, const CopiedObject& object, bool nodes_too) {
        const std::span<const std::uint8_t> frame = parcels_.pack(object, nodes_too);
        queues_[to]->send(frame.data(), frame.size(), me_);
        return true;
    }

    unsigned me_;
    std::size_t largest_;
    std::unique_ptr<std::uint8_t[]> memory_;
    std::vector<std::unique_ptr<Queue>> queues_;  // of all members
    Parcels parcels_;
};

}  // namespace aep::apps
