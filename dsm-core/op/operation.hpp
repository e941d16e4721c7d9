// Purpose: what an operation is: a type whose fields are what it is asked, with a type Reply whose
//          fields are what it answers; lists of them; how both travel.
// Who calls it: the lists of operations, the image's dispatcher, the client's door, the host.
// Crash rule: no state.
//
// An operation is short, bounded, free of system calls (but futex) and of user memory, and is
// performed by the one function perform() that takes its type. Its number, by which it goes into
// the image, is its list's first plus its place in the list.
#pragma once

#include <concepts>
#include <type_traits>

#include "dsm-core/base/copied.hpp"
#include "dsm-core/op/status.hpp"

namespace aep {

/// Requests and replies lie in a slot that both sides write, so they are plain bytes.
template <class T>
concept Travels = std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T> &&
                  alignof(T) <= alignof(u64);

/// A reply begins with its status: that alone is written when nothing was done.
template <class O>
concept Operation = Travels<O> && Travels<typename O::Reply> && requires(typename O::Reply reply) {
    { reply.status } -> std::same_as<Status&>;
    { O::NAME } -> std::convertible_to<const char*>;
};

/// The answer of an operation that has nothing else to say.
struct Done {
    Status status = Status::ok;
};

/// A list of operations, whose numbers begin with BEGIN.
template <u32 BEGIN, Operation... O>
struct OperationList {
    static constexpr u32 FIRST = BEGIN;
    static constexpr u32 END = BEGIN + sizeof...(O);

    static constexpr bool has(u32 number) { return number - FIRST < sizeof...(O); }

    template <class Wanted>
    static constexpr bool HAS = (std::is_same_v<Wanted, O> || ...);

    template <class Wanted>
    static constexpr u32 number() {
        u32 number = FIRST;
        // Stops at the wanted one.
        const bool found = ((std::is_same_v<Wanted, O> || (++number, false)) || ...);
        return found ? number : END;
    }

    /// Calls f.operator()<O>() for the operation with that number; false: it is none of the list.
    template <class F>
    [[gnu::always_inline]] static constexpr bool visit(u32 number, F&& f) {
        u32 at = FIRST;
        return ((number == at++ && (f.template operator()<O>(), true)) || ...);
    }
};

/// Copies a request or a reply into or out of a slot, each word read once. Never two words with one
/// load: one that spans two stores that were just made waits for the processor to be done with them
/// (measured: 12 % of a send). The first word in halves: a status is written alone.
template <Travels T>
[[gnu::always_inline]] inline void copy_message(void* to, const void* from) {
    if constexpr (!std::is_empty_v<T>) {
        const uptr out = reinterpret_cast<uptr>(to), in = reinterpret_cast<uptr>(from);
        usize at = 0;
        for (; at + 4 <= sizeof(T) && at < 8; at += 4) detail::read_once<4>(out + at, in + at);
        for (; at + 8 <= sizeof(T); at += 8) detail::read_once<8>(out + at, in + at);
        for (; at + 4 <= sizeof(T); at += 4) detail::read_once<4>(out + at, in + at);
        for (; at < sizeof(T); ++at) detail::read_once<1>(out + at, in + at);
    }
}

/// The request or the reply that lies there, in the caller's memory.
template <Travels T>
[[gnu::always_inline]] inline T received(const void* from) {
    T own;
    copy_message<T>(&own, from);
    return own;
}

}  // namespace aep
