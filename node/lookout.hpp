// Purpose: a look every 50 ms, in a thread of its own, beside an owner that may wait for ever.
// Who calls it: the host's slot, while it performs an operation itself.
// Crash rule: the thread ends with the process.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace aep {

/// Looks as long as it exists. Throws std::system_error: there is no thread.
class Lookout {
  public:
    template <class Look>
    explicit Lookout(Look look)
        : thread_([this, look](const std::stop_token& stop) {
              std::unique_lock lock(mutex_);
              const auto never = [] { return false; };
              for (;;) {
                  over_.wait_for(lock, stop, std::chrono::milliseconds(50), never);
                  if (stop.stop_requested()) return;
                  look();
              }
          }) {}

  private:
    std::mutex mutex_;
    std::condition_variable_any over_;
    std::jthread thread_;  // the last: it ends before what it uses
};

}  // namespace aep
