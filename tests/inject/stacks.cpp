// Purpose: see stacks.hpp.
// Who calls it: see stacks.hpp.
// Crash rule: see stacks.hpp.
#include "tests/inject/stacks.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace aep::inject {

namespace {

/// Separate debug files are not needed: the tables to unwind by are in the programs.
int no_debug_file(Dwfl_Module*, void**, const char*, Dwarf_Addr, const char*, const char*,
                  GElf_Word, char**) {
    return -1;
}

constexpr Dwfl_Callbacks CALLBACKS = {.find_elf = dwfl_linux_proc_find_elf,
                                      .find_debuginfo = no_debug_file,
                                      .section_address = nullptr,
                                      .debuginfo_path = nullptr};

}  // namespace

struct Stacks::Walk {
    const Stacks& stacks;
    Dwfl* dwfl;
    std::string text;
    bool lost = false;  // a frame is in no file that was mapped when we looked
    bool first = true;  // no frame is known yet
    bool own = false;
};

Stacks::Session Stacks::open(pid_t process) {
    Session session(dwfl_begin(&CALLBACKS));
    if (session == nullptr) return session;
    dwfl_report_begin(session.get());
    if (dwfl_linux_proc_report(session.get(), process) != 0) session.reset();
    if (session != nullptr && (dwfl_report_end(session.get(), nullptr, nullptr) != 0 ||
                               dwfl_linux_proc_attach(session.get(), process, true) != 0))
        session.reset();
    return session;
}

bool Stacks::is_product(const char* path) const {
    const char* slash = std::strrchr(path, '/');
    const std::string name = slash == nullptr ? path : slash + 1;
    return std::any_of(modules_.begin(), modules_.end(), [&name](const std::string& module) {
        return name == module || name.starts_with(module + ".");  // libaepmalloc.so.1.0.0
    });
}

int Stacks::frame(Dwfl_Frame* state, void* argument) {
    Walk& walk = *static_cast<Walk*>(argument);
    Dwarf_Addr pc = 0;
    if (!dwfl_frame_pc(state, &pc, nullptr)) return DWARF_CB_ABORT;
    Dwfl_Module* module = dwfl_addrmodule(walk.dwfl, pc - 1);
    if (module == nullptr) {
        walk.lost = true;
        return DWARF_CB_OK;
    }
    const char* path =
        dwfl_module_info(module, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr);
    const bool product = path != nullptr && walk.stacks.is_product(path);
    if (walk.own && walk.first && !product) return DWARF_CB_ABORT;
    walk.first = false;
    if (!product) return DWARF_CB_OK;
    GElf_Addr bias = 0;
    if (dwfl_module_getelf(module, &bias) == nullptr) return DWARF_CB_OK;
    char text[300];
    const char* slash = std::strrchr(path, '/');
    std::snprintf(text, sizeof text, "%s%s+0x%llx", walk.text.empty() ? "" : " ",
                  slash == nullptr ? path : slash + 1,
                  static_cast<unsigned long long>(pc - 1 - bias));
    walk.text += text;
    return DWARF_CB_OK;
}

std::string Stacks::of(pid_t process, pid_t thread, bool own) {
    for (bool again = false;; again = true) {
        Session& session = sessions_[process];
        if (session == nullptr) session = open(process);
        if (session == nullptr) return "";
        Walk walk{*this, session.get(), "", false, true, own};
        dwfl_getthread_frames(session.get(), thread, frame, &walk);
        if (!walk.lost) return walk.text;
        if (again) return walk.first ? "" : walk.text;
        // A library was loaded since; which ones were there depends on the calls that are looked at, and ways must not.
        session.reset();
    }
}

}  // namespace aep::inject
