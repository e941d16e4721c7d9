// Purpose: memory that a team's processes inherit at one address, and the bell by which a member that sleeps is woken.
// Who calls it: transports whose members are forked: local.hpp and bench/apps/flat.hpp.
// Crash rule: none: the memory goes with the team.
#pragma once

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "apps/common/failure.hpp"

namespace aep::apps {

/// Zeros that children share; pages come when they are touched.
class SharedMemory {
  public:
    explicit SharedMemory(std::size_t bytes) : bytes_(bytes) {
        base_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        expect(base_ != MAP_FAILED, "no address space for the team's memory");
    }
    SharedMemory(const SharedMemory&) = delete;
    SharedMemory& operator=(const SharedMemory&) = delete;
    ~SharedMemory() { munmap(base_, bytes_); }
    char* base() const { return static_cast<char*>(base_); }

  private:
    std::size_t bytes_;
    void* base_;
};

/// Lies in shared memory. Rung after a message was put down; who was awake finds it without a system call.
class Bell {
  public:
    /// By the launcher. Members inherit the descriptor.
    void hang() {
        descriptor_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        expect(descriptor_ >= 0, "eventfd");
    }
    void ring() {
        // Orders the message before the question whether its receiver sleeps.
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if (asleep_.load(std::memory_order_relaxed) != 0 && asleep_.exchange(0) != 0) {
            const std::uint64_t one = 1;
            expect(write(descriptor_, &one, sizeof one) == sizeof one, "a bell cannot be rung");
        }
    }
    /// Tells senders to ring: messages are looked for once more afterwards. Readable: one rang.
    int prepare() {
        std::uint64_t rung = 0;
        if (asleep_.load(std::memory_order_relaxed) == 0 &&
            read(descriptor_, &rung, sizeof rung) < 0)
            expect(errno == EAGAIN, "a bell cannot be read");
        asleep_.store(1);  // seq_cst: before the next look at the messages, see ring()
        return descriptor_;
    }
    int descriptor() const { return descriptor_; }
    void sleep(int timeout_ms) const {
        pollfd wanted{.fd = descriptor_, .events = POLLIN, .revents = 0};
        poll(&wanted, 1, timeout_ms);
    }

  private:
    alignas(64) std::atomic<std::uint32_t> asleep_{0};
    int descriptor_ = -1;
};

}  // namespace aep::apps
