// Purpose: the store `redis`: a redis-server of its own, without persistence, asked over a Unix socket.
// Who calls it: kv.cpp, where hiredis is installed.
// Crash rule: the server ends with the launcher; what a killed member has asked for happens or not.
#pragma once

#include <hiredis/hiredis.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

#include "apps/common/failure.hpp"
#include "apps/common/transport.hpp"
#include "bench/apps/temporary_folder.hpp"

namespace aep::apps::kv {

class Redis {
    struct Close {
        void operator()(redisContext* connection) const { redisFree(connection); }
    };
    using Connection = std::unique_ptr<redisContext, Close>;
    struct Free {
        void operator()(redisReply* reply) const { freeReplyObject(reply); }
    };
    using Reply = std::unique_ptr<redisReply, Free>;

  public:
    static constexpr const char* NAME = "redis";
    static constexpr bool SURVIVES = false;

    class World {
      public:
        explicit World(const Plan&) {
            server_ = fork();
            expect(server_ >= 0, "no process for redis");
            if (server_ == 0) serve();
            while (!connect_to(place())) {
                int status = 0;
                if (waitpid(server_, &status, WNOHANG) != 0) {
                    server_ = -1;
                    throw std::runtime_error(
                        "redis: redis-server does not start (Debian package redis-server)");
                }
                std::this_thread::sleep_for(std::chrono::milliseconds(5));
            }
        }
        World(const World&) = delete;
        World& operator=(const World&) = delete;
        ~World() {
            if (server_ > 0) {
                kill(server_, SIGKILL);  // it keeps nothing
                waitpid(server_, nullptr, 0);
            }
        }
        void enter(unsigned, char**) { server_ = -1; }
        std::string place() const { return folder_.path() + "/socket"; }

      private:
        [[noreturn]] void serve() const {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            expect(freopen("/dev/null", "w", stdout) != nullptr, "/dev/null");
            execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", place().c_str(),
                   "--unixsocketperm", "700", "--dir", folder_.path().c_str(), "--save", "",
                   "--appendonly", "no", "--loglevel", "warning", nullptr);
            _exit(127);
        }
        TemporaryFolder folder_{"redis"};
        pid_t server_ = -1;
    };

    Redis(const Plan&, World* world, unsigned) : connection_(connect_to(world->place())) {
        verify(connection_ != nullptr, "redis: no connection");
    }

    void open(std::size_t) {}
    void look() {}
    void put(std::string_view key, std::string_view value, bool) {
        ask("SET %b %b", key.data(), key.size(), value.data(), value.size());
    }
    bool remove(std::string_view key) {
        return ask("DEL %b", key.data(), key.size())->integer == 1;
    }
    bool get(unsigned, std::string_view key, std::string& found) {
        const Reply reply = ask("GET %b", key.data(), key.size());
        if (reply->type != REDIS_REPLY_STRING) return false;
        found.assign(reply->str, reply->len);
        return true;
    }
    template <class Use>
    void scan(unsigned partition, Use&& use) {
        const std::string all = "user" + std::to_string(partition) + ":*";
        std::string at = "0", value;
        do {
            const Reply page = ask("SCAN %s MATCH %s COUNT 1000", at.c_str(), all.c_str());
            verify(page->type == REDIS_REPLY_ARRAY && page->elements == 2,
                   "redis: no page of keys");
            at = page->element[0]->str;
            const redisReply& keys = *page->element[1];
            for (std::size_t i = 0; i < keys.elements; ++i) {
                const std::string_view key(keys.element[i]->str, keys.element[i]->len);
                if (get(partition, key, value)) use(key, value);
            }
        } while (at != "0");
    }

  private:
    /// Null: nobody is there.
    static Connection connect_to(const std::string& place) {
        Connection connection(redisConnectUnix(place.c_str()));
        if (connection == nullptr || connection->err != 0) return nullptr;
        return connection;
    }
    template <class... Words>
    Reply ask(const char* format, Words... words) {
        Reply reply(static_cast<redisReply*>(redisCommand(connection_.get(), format, words...)));
        verify(reply != nullptr && reply->type != REDIS_REPLY_ERROR, "redis: no answer");
        return reply;
    }

    Connection connection_;
};

}  // namespace aep::apps::kv
