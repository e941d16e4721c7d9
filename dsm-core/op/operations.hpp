// Purpose: all operations: their numbers, names and sizes; the room that a slot has for one.
// Who calls it: the context's format, the dispatcher, the client's door, the host, reports.
// Crash rule: no state.
#pragma once

#include "dsm-core/base/fnv1a.hpp"
#include "dsm-core/op/heap_operations.hpp"
#include "dsm-core/op/node_operations.hpp"
#include "dsm-core/op/share_operations.hpp"

namespace aep {

template <class O>
concept HeapOperation = op::HeapOperations::HAS<O>;
template <class O>
concept NodeOperation = op::NodeOperations::HAS<O>;
template <class O>
concept ShareOperation = op::ShareOperations::HAS<O>;

/// By which it goes into the image.
template <class O>
requires HeapOperation<O> || NodeOperation<O> || ShareOperation<O>
constexpr u32 number_of() {
    if constexpr (HeapOperation<O>) return op::HeapOperations::number<O>();
    if constexpr (NodeOperation<O>) return op::NodeOperations::number<O>();
    if constexpr (ShareOperation<O>) return op::ShareOperations::number<O>();
}

/// Calls f.operator()<O>() for the operation with that number; false: there is none.
template <class F>
[[gnu::always_inline]] constexpr bool visit_operation(u32 number, F&& f) {
    return op::ShareOperations::visit(number, f) || op::HeapOperations::visit(number, f) ||
           op::NodeOperations::visit(number, f);
}

constexpr bool is_heap_operation(u32 number) { return op::HeapOperations::has(number); }
constexpr bool is_share_operation(u32 number) { return op::ShareOperations::has(number); }
constexpr bool is_operation(u32 number) {
    return is_heap_operation(number) || op::NodeOperations::has(number) ||
           is_share_operation(number);
}

/// "unknown" for a number that is none.
constexpr const char* name_of(u32 number) {
    const char* name = "unknown";
    visit_operation(number, [&]<class O>() { name = O::NAME; });
    return name;
}

namespace detail {

/// Calls f.operator()<O>() for each of a list.
template <u32 BEGIN, class... O, class F>
constexpr void each_of(OperationList<BEGIN, O...>, F&& f) {
    (f.template operator()<O>(), ...);
}

}  // namespace detail

template <class F>
constexpr void each_operation(F&& f) {
    detail::each_of(op::HeapOperations{}, f);
    detail::each_of(op::NodeOperations{}, f);
    detail::each_of(op::ShareOperations{}, f);
}

/// Room for the longest ones, in whole words.
struct MessageBytes {
    usize request = 0, reply = 0;
};
inline constexpr MessageBytes MESSAGE_BYTES = [] {
    MessageBytes room;
    each_operation([&]<class O>() {
        if (sizeof(O) > room.request) room.request = round_up(sizeof(O), 8);
        if (sizeof(typename O::Reply) > room.reply)
            room.reply = round_up(sizeof(typename O::Reply), 8);
    });
    return room;
}();
static_assert(MESSAGE_BYTES.request <= 192 && MESSAGE_BYTES.reply <= 696);  // of a slot

/// Changes with the number, the order and the sizes of the operations.
constexpr u64 operations_hash() {
    u64 hash = 0;
    each_operation([&]<class O>() {
        hash = (hash ^ (u64{number_of<O>()} << 32 | sizeof(O) << 16 | sizeof(typename O::Reply))) *
               FNV_PRIME;
        hash = fnv1a(O::NAME, __builtin_strlen(O::NAME), hash);
    });
    return hash;
}

}  // namespace aep
