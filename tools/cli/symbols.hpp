// Purpose: the functions' names of a process's addresses, by the files of its map.
// Who calls it: cli/flame_graph.cpp.
// Crash rule: none needed.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "dsm-core/base/types.hpp"

struct Dwfl;

namespace aep {

class Symbols {
  public:
    /// `map`: as /proc/PID/maps has it; lines that are not understood end it.
    explicit Symbols(const std::string& map);
    ~Symbols();
    Symbols(const Symbols&) = delete;
    Symbols& operator=(const Symbols&) = delete;

    /// The function's name, demangled; else the file's with the address in it; else the address.
    const std::string& name_of(u64 address);

  private:
    std::string look_up(u64 address) const;

    Dwfl* files_ = nullptr;
    std::map<u64, std::string> known_;
};

}  // namespace aep
