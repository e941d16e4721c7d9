// Purpose: a moment in which no victim begins anything, for a walk over what they share: a word in a file that driver and
//          victims map. The daemon's check stops nobody and believes only a walk in which nothing happened; what many
//          processes change without a pause it may not find so for seconds.
// Who calls it: the driver sets it; the threads of victims look before each step.
// Crash rule: a victim only reads it. The file is in a node's directory and goes with it.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>

namespace aep::torture {

class Pause {
  public:
    /// Maps the file; one that is there already unless `make`. See is_there().
    explicit Pause(const char* path, bool make = false) {
        const int fd = open(path, (make ? O_RDWR | O_CREAT : O_RDWR) | O_CLOEXEC, 0600);
        if (fd < 0) return;
        if (!make || ftruncate(fd, sizeof *word_) == 0) {
            void* const at =
                mmap(nullptr, sizeof *word_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (at != MAP_FAILED) word_ = static_cast<std::atomic<bool>*>(at);
        }
        close(fd);
    }
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;
    ~Pause() {
        if (word_ != nullptr) munmap(word_, sizeof *word_);
    }

    bool is_there() const { return word_ != nullptr; }
    void set(bool paused) { word_->store(paused, std::memory_order_relaxed); }
    /// Between two steps of a victim's thread: returns when it may take the next.
    void wait_out() const {
        constexpr useconds_t LOOK_US = 200;
        while (word_->load(std::memory_order_relaxed)) usleep(LOOK_US);
    }

  private:
    std::atomic<bool>* word_ = nullptr;
};

}  // namespace aep::torture
