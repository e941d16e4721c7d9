// Purpose: the daemon's loop: clients and commands come in over the socket; the end of connections
//          and processes, doorbells, the completer and a timer lead to recovery.
// Who calls it: daemon/main.cpp.
// Crash rule: the loop holds nothing that the next daemon needs: all of it is in the context.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "tools/daemon/connection.hpp"
#include "tools/node/host.hpp"

namespace aep {

class Server {
  public:
    /// Listens at the context's socket. `warning`: what a client would miss, shown by status.
    /// Throws NodeError.
    Server(NodeHost& host, Capture& capture, Completion& completion, Log log);
    ~Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    /// Serves until SIGTERM, SIGINT or the command `down`.
    void run();

  private:
    enum class Source : u32 { listening, signal, timer, doorbell, completer, connection, process };

    void watch(Source source, u32 id, int fd, u32 events);
    void listen();
    void accept_connection();
    void serve(u32 id);
    void handle(Connection& connection, const std::string& message);
    void attach(Connection& connection, const AskMessage& ask);
    void complete(Connection& connection, const AskMessage& ask);
    void flush(u32 id);
    void end_connection(u32 id);
    void watch_process(u32 client);
    void process_ended(u32 client);
    void recover(u32 client);
    Sweep sweep();
    void answer_waiting();
    void set_timer(bool soon);
    std::string command(const std::string& text, Connection& connection);

    NodeHost& host_;
    Capture& capture_;
    Completion& completion_;
    Log log_;
    UniqueFd epoll_, listening_, signals_, timer_;
    std::map<u32, std::unique_ptr<Connection>> connections_;
    std::map<u32, UniqueFd> processes_;  // pidfd of each client
    u32 next_connection_ = 1;
    bool ends_ = false;
    bool removes_ = false;
    u64 began_ns_ = 0;
};

}  // namespace aep
