// Purpose: the node that the torture works on: its own daemon, context and pool in a directory of
// its
//          own, and what it says of itself.
// Who calls it: the torture's driver.
// Crash rule: everything lies in the directory, which is removed at the end; the daemon dies with
// the
//             driver (PR_SET_PDEATHSIG).
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace aep::torture {

struct NodeSetup {
    std::filesystem::path daemon;  // aepd
    std::string provider;          // as aepd is told
    std::string pool_size = "2G";
    std::filesystem::path pool = {};  // empty: one of its own
    unsigned number = 0;              // which of the pool's nodes; 0: none
    unsigned of = 1;                  // how many there are
    bool verify = true;               // every recovered domain is walked
};

class Node {
  public:
    /// Starts the daemon in a fresh directory and waits until it answers. Throws
    /// std::runtime_error.
    explicit Node(const NodeSetup& setup);
    Node(const Node&) = delete;
    Node& operator=(const Node&) = delete;
    ~Node();

    /// One command, answered in JSON. Throws std::runtime_error when the daemon does not answer
    /// within ten seconds.
    nlohmann::json command(const std::string& name) const;
    /// Kills the daemon and starts another on the same context.
    void restart_daemon();
    /// Kills the daemon, takes the context away and starts anew, as a machine after a power cut.
    /// Its clients are dead already.
    void lose_power();
    /// How its daemon is, and the last lines that it wrote: for people.
    std::string last_words() const;
    const std::filesystem::path& directory() const { return directory_; }
    /// What a client needs in its environment to join.
    std::vector<std::string> environment() const;
    pid_t daemon_pid() const { return pid_; }

  private:
    void make_pool() const;
    void start(int tries = 100);

    NodeSetup setup_;
    std::filesystem::path directory_;
    pid_t pid_ = -1;
};

}  // namespace aep::torture
