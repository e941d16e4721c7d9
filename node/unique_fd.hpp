// Purpose: a file descriptor that is closed when its owner goes.
// Who calls it: tools and their tests.
// Crash rule: the kernel closes what a dead process had open.
#pragma once

#include <unistd.h>

#include <utility>

namespace aep {

class UniqueFd {
  public:
    UniqueFd() = default;
    explicit UniqueFd(int fd) : fd_(fd) {}
    UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    UniqueFd& operator=(UniqueFd&& other) noexcept {
        if (this != &other) {
            reset();
            fd_ = std::exchange(other.fd_, -1);
        }
        return *this;
    }
    ~UniqueFd() { reset(); }

    int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    int release() { return std::exchange(fd_, -1); }
    void reset() {
        if (fd_ >= 0) close(fd_);
        fd_ = -1;
    }

  private:
    int fd_ = -1;
};

/// A new open file description of the file behind `fd`: without the locks of that one.
UniqueFd describe_again(int fd, int flags);

}  // namespace aep
