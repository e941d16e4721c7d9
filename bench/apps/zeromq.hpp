// Purpose: the transport `zeromq`: objects in the form of parcels over a pair of ZeroMQ sockets for each two members (ipc), as a
//          program of today would send them.
// Who calls it: the programs of this folder, where ZeroMQ is installed.
// Crash rule: what was under way to or from a killed member is lost, and the team ends.
#pragma once

#include <zmq.h>

#include <stdexcept>

#include "apps/common/parcel.hpp"
#include "apps/common/transport.hpp"
#include "bench/apps/temporary_folder.hpp"

namespace aep::apps {

class ZeroMq : public CopiedObjects {
  public:
    static constexpr const char* NAME = "zeromq";
    static constexpr bool SURVIVES = false;
    using Peer = std::size_t;  // which of its sockets

    class World {
      public:
        explicit World(const Plan&) {}
        void enter(unsigned, char**) const {}
        const std::string& folder() const { return folder_.path(); }

      private:
        TemporaryFolder folder_{"zeromq"};  // for the sockets' names
    };

    ZeroMq(const Plan& plan, World* world, unsigned me) : context_(zmq_ctx_new()) {
        expect(context_ != nullptr, "zmq_ctx_new");
        for (const auto& [a, b] : plan.links) {
            if (a != me && b != me) continue;
            const std::string place =
                "ipc://" + world->folder() + "/" + std::to_string(a) + "-" + std::to_string(b);
            void* socket = zmq_socket(context_, ZMQ_PAIR);
            expect(socket != nullptr, "zmq_socket");
            set(socket, ZMQ_SNDHWM, 0);  // what is under way waits in memory, nobody for room
            set(socket, ZMQ_RCVHWM, 0);
            set(socket, ZMQ_LINGER, LAST_WORDS_MS);
            expect((a == me ? zmq_bind(socket, place.c_str())
                            : zmq_connect(socket, place.c_str())) == 0,
                   "a ZeroMQ socket");
            members_.push_back(a == me ? b : a);
            polled_.push_back({.socket = socket, .fd = -1, .events = ZMQ_POLLIN, .revents = 0});
        }
    }
    ZeroMq(const ZeroMq&) = delete;
    ZeroMq& operator=(const ZeroMq&) = delete;
    ~ZeroMq() {
        for (const zmq_pollitem_t& one : polled_) zmq_close(one.socket);
        zmq_ctx_term(context_);
    }

    std::optional<Peer> find(unsigned member) const {
        for (std::size_t i = 0; i < members_.size(); ++i)
            if (members_[i] == member) return i;
        throw std::logic_error("no link between these members");
    }

    bool send(Peer to, Object object) { return put(to, *object, object->structure); }
    bool answer(Peer to, Object object) { return put(to, *object, false); }
    std::optional<Message<ZeroMq>> receive(int timeout_ms) {
        if (timeout_ms != 0 || polled_.size() != 1) {
            const int ready =
                zmq_poll(polled_.data(), static_cast<int>(polled_.size()), timeout_ms);
            if (ready <= 0) return std::nullopt;
        }
        for (std::size_t i = 0; i < polled_.size(); ++i)
            if (Object object = get(polled_[i].socket)) return Message<ZeroMq>{object, i};
        return std::nullopt;
    }
    int descriptor() const {
        throw std::runtime_error(
            "zeromq: no descriptor is readable while messages wait; --wait polling or blocking");
    }

  private:
    static constexpr int LAST_WORDS_MS = 1000;  // for what was sent before a member ends

    static void set(void* socket, int option, int value) {
        expect(zmq_setsockopt(socket, option, &value, sizeof value) == 0, "zmq_setsockopt");
    }
    bool put(Peer to, const CopiedObject& object, bool nodes_too) {
        const std::span<const std::uint8_t> frame = parcels_.pack(object, nodes_too);
        expect(zmq_send(polled_[to].socket, frame.data(), frame.size(), 0) >= 0, "zmq_send");
        return true;
    }
    /// Null: nothing is there.
    static Object get(void* socket) {
        zmq_msg_t message;
        zmq_msg_init(&message);
        if (zmq_msg_recv(&message, socket, ZMQ_DONTWAIT) < 0) {
            expect(errno == EAGAIN || errno == EINTR, "zmq_msg_recv");
            return nullptr;
        }
        const std::size_t bytes = zmq_msg_size(&message);
        verify(bytes >= sizeof(std::uint32_t), "a message is no parcel");
        const std::size_t length = bytes - sizeof(std::uint32_t);
        auto object = std::make_unique<CopiedObject>(length);
        std::memcpy(object->memory.get(),
                    static_cast<const char*>(zmq_msg_data(&message)) + sizeof(std::uint32_t),
                    length);
        zmq_msg_close(&message);
        unpack(*object, length);
        return object.release();
    }

    void* context_;
    std::vector<unsigned> members_;
    std::vector<zmq_pollitem_t> polled_;  // a socket to each of them
    Parcels parcels_;
};

}  // namespace aep::apps
