// Purpose: see symbols.hpp.
// Who calls it: see symbols.hpp.
// Crash rule: none needed.
#include "tools/cli/symbols.hpp"

#include <cxxabi.h>
#include <elfutils/libdwfl.h>
#include <fmt/format.h>

#include <cstdlib>

namespace aep {

namespace {

std::string demangled(const char* name) {
    int status = 0;
    const std::unique_ptr<char, decltype(&std::free)> plain(
        abi::__cxa_demangle(name, nullptr, nullptr, &status), &std::free);
    return status == 0 ? plain.get() : name;
}

std::string file_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

Symbols::Symbols(const std::string& map) {
    // Names come from the files that are here; nobody is asked over the network.
    unsetenv("DEBUGINFOD_URLS");
    static const Dwfl_Callbacks callbacks{dwfl_linux_proc_find_elf, dwfl_standard_find_debuginfo,
                                          nullptr, nullptr};
    files_ = dwfl_begin(&callbacks);
    if (files_ == nullptr || map.empty()) return;
    const std::unique_ptr<FILE, decltype(&fclose)> lines(
        fmemopen(const_cast<char*>(map.data()), map.size(), "r"), &fclose);
    if (lines == nullptr) return;
    dwfl_report_begin(files_);
    dwfl_linux_proc_maps_report(files_, lines.get());
    dwfl_report_end(files_, nullptr, nullptr);
}

Symbols::~Symbols() {
    if (files_ != nullptr) dwfl_end(files_);
}

const std::string& Symbols::name_of(u64 address) {
    const auto [at, is_new] = known_.try_emplace(address);
    if (is_new) at->second = look_up(address);
    return at->second;
}

std::string Symbols::look_up(u64 address) const {
    Dwfl_Module* const file = files_ != nullptr ? dwfl_addrmodule(files_, address) : nullptr;
    if (file == nullptr) return fmt::format("{:#x}", address);
    if (const char* name = dwfl_module_addrname(file, address)) return demangled(name);
    Dwarf_Addr begin = 0;
    const char* const path =
        dwfl_module_info(file, nullptr, &begin, nullptr, nullptr, nullptr, nullptr, nullptr);
    return fmt::format("{}+{:#x}", path != nullptr ? file_name(path) : "?", address - begin);
}

}  // namespace aep
