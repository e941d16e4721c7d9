// Purpose: the stack of a stopped thread as the addresses, within their files, of the frames that are in the product.
// Who calls it: tracer.cpp.
// Crash rule: reads the process that is traced; its state ends with the tracer.
#pragma once

#include <elfutils/libdwfl.h>
#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace aep::inject {

/// Unwinds the threads of all processes that are traced.
class Stacks {
  public:
    /// `modules`: base names of the files that are the product.
    explicit Stacks(std::vector<std::string> modules) : modules_(std::move(modules)) {}
    /// The frames of a thread that is stopped, innermost first: "NAME+0xADDRESS NAME+0xADDRESS ...", each the last byte of a
    /// call or system call. Empty: none is in the product. `own`: the innermost of all frames must be.
    std::string of(pid_t process, pid_t thread, bool own);
    /// The process has another program now, or has ended.
    void forget(pid_t process) { sessions_.erase(process); }

  private:
    struct End {
        void operator()(Dwfl* dwfl) const { dwfl_end(dwfl); }
    };
    using Session = std::unique_ptr<Dwfl, End>;
    struct Walk;

    static Session open(pid_t process);
    static int frame(Dwfl_Frame* state, void* walk);
    bool is_product(const char* path) const;

    std::vector<std::string> modules_;
    std::map<pid_t, Session> sessions_;
};

}  // namespace aep::inject
