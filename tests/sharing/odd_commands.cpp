// Purpose: see odd_commands.hpp.
// Who calls it: see odd_commands.hpp.
// Crash rule: see odd_commands.hpp.
#include "tests/sharing/odd_commands.hpp"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "include/aep/dsm.h"
#include "tests/sharing/interruptions.hpp"

namespace aep::test {
namespace {

/// Asks that often for what no group can have.
std::string in_vain(dsm_group* group, unsigned times) {
    for (; times != 0; --times)
        if (dsm_group_alloc(group, std::size_t{1} << 33) != nullptr) return "there is";
    return strerrorname_np(errno);
}

dsm_group* interrupted_group;
std::atomic<unsigned> refusals;

/// What a handler should not ask.
void ask_in_a_handler(int) {
    const int before = errno;
    const auto note = [](bool failed) { refusals += failed && errno == EDEADLK ? 1 : 0; };
    note(dsm_group_root(interrupted_group) == nullptr);
    note(dsm_recv(DSM_ANY, 0, nullptr) == nullptr);
    note(dsm_fd() < 0);
    errno = before;
}

/// Calls whose thread holds something again and again, until handlers on top of them have been refused often.
std::string interrupted(dsm_group* group) {
    interrupted_group = group;
    refusals = 0;
    const Interruptions often(std::chrono::microseconds(50), ask_in_a_handler);
    while (refusals < 50) {
        void* const block = dsm_group_alloc(group, 100);
        if (block == nullptr || dsm_group_free(group, block) != 0) return strerrorname_np(errno);
        if (dsm_send(dsm_self(), group) != 0) return strerrorname_np(errno);
        while (dsm_recv(DSM_ANY, 0, nullptr) != nullptr) continue;
    }
    return "ok";
}

/// What the calls say of arguments that make no sense: "ok", or the first that is not as aep/dsm.h says.
std::string arguments() {
    const dsm_id self = dsm_self();
    const auto is = [](bool failed, int error) { return failed && errno == error; };
    void* const block = dsm_malloc(100);
    dsm_message message{};
    dsm_group_info info{};
    dsm_group* const group = dsm_group_create(0);
    if (block == nullptr || group == nullptr) return strerrorname_np(errno);
    constexpr std::size_t LARGE = std::size_t{1} << 40;
    const dsm_label reserved{.tag = 0, .type = 0, .version = 0, .reserved = 1};
    if (!is(dsm_send_message(self, block, &reserved, 0, 0) != 0, EINVAL)) return "reserved";
    if (!is(dsm_send_message(self, block, nullptr, 0, ~0u) != 0, EINVAL)) return "flags";
    if (dsm_send(self, block) != 0) return "send";
    if (!is(dsm_recv_message(self, 0, &message, LARGE) == nullptr, EINVAL))
        return "a large message";
    if (dsm_recv_message(self, 0, nullptr, sizeof message) != block) return "it was not taken";
    if (!is(dsm_group_inspect(group, &info, LARGE) != 0, EINVAL)) return "a large info";
    if (!is(dsm_expect(nullptr, 1, 1, 1) != 0, EINVAL)) return "no message";
    if (dsm_type(nullptr) != 0) return "no name";
    for (const dsm_id nobody : {~dsm_id{0}, dsm_id{1} << 40, self + (dsm_id{1} << 32)}) {
        if (!is(dsm_recv(nobody, -1, nullptr) == nullptr, ESRCH)) return "a receive from nobody";
        if (!is(dsm_send_wait(nobody, block, -1) != 0, ESRCH)) return "a send to nobody";
    }
    dsm_group_close(group);
    dsm_free(block);
    if (dsm_send_message(self, block, nullptr, 0, DSM_DROP) != 0) return "drop";
    if (!is(dsm_realloc(block, 200) == nullptr, EINVAL)) return "realloc of what was dropped";
    return dsm_recv(self, 0, nullptr) == block && dsm_free(block) == 0 ? "ok" : "the end";
}

/// Gets the signal by which the system tells that a page is lost, by `code` one which nobody has touched or which we have.
void be_told_of_a_lost_page(void* at, int code = BUS_MCEERR_AO) {
    siginfo_t news{};
    news.si_signo = SIGBUS;
    news.si_code = code;
    news.si_addr = at;
    syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGBUS, &news);
}

sigjmp_buf before_the_fault;

/// The same, in a program that has a handler of its own.
std::string handle_a_lost_page(void* at) {
    struct sigaction action {
    }, former{};
    action.sa_handler = [](int) { siglongjmp(before_the_fault, 1); };
    sigaction(SIGBUS, &action, &former);
    const bool handled = sigsetjmp(before_the_fault, 1) != 0;
    if (!handled) be_told_of_a_lost_page(at);
    sigaction(SIGBUS, &former, nullptr);
    return handled ? "handled" : "nothing came";
}

/// The machine reports that the page is lost, as far as the system knows. Its memory is as it was.
std::string lose_page(void* at) {
    void* const page = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(at) & ~4095ul);
    return madvise(page, 4096, MADV_HWPOISON) == 0 ? "lives" : strerrorname_np(errno);
}

}  // namespace

const Commands ODD_COMMANDS = {
    {"gvain",
     [](const Words& w) { return in_vain(w.pointer<dsm_group>(0), w.number<unsigned>(1)); }},
    {"buserror",
     [](const Words& w) {
         return be_told_of_a_lost_page(w.pointer<void>(0), w.number<int>(1)), std::string("lives");
     }},
    {"bushandled", [](const Words& w) { return handle_a_lost_page(w.pointer<void>(0)); }},
    {"poison", [](const Words& w) { return lose_page(w.pointer<void>(0)); }},
    {"arguments", [](const Words&) { return arguments(); }},
    {"ginterrupted", [](const Words& w) { return interrupted(w.pointer<dsm_group>(0)); }},
};

}  // namespace aep::test
