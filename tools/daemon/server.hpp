// Purpose: the daemon's loop: clients and commands come in over the socket; the end of connections
//          and processes, doorbells, the completer and a timer lead to recovery.
// Who calls it: daemon/main.cpp.
// Crash rule: the loop holds nothing that the next daemon needs: all of it is in the context.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "node/host.hpp"
#include "tools/daemon/background.hpp"
#include "tools/daemon/connections.hpp"
#include "tools/daemon/settling.hpp"

namespace aep {

class Server {
  public:
    /// Listens at the context's socket. `hang_up`: what SIGHUP asks for. Throws NodeError.
    Server(NodeHost& host, Capture& capture, Completion& completion, Log log,
           ServiceManager& manager, std::function<void()> hang_up);
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    /// Serves until SIGTERM, SIGINT or the command `down`. False: it cannot go on, as its log says.
    bool run();

  private:
    enum class Source : u32 {
        listening,
        signal,
        timer,
        doorbell,
        completer,
        engine,
        connection,
        process
    };

    bool watch(Source source, u32 id, int fd, u32 events);  // false with errno
    void take(Source source, u32 id, u32 events);
    void remove();
    void serve(u32 id);
    void handle(Connection& connection, const std::string& message);
    std::string serve_client(Connection& connection, const std::string& message);
    std::vector<u32> find_left();
    void let_queued_in();
    void attach(Connection& connection, const AskMessage& ask);
    void complete(Connection& connection, const AskMessage& ask);
    void flush(u32 id);
    void end_connection(u32 id);
    void watch_process(u32 client);
    void process_ended(u32 client);
    RecoveryState recover(u32 client);
    Sweep sweep();
    void answer_waiting();
    void set_timer(bool soon);
    std::string command(const std::string& text, Connection& connection);
    std::string declare_dead(const nlohmann::ordered_json& request);
    static std::string refusal(const std::string& why);

    NodeHost& host_;
    Capture& capture_;
    Completion& completion_;
    Log log_;
    ServiceManager& manager_;
    std::function<void()> hang_up_;
    UniqueFd epoll_, signals_, timer_;
    Connections connections_;
    std::map<u32, UniqueFd> processes_;  // pidfd of each client
    Settling settling_;
    bool ends_ = false;
    bool removes_ = false;
    u64 began_ns_ = 0;
};

}  // namespace aep
