// Purpose: the transport `aep`: objects of a context travel by reference, within a node and between nodes; a structure
//          is a group.
// Who calls it: the applications.
// Crash rule: that of aep/dsm.h: what a killed member held is dropped, the others go on.
#pragma once

#include <unistd.h>

#include <fmt/format.h>
#include <aep/dsm.hpp>

#include <thread>

#include "apps/common/failure.hpp"
#include "apps/common/transport.hpp"

namespace aep::apps {

class Aep {
  public:
    static constexpr const char* NAME = "aep";
    static constexpr bool SURVIVES = true;
    using Peer = dsm_id;
    struct Object {
        void* body;
        std::size_t bytes;
        dsm_group* group;  // of a structure that was made here; else null
    };

    /// There is nothing to make: a daemon keeps what members share.
    class World {
      public:
        explicit World(const Plan& plan) : nodes_(plan.nodes), stay_(plan.stay) {}
        /// Which context member `i` joins is decided where a program begins: it begins again.
        void enter(unsigned i, char** command) const {
            if (!nodes_.empty()) setenv("AEP_SOCKET", nodes_[i / stay_ % nodes_.size()].c_str(), 1);
            execv("/proc/self/exe", command);
            fail("this program cannot be started again");
        }

      private:
        std::vector<std::string> nodes_;
        unsigned stay_;
    };

    Aep(const Plan& plan, World*, unsigned me) : team_(plan.team) {
        const std::string name = name_of(me);
        // One who was killed has its name until that was seen.
        until(
            [&] {
                if (dsm_attach(name.c_str()) == 0) return true;
                if (errno != EEXIST)
                    fail(
                        "this process is no client of a context (start it under `aep run --context "
                        "NAME --`)");
                return false;
            },
            "a name is taken for too long");
    }

    /// Under which a member is attached.
    std::string name_of(unsigned member) const { return fmt::format("{}-{}", team_, member); }
    std::optional<Peer> find(unsigned member) const {
        const Peer found = dsm_lookup(name_of(member).c_str());
        return found != 0 ? std::optional(found) : std::nullopt;
    }

    Object make(std::size_t bytes) {
        void* body = dsm_malloc(bytes);
        expect(body != nullptr, "dsm_malloc");
        return {body, bytes, nullptr};
    }
    Object make_structure(std::size_t bytes, std::size_t nodes) {
        dsm_group* group = dsm_group_create(bytes + nodes * (sizeof(Node) + BLOCK_HEAD));
        expect(group != nullptr, "dsm_group_create");
        void* body = dsm_group_alloc(group, bytes);
        expect(body != nullptr, "dsm_group_alloc");
        expect(dsm_group_set_root(group, body) == 0, "dsm_group_set_root");
        return {body, bytes, group};
    }
    Node* add(Object& object) {
        void* node = dsm_group_alloc(object.group, sizeof(Node));
        expect(node != nullptr, "dsm_group_alloc");
        return static_cast<Node*>(node);
    }
    void* body(const Object& object) const { return object.body; }
    std::size_t size(const Object& object) const { return object.bytes; }

    bool send(Peer to, const Object& object) {
        int result = 0;
        do {
            result = dsm_send_wait(to, object.body, -1);
        } while (result != 0 && errno == EINTR);
        expect(result == 0 || errno == ESRCH, "dsm_send_wait");
        return result == 0;
    }
    bool answer(Peer to, const Object& object) { return send(to, object); }

    std::optional<Message<Aep>> receive(int timeout_ms) {
        dsm_info info{};
        void* body = dsm_recv(DSM_ANY, timeout_ms, &info);
        if (body != nullptr) return Message<Aep>{{body, info.size, nullptr}, info.sender};
        expect(errno == EAGAIN || errno == ETIMEDOUT || errno == EINTR, "dsm_recv");
        return std::nullopt;
    }
    void drop(const Object& object) {
        if (object.group != nullptr)
            expect(dsm_group_close(object.group) == 0, "dsm_group_close");
        else
            expect(dsm_free(object.body) == 0, "dsm_free");
    }
    int descriptor() { return dsm::fd(); }

  private:
    static constexpr std::size_t BLOCK_HEAD = 16;  // about what a group needs for an object

    template <class Sign>
    static void until(Sign&& sign, const char* what) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
        while (!sign()) {
            if (std::chrono::steady_clock::now() > end) {
                errno = ETIMEDOUT;
                fail(what);
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }

    std::string team_;
};

}  // namespace aep::apps
