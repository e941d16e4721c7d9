// Purpose: what aep/dsm.hpp and aep/call.hpp have in common: how types are called in messages, which objects can be shared, time limits.
//          Header only; no exceptions.
// Who calls it: those two.
// Crash rule: no state.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include <aep/dsm.h>

namespace aep::dsm {

using Id = dsm_id;

/// A time limit that there is none.
inline constexpr std::optional<std::chrono::milliseconds> FOREVER = std::nullopt;
/// One that is over: does not wait.
inline constexpr std::optional<std::chrono::milliseconds> AT_ONCE = std::chrono::milliseconds(0);
using Timeout = std::optional<std::chrono::milliseconds>;

namespace detail {

/// A time limit of several attempts: what is left of it.
class Limit {
  public:
    /// Nothing: for ever.
    explicit Limit(std::optional<std::chrono::milliseconds> timeout) : timeout_(timeout) {
        if (timeout_ && *timeout_ > std::chrono::milliseconds::zero())
            end_ = Clock::now() + most(*timeout_);
    }
    /// In milliseconds, rounded up; -1: for ever; at most what an int holds.
    int left() const {
        if (!timeout_) return -1;
        if (*timeout_ <= std::chrono::milliseconds::zero()) return 0;
        const auto now = Clock::now();
        if (now >= end_) return 0;
        return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(end_ - now).count());
    }

  private:
    using Clock = std::chrono::steady_clock;
    static std::chrono::milliseconds most(std::chrono::milliseconds time) {
        constexpr std::chrono::milliseconds MOST{1'000'000'000};
        return time < MOST ? time : MOST;
    }
    std::optional<std::chrono::milliseconds> timeout_;
    Clock::time_point end_{};
};

/// std::construct_at, also of an aggregate where the compiler (clang before 16) does not make one from parentheses.
template <class T, class... Arguments>
T* construct(void* memory, Arguments&&... arguments) {
    if constexpr (std::is_constructible_v<T, Arguments...>)
        return std::construct_at(static_cast<T*>(memory), std::forward<Arguments>(arguments)...);
    else
        return ::new (memory) T{std::forward<Arguments>(arguments)...};
}

constexpr std::uint64_t hash_of(std::string_view name) {
    std::uint64_t hash = 0xcbf2'9ce4'8422'2325;
    for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100'0000'01b3;
    return hash == 0 ? 1 : hash;
}

template <class T>
constexpr std::string_view written_name() {
    const std::string_view text = __PRETTY_FUNCTION__;
    const std::size_t begin = text.find("T = ") + 4;
    return text.substr(begin, text.find_first_of(";]", begin) - begin);
}

template <class T>
constexpr std::string_view type_name() {
    if constexpr (requires { std::string_view(T::dsm_type_name); })
        return T::dsm_type_name;
    else if constexpr (std::is_arithmetic_v<T> &&
                       sizeof(T) <= 8)  // compilers name them differently
        return std::string_view(std::is_floating_point_v<T> ? "f1f2f3f4f5f6f7f8"
                                : std::is_signed_v<T>       ? "i1i2i3i4i5i6i7i8"
                                                            : "u1u2u3u4u5u6u7u8")
            .substr((sizeof(T) - 1) * 2, 2);
    else
        return written_name<T>();
}

struct Drop {
    void operator()(void* object) const { dsm_free(object); }
};

/// What a message says of an object that is a T.
template <class T>
constexpr dsm_label label_of(std::uint64_t tag) {
    using Plain = std::remove_cv_t<T>;
    dsm_label label{.tag = tag, .type = hash_of(type_name<Plain>()), .version = 0, .reserved = 0};
    if constexpr (requires { Plain::dsm_version; }) label.version = Plain::dsm_version;
    return label;
}

}  // namespace detail

/// What can lie in memory that several processes use and that may outlive them all: no destructor
/// will run, and no pointer of one process's own (a vtable, a std::string) may be in it.
template <class T>
concept Sharable = std::is_trivially_destructible_v<T> && !std::is_polymorphic_v<T>;

}  // namespace aep::dsm
