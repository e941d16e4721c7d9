// Purpose: what makes operations complete although their thread is killed, as the daemon sees it:
//          which processes are watched, what was captured, and a doorbell.
// Who calls it: the daemon and its tools, the provider's tests.
// Crash rule: see capture.h. An object of this class is only a view: nothing ends with it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "aep-lib/image/image_info.hpp"
#include "aep-lib/provider/capture.h"

namespace aep {

/// Why something could not be done: one line for people.
struct Failure {
    std::string text;
};

/// A value, or a Failure.
template <class T>
class Outcome {
  public:
    Outcome(T value) : value_(std::move(value)) {}
    Outcome(Failure failure) : failure_(std::move(failure)), failed_(true) {}
    explicit operator bool() const { return !failed_; }
    T& operator*() { return value_; }
    T* operator->() { return &value_; }
    const std::string& error() const { return failure_.text; }

  private:
    T value_{};
    Failure failure_;
    bool failed_ = false;
};

/// As which client a completer's process is watched.
inline constexpr u32 COMPLETER_CLIENT = 0;

/// Watches processes so that the registers of their threads are kept when they die inside the
/// image. One for each context; used by one thread at a time.
class CaptureProvider {
  public:
    virtual ~CaptureProvider() = default;
    CaptureProvider() = default;
    CaptureProvider(const CaptureProvider&) = delete;
    CaptureProvider& operator=(const CaptureProvider&) = delete;

    virtual Provider kind() const = 0;

    /// Watches process `tgid` (as this process numbers it) as client `client`, from now on and also
    /// while no daemon runs. A process that is watched already becomes that client's. An error's
    /// text; empty: done.
    virtual std::string add_member(u32 tgid, u32 client) = 0;
    /// Ends that, unless the process is another client's by now. After its slots are completed.
    virtual void remove_member(u32 tgid, u32 client) = 0;
    /// Ends the watching of all completers but `tgid`: when that one has come to work, the others
    /// are dead, and their daemons died before they could say so.
    virtual void keep_completer(u32 tgid) = 0;

    /// Whether it goes on with what an earlier daemon began: nothing that died since is missed.
    virtual bool continued() const { return false; }
    /// Looks whether what outlives the daemon is there, and puts back what is not. What was wrong
    /// and what became of it, one line; empty: nothing was.
    virtual std::string look_after() { return {}; }

    /// The capture map: one entry a slot. Null: there is none.
    virtual CaptureEntry* captures() const = 0;
    /// Its descriptor, for the completer; -1: none.
    virtual int captures_fd() const = 0;

    /// Readable when records wait; -1: never.
    virtual int doorbell_fd() const = 0;
    /// Calls `see` for each record that waits.
    virtual void drain(const std::function<void(const DoorbellRecord&)>& see) = 0;
};

/// Provider none: it watches nothing.
std::unique_ptr<CaptureProvider> no_provider();

}  // namespace aep
