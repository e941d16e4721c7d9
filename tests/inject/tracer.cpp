// Purpose: runs a program and all that it starts, and records the system calls that the product makes in it, each with
//          the way that led to it; or lets one of them fail.
// Who calls it: tests/inject/sweep.py.
// Crash rule: what is traced ends with it (PTRACE_O_EXITKILL).
//
//     inject [-s SECONDS] [-1] -m MODULE... -r REPORT -- PROGRAM ARGUMENT...
//     inject ... -n CALL -e ERROR -w WAY [-o OCCURRENCE] -- PROGRAM ...
//
// The report has a line for each call: NAME, what it returned, and its way: the frames that are in the product, innermost
// first. With -n the call of that way fails with -ERROR and the report has the line INJECTED. -1: the program
// alone, not what it starts. The exit status is the program's; 124: it took longer than SECONDS, and has been killed.
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "tests/inject/calls.hpp"
#include "tests/inject/stacks.hpp"

namespace aep::inject {
namespace {

struct Options {
    std::vector<std::string> modules;
    const char* report = nullptr;
    unsigned seconds = 20;
    bool program_alone = false;
    long number = -1;
    int error = 0;
    std::string way;
    int occurrence = 1;
    char** program = nullptr;
};

[[noreturn]] void give_up(const char* what) {
    std::perror(what);
    std::exit(125);
}

/// A thread that is traced.
struct Thread {
    pid_t process = 0;
    const Failing* call = nullptr;  // it is in, and of the product
    std::string way;
    bool fails = false;
};

/// Whether a futex operation is one that sleeps.
bool sleeps(unsigned long operation) {
    const unsigned long command = operation & static_cast<unsigned long>(FUTEX_CMD_MASK);
    return command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET;
}

volatile std::sig_atomic_t late = 0;

class Tracer {
  public:
    explicit Tracer(const Options& options)
        : options_(options), stacks_(options.modules), report_(std::fopen(options.report, "we")) {
        if (report_ == nullptr) give_up(options.report);
    }
    int run();

  private:
    void start();
    void stopped(pid_t tid, int status);
    void in_call(pid_t tid);
    void enters(pid_t tid, Thread& thread, long number, unsigned long second);
    void leaves(pid_t tid, Thread& thread, long result);
    void set_register(pid_t tid, bool number, long value);
    void end_all();
    static pid_t process_of(pid_t tid);

    const Options& options_;
    Stacks stacks_;
    std::FILE* report_;
    pid_t main_ = 0;
    int seen_ = 0;  // calls of the way that is to fail
    std::map<pid_t, Thread> threads_;
};

pid_t Tracer::process_of(pid_t tid) {
    char path[64];
    std::snprintf(path, sizeof path, "/proc/%d/status", tid);
    std::FILE* file = std::fopen(path, "re");
    pid_t process = 0;
    char line[256];
    while (file != nullptr && std::fgets(line, sizeof line, file) != nullptr)
        if (std::sscanf(line, "Tgid: %d", &process) == 1) break;
    if (file != nullptr) std::fclose(file);
    return process;
}

void Tracer::start() {
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) != 0) give_up("pipe");
    main_ = fork();
    if (main_ < 0) give_up("fork");
    if (main_ == 0) {
        char byte;
        if (read(ready[0], &byte, 1) == 1) execvp(options_.program[0], options_.program);
        _exit(127);
    }
    long follow =
        PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    if (!options_.program_alone) follow |= PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK;
    if (ptrace(PTRACE_SEIZE, main_, 0, follow) != 0) {
        std::fprintf(stderr, "CANNOT RUN: inject: no process can be traced here: %s\n",
                     std::strerror(errno));
        kill(main_, SIGKILL);
        waitpid(main_, nullptr, 0);
        std::exit(77);
    }
    if (ptrace(PTRACE_INTERRUPT, main_, 0, 0) != 0) give_up("PTRACE_INTERRUPT");
    int status = 0;
    if (waitpid(main_, &status, __WALL) != main_) give_up("waitpid");
    threads_[main_].process = main_;
    if (ptrace(PTRACE_SYSCALL, main_, 0, 0) != 0) give_up("PTRACE_SYSCALL");
    if (write(ready[1], "g", 1) != 1) give_up("write");
    close(ready[0]);
    close(ready[1]);
}

void Tracer::set_register(pid_t tid, bool number, long value) {
    user_regs_struct registers{};
    if (ptrace(PTRACE_GETREGS, tid, 0, &registers) != 0) return;  // killed meanwhile
    (number ? registers.orig_rax : registers.rax) = static_cast<unsigned long long>(value);
    ptrace(PTRACE_SETREGS, tid, 0, &registers);
}

void Tracer::enters(pid_t tid, Thread& thread, long number, unsigned long second) {
    thread.call = nullptr;
    thread.fails = false;
    const Failing* call = failing(number);
    if (number == SYS_futex && !sleeps(second)) return;  // to wake never fails
    if (call == nullptr || (options_.number >= 0 && number != options_.number)) return;
    std::string way = stacks_.of(thread.process, tid, call->own);
    if (way.empty()) return;
    thread.call = call;
    thread.way = std::move(way);
    if (options_.number < 0 || thread.way != options_.way || ++seen_ != options_.occurrence) return;
    thread.fails = true;
    if (!call->done) set_register(tid, true, -1);
}

void Tracer::leaves(pid_t tid, Thread& thread, long result) {
    if (thread.call == nullptr) return;
    if (thread.fails) set_register(tid, false, -options_.error);
    if (thread.fails || options_.number < 0) {
        std::fprintf(report_, "%s %s %ld %s\n", thread.fails ? "INJECTED" : "CALL",
                     thread.call->name, result, thread.way.c_str());
        std::fflush(report_);
    }
    thread.call = nullptr;
}

void Tracer::in_call(pid_t tid) {
    __ptrace_syscall_info info{};
    if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) <= 0) return;
    Thread& thread = threads_[tid];
    if (thread.process == 0) thread.process = process_of(tid);
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
        enters(tid, thread, static_cast<long>(info.entry.nr), info.entry.args[1]);
    if (info.op == PTRACE_SYSCALL_INFO_EXIT) leaves(tid, thread, static_cast<long>(info.exit.rval));
}

void Tracer::stopped(pid_t tid, int status) {
    const int signal = WSTOPSIG(status);
    const int event = status >> 16;
    int deliver = 0;
    if (signal == (SIGTRAP | 0x80)) {
        in_call(tid);
    } else if (event == PTRACE_EVENT_STOP) {
        threads_[tid];  // a new one, or all of it is stopped
        if (signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU) {
            ptrace(PTRACE_LISTEN, tid, 0, 0);
            return;
        }
    } else if (event == PTRACE_EVENT_EXEC) {
        stacks_.forget(tid);
        threads_[tid].call = nullptr;
    } else if (event == 0) {
        deliver = signal;
        if (signal == SIGSEGV || signal == SIGBUS || signal == SIGABRT) {
            Thread& thread = threads_[tid];
            if (thread.process == 0) thread.process = process_of(tid);
            std::fprintf(report_, "SIGNAL %d %d %s\n", signal, tid,
                         stacks_.of(thread.process, tid, false).c_str());
            std::fflush(report_);
        }
    }
    ptrace(PTRACE_SYSCALL, tid, 0, deliver);
}

void Tracer::end_all() {
    for (const auto& [tid, thread] : threads_) {
        if (thread.process == 0 || thread.process == tid) kill(tid, SIGKILL);
        std::fprintf(report_, "LATE thread %d in %s\n", tid,
                     thread.call == nullptr ? "-" : thread.call->name);
    }
}

int Tracer::run() {
    start();
    alarm(options_.seconds);
    int result = 125;
    for (;;) {
        int status = 0;
        const pid_t tid = waitpid(-1, &status, __WALL);
        if (late == 1) {
            late = 2;
            end_all();
        }
        if (tid < 0 && errno == EINTR) continue;
        if (tid < 0) break;  // nobody is left
        if (WIFSTOPPED(status)) {
            stopped(tid, status);
            continue;
        }
        if (tid == main_)
            result = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        if (WIFSIGNALED(status) && tid != main_ && WTERMSIG(status) != SIGKILL &&
            threads_[tid].process == tid)
            std::fprintf(report_, "DIED %d by signal %d\n", tid, WTERMSIG(status));
        stacks_.forget(tid);
        threads_.erase(tid);
    }
    std::fclose(report_);
    return late != 0 ? 124 : result;
}

Options parsed(int argc, char** argv) {
    Options options;
    int c;
    while ((c = getopt(argc, argv, "+s:1m:r:n:e:w:o:")) != -1) {
        switch (c) {
            case 's':
                options.seconds = static_cast<unsigned>(std::atoi(optarg));
                break;
            case '1':
                options.program_alone = true;
                break;
            case 'm':
                options.modules.emplace_back(optarg);
                break;
            case 'r':
                options.report = optarg;
                break;
            case 'e':
                options.error = std::atoi(optarg);
                break;
            case 'w':
                options.way = optarg;
                break;
            case 'o':
                options.occurrence = std::atoi(optarg);
                break;
            case 'n':
                for (const Failing& one : FAILING)
                    if (std::strcmp(one.name, optarg) == 0) options.number = one.number;
                if (options.number >= 0) break;
                std::fprintf(stderr, "inject: %s is in no table of calls that can fail\n", optarg);
                std::exit(125);
            default:
                std::exit(125);
        }
    }
    options.program = argv + optind;
    if (options.report == nullptr || *options.program == nullptr) {
        std::fprintf(stderr, "inject: needs -r REPORT and a program\n");
        std::exit(125);
    }
    return options;
}

/// Every call that can fail, with its errors: for who makes a plan.
int print_table() {
    for (const Failing& one : FAILING) {
        std::printf("%s", one.name);
        for (const int error : one.errors)
            if (error != 0) std::printf(" %s=%d", strerrorname_np(error), error);
        std::printf("\n");
    }
    return 0;
}

}  // namespace
}  // namespace aep::inject

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "--table") == 0) return aep::inject::print_table();
    const aep::inject::Options options = aep::inject::parsed(argc, argv);
    struct sigaction action {};
    action.sa_handler = [](int) {
        aep::inject::late = aep::inject::late == 0 ? 1 : aep::inject::late;
    };
    sigaction(SIGALRM, &action, nullptr);
    return aep::inject::Tracer(options).run();
}
