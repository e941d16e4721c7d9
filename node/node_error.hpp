// Purpose: why a node could not be opened or served, in words for people.
// Who calls it: node throws it, the daemon and the command line print it.
// Crash rule: none needed.
#pragma once

#include <stdexcept>
#include <string>

namespace aep {

class NodeError : public std::runtime_error {
  public:
    /// `error` is an errno value; EBUSY: another daemon serves the context.
    NodeError(int error, const std::string& text) : std::runtime_error(text), error_(error) {}
    int error() const { return error_; }

  private:
    int error_;
};

/// "CODE (text)" of an errno value.
std::string errno_text(int error);

/// Throws "WHAT: CODE (text)" when `result` is -errno.
void require(long result, const std::string& what);

}  // namespace aep
