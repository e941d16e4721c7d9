// Purpose: what of the library watches the program (shim/watch), as the environment asks for it: the heap profile, the
//          report of leaks, guarded blocks; the unwinders that stacks may come from.
// Who calls it: the loader, as constructor and destructor; a signal.
// Crash rule: private to the process.
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <unwind.h>

#include "preload/export.hpp"
#include "preload/kept_stderr.hpp"
#include "preload/watching.hpp"
#include "shim/driver/aside.hpp"
#include "shim/driver/process.hpp"
#include "shim/sys/message.hpp"
#include "shim/watch/inspected.hpp"
#include "shim/watch/profile_file.hpp"

namespace {

using namespace aep;

extern "C" AEP_EXPORT const Inspected aep_inspected = {
    Inspected::MAGIC, sizeof(Inspected), sizeof(SampleSite), MOST_SITES,    MOST_FRAMES,
    &watch,           &sample_tables,    &domain_address,    &window_slices};

// ---- unwinders: of libraries that are opened only if they are asked for

decltype(&_Unwind_Backtrace) gcc_backtrace = nullptr;
decltype(&_Unwind_GetIP) gcc_address = nullptr;

struct Frames {
    uptr* frames;
    u32 most, count;
};

_Unwind_Reason_Code add_frame(_Unwind_Context* context, void* to) {
    Frames& f = *static_cast<Frames*>(to);
    if (f.count == f.most) return _URC_END_OF_STACK;
    const uptr at = gcc_address(context);
    if (at != 0) f.frames[f.count++] = at;
    return _URC_NO_REASON;
}

u32 unwind_by_gcc(uptr* frames, u32 most) {
    Frames f{frames, most, 0};
    gcc_backtrace(add_frame, &f);
    return f.count;
}

int (*libunwind_backtrace)(void** frames, int most) = nullptr;

u32 unwind_by_libunwind(uptr* frames, u32 most) {
    const int count = libunwind_backtrace(reinterpret_cast<void**>(frames), static_cast<int>(most));
    return count > 0 ? static_cast<u32>(count) : 0;
}

/// A function of a library that stays open; null, with a message: there is none.
template <class F>
bool find_function(F*& to, void* library, const char* name) {
    to = library != nullptr ? reinterpret_cast<F*>(dlsym(library, name)) : nullptr;
    return to != nullptr;
}

void* open_library(const char* name) {
    void* const library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr)
        message(
            "AEP_STACKS: ", name,
            " cannot be opened: stacks come from frame pointers; install it (Debian: libgcc-s1, "
            "libunwind8)");
    return library;
}

void choose_unwinder(Stacks stacks) {
    if (stacks == Stacks::gcc) {
        void* const library = open_library("libgcc_s.so.1");
        if (find_function(gcc_backtrace, library, "_Unwind_Backtrace") &&
            find_function(gcc_address, library, "_Unwind_GetIP"))
            use_unwinder(unwind_by_gcc);
    } else if (stacks == Stacks::libunwind) {
        void* const library = open_library("libunwind.so.8");
        if (find_function(libunwind_backtrace, library, "unw_backtrace"))
            use_unwinder(unwind_by_libunwind);
    }
}

// ---- the environment's wishes

void switch_on(u32 what) { watch.on.fetch_or(what, std::memory_order_relaxed); }

/// The first signal begins the profile, each further one writes it.
void on_signal(int) {
    const int saved = errno;
    if ((watch.on.load(std::memory_order_relaxed) & WATCH_PROFILE) == 0)
        switch_on(WATCH_PROFILE);
    else
        write_profile_file(settings().profile);
    errno = saved;
}

void take_signal(int number) {
    struct sigaction action {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART | SA_ONSTACK;
    sigfillset(&action.sa_mask);
    if (sigaction(number, &action, nullptr) != 0)
        message("AEP_PROFILE_SIGNAL=", number, ": ", Errno{errno},
                ": no signal writes the profile");
}

__attribute__((destructor)) void at_exit() {
    if ((watch.on.load(std::memory_order_relaxed) & WATCH_PROFILE) == 0) return;
    // What is done for the reports themselves is none of the program's.
    watch.on.store(0, std::memory_order_relaxed);
    give_stderr_back();
    if (settings().profile != nullptr) write_profile_file(settings().profile);
    if (settings().leaks) report_leaks();
}

}  // namespace

void aep_begin_watching(uptr own_begin, uptr own_end) {
    own_code_lies_at(own_begin, own_end);
    const Settings& wanted = settings();
    const bool profile = wanted.profile != nullptr || wanted.leaks;
    if ((profile || wanted.stats) && !stays_on_libc()) keep_stderr();
    choose_unwinder(wanted.stacks);
    if ((!profile && wanted.guard == 0) || stays_on_libc()) return;
    watch.rate.store(wanted.profile_rate, std::memory_order_relaxed);
    watch.guard_rate.store(wanted.guard, std::memory_order_relaxed);
    if (wanted.guard != 0) switch_on(WATCH_GUARD);
    if (!profile) return;
    if (wanted.profile_signal != 0 && wanted.profile == nullptr)
        message(
            "AEP_PROFILE_SIGNAL is ignored: set AEP_PROFILE to the beginning of a path, where the "
            "profile is to be written");
    const bool by_signal = wanted.profile_signal != 0 && wanted.profile != nullptr;
    if (by_signal) take_signal(wanted.profile_signal);
    if (!by_signal || wanted.leaks) switch_on(WATCH_PROFILE);
}
