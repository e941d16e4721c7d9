// Purpose: the sharing peer's commands: their words, their answers, and the tables that hold them by name.
// Who calls it: peer.cpp, group_commands.cpp.
// Crash rule: it is there to be killed.
#pragma once

#include <errno.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace aep::test {

/// What follows a command in its line; a word that is not there is empty, and a null pointer.
class Words {
  public:
    explicit Words(std::istringstream& line) {
        for (std::string word; line >> word;) words_.push_back(word);
    }
    std::string operator[](std::size_t i) const { return i < words_.size() ? words_[i] : ""; }
    /// Decimal; throws if the word is no number.
    template <class T = std::uint64_t>
    T number(std::size_t i) const {
        return static_cast<T>(std::stoull((*this)[i]));
    }
    /// Hexadecimal, as address_text() writes them.
    template <class T = void>
    T* pointer(std::size_t i) const {
        return reinterpret_cast<T*>(std::strtoull((*this)[i].c_str(), nullptr, 16));
    }

  private:
    std::vector<std::string> words_;
};

/// The answer, a line. Names of errors stand for what failed.
using Command = std::string (*)(const Words&);
using Commands = std::map<std::string, Command>;

/// "ok", or errno's name if the call failed.
inline std::string ok_or_error(int result) { return result == 0 ? "ok" : strerrorname_np(errno); }

/// The address, or errno's name if there is none.
inline std::string address_text(const void* p) {
    if (p == nullptr) return strerrorname_np(errno);
    char text[32];
    std::snprintf(text, sizeof text, "%llx",
                  static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(p)));
    return text;
}

/// The number, or errno's name if it is 0.
inline std::string number_or_error(std::uint64_t value) {
    return value == 0 ? strerrorname_np(errno) : std::to_string(value);
}

}  // namespace aep::test
