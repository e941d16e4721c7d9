// Purpose: lets a process in as a client: an entry, locks that live as long as its mappings, an
//          empty domain, and the descriptors it maps everything through.
// Who calls it: the node host, for the first message of a connection.
// Crash rule: the locks are taken before the entry is written and end with the host's descriptors:
//             an entry without locks is one whose client is dead, and is taken back like any other.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "node/client_recovery.hpp"
#include "node/node_pool.hpp"

namespace aep {

/// The answer to a process that asks to be a client.
struct Admission {
    AnswerMessage answer{};
    std::array<UniqueFd, ATTACH_FDS> fds;  // open when answer.error is 0
};

class ClientAdmission {
  public:
    /// Why a process is not let in; `error`: an errno.
    struct Objection {
        int error;
        std::string text;
    };

    /// All of them outlive it. `image_fd`: the image, sealed.
    ClientAdmission(const ServedContext& served, const NodePool& pool, int image_fd,
                    ClientRecovery& recovery, const Log& log)
        : served_(served), pool_(pool), image_fd_(image_fd), recovery_(recovery), log_(log) {}

    /// Lets process `pid` of user `uid` in, or says why not. The caller sends the answer and then
    /// calls admitted(), or recovers the client if it could not be sent.
    Admission admit(pid_t pid, uid_t uid, const AskMessage& ask);
    void admitted(u32 client);
    /// Takes back what admit() granted, for a reason that came up since.
    void turn_away(Admission& admission, const std::string& why);
    /// Whether every entry of the client table is in use.
    bool full() const { return free_client() == 0; }

  private:
    std::optional<Objection> objection(uid_t uid, const AskMessage& ask) const;
    u32 free_client() const;
    u32 find_room();
    bool open_descriptions(u32 client, Admission& admission);

    const ServedContext& served_;
    const NodePool& pool_;
    const int image_fd_;
    ClientRecovery& recovery_;
    const Log& log_;
};

}  // namespace aep
