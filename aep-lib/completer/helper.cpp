// Purpose: see helper.hpp.
// Who calls it: see helper.hpp.
// Crash rule: see helper.hpp.
#include "aep-lib/completer/helper.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

namespace aep {
namespace {

/// Descriptors out of the way of the numbers that a helper has.
class Aside {
  public:
    explicit Aside(const std::vector<int>& files) {
        const int beyond = FIRST_HELPER_FD + static_cast<int>(files.size());
        for (const int fd : files) fds_.push_back(fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, beyond));
    }
    ~Aside() {
        for (const int fd : fds_)
            if (fd >= 0) close(fd);
    }
    Aside(const Aside&) = delete;
    Aside& operator=(const Aside&) = delete;
    int operator[](size_t i) const { return fds_[i]; }

  private:
    std::vector<int> fds_;
};

/// What happens to descriptors and attributes in the child, until the end of the scope.
struct Spawn {
    posix_spawn_file_actions_t files{};
    posix_spawnattr_t how{};
    Spawn() {
        posix_spawn_file_actions_init(&files);
        posix_spawnattr_init(&how);
    }
    ~Spawn() {
        posix_spawn_file_actions_destroy(&files);
        posix_spawnattr_destroy(&how);
    }
    Spawn(const Spawn&) = delete;
    Spawn& operator=(const Spawn&) = delete;

    void clean_signals() {
        sigset_t none, all;
        sigemptyset(&none);
        sigfillset(&all);
        posix_spawnattr_setsigmask(&how, &none);
        posix_spawnattr_setsigdefault(&how, &all);
    }
};

std::vector<char*> pointers(const std::vector<std::string>& words) {
    std::vector<char*> all;
    all.reserve(words.size() + 1);
    for (const std::string& word : words) all.push_back(const_cast<char*>(word.c_str()));
    all.push_back(nullptr);
    return all;
}

}  // namespace

long start_helper(const Helper& helper) {
    const Aside aside(helper.files);
    Spawn spawn;
    spawn.clean_signals();
    for (size_t i = 0; i < helper.files.size(); ++i) {
        const int place = FIRST_HELPER_FD + static_cast<int>(i);
        if (helper.files[i] < 0)
            posix_spawn_file_actions_addclose(&spawn.files, place);
        else if (aside[i] < 0)
            return -EMFILE;
        else
            posix_spawn_file_actions_adddup2(&spawn.files, aside[i], place);
    }
    posix_spawn_file_actions_addclosefrom_np(
        &spawn.files, FIRST_HELPER_FD + static_cast<int>(helper.files.size()));
    if (helper.no_terminal)
        for (const int usual : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
            posix_spawn_file_actions_addopen(&spawn.files, usual, "/dev/null", O_RDWR, 0);
    posix_spawnattr_setpgroup(&spawn.how, 0);
    posix_spawnattr_setflags(&spawn.how,
                             static_cast<short>(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                (helper.own_group ? POSIX_SPAWN_SETPGROUP : 0)));
    const std::vector<char*> words = pointers(helper.words);
    char* const nothing[] = {nullptr};
    pid_t pid = 0;
    const int error = posix_spawnp(&pid, helper.program.c_str(), &spawn.files, &spawn.how,
                                   words.data(), helper.no_environment ? nothing : environ);
    return error == 0 ? pid : -error;
}

}  // namespace aep
