// Purpose: the context that this host serves: its file, its mappings, and who lives in it, which
//          the locks on the file alone tell.
// Who calls it: the node host and its parts. One a process: a context has fixed addresses.
// Crash rule: the mappings die with the process, the file stays for the next host.
#pragma once

#include <string>

#include "dsm-core/context/format.hpp"
#include "node/file_lock.hpp"
#include "node/unique_fd.hpp"

namespace aep {

/// Whether a client, or somebody with a frozen heap of one, has the context of that file mapped.
inline bool somebody_lives_in(int context_fd) {
    return somebody_locks(context_fd, CLIENT_LOCKS_OFFSET, MAX_DOMAINS) ||
           somebody_locks(context_fd, FROZEN_LOCKS_OFFSET, MAX_DOMAINS);
}

class ServedContext {
  public:
    ServedContext() = default;
    ~ServedContext() { unmap(); }
    ServedContext(const ServedContext&) = delete;
    ServedContext& operator=(const ServedContext&) = delete;

    /// Goes by that file from now on; it is not mapped.
    void take_file(UniqueFd fd) { fd_ = std::move(fd); }
    /// Maps all of it, at its fixed addresses, with these verified constants in the place of its
    /// own. `what`: how an error begins. Throws NodeError.
    void map(const ContextConstants& constants, const std::string& what);
    void unmap();

    /// A description that holds no lock: asks for those of others.
    int fd() const { return fd_.get(); }
    /// A copy of the constants that no client has, sealed.
    int constants_fd() const { return constants_fd_.get(); }

    /// Whether the process of client 1 .. max_clients lives.
    bool lives(u32 client) const { return somebody_locks(fd(), CLIENT_LOCKS_OFFSET + client); }
    /// Whether a descendant of it uses its heap.
    bool has_descendants(u32 client) const {
        return somebody_locks(fd(), FROZEN_LOCKS_OFFSET + client);
    }
    bool somebody_lives() const { return somebody_lives_in(fd()); }

  private:
    UniqueFd fd_;
    UniqueFd constants_fd_;
    bool mapped_ = false;
};

}  // namespace aep
