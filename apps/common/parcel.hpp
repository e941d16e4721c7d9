// Purpose: objects as they are where they cannot be shared: in memory of each member's own, and on the way in the form that
//          flatbuffers gives them (parcel.fbs), links as numbers.
// Who calls it: transports that copy: socket.hpp, bench/apps/zeromq.hpp.
// Crash rule: no state.
#pragma once

#include <parcel_generated.h>

#include <cstring>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "apps/common/failure.hpp"
#include "apps/common/object.hpp"

namespace aep::apps {

/// What was made here, or received: then the body lies in the frame as it came.
struct CopiedObject {
    explicit CopiedObject(std::size_t frame)
        : memory(std::make_unique_for_overwrite<std::uint8_t[]>(frame)) {}

    /// The caller's, until it is deleted.
    static CopiedObject* make(std::size_t bytes, bool is_structure) {
        auto object = std::make_unique<CopiedObject>(bytes);
        object->body = object->memory.get();
        object->bytes = bytes;
        object->structure = is_structure;
        return object.release();
    }

    void* body = nullptr;
    std::size_t bytes = 0;
    bool structure = false;
    std::unique_ptr<std::uint8_t[]> memory;
    std::deque<Node> made;
    std::vector<Node> received;
};

/// What each transport that copies does with objects alike; see transport.hpp.
class CopiedObjects {
  public:
    using Object = CopiedObject*;
    Object make(std::size_t bytes) { return CopiedObject::make(bytes, false); }
    Object make_structure(std::size_t bytes, std::size_t) {
        return CopiedObject::make(bytes, true);
    }
    Node* add(Object object) { return &object->made.emplace_back(); }
    void* body(Object object) const { return object->body; }
    std::size_t size(Object object) const { return object->bytes; }
    void drop(Object object) { delete object; }
};

/// A structure's nodes in preorder, each with the numbers of its children.
inline std::vector<wire::Node> flatten(const Node* first) {
    struct Visit {
        const Node* node;
        std::size_t parent;
        bool left;
    };
    std::vector<wire::Node> nodes;
    std::vector<Visit> open{{first, 0, true}};
    while (!open.empty()) {
        const Visit at = open.back();
        open.pop_back();
        if (at.node == nullptr) continue;
        nodes.emplace_back(at.node->value, 0u, 0u,
                           flatbuffers::span<const std::uint64_t, 5>(at.node->payload));
        const auto number = static_cast<std::uint32_t>(nodes.size());
        if (number > 1)
            at.left ? nodes[at.parent].mutate_left(number) : nodes[at.parent].mutate_right(number);
        open.push_back({at.node->right, number - 1u, false});
        open.push_back({at.node->left, number - 1u, true});
    }
    return nodes;
}

/// Makes parcels of objects; the last one stays until the next.
class Parcels {
  public:
    std::span<const std::uint8_t> pack(const CopiedObject& object, bool nodes_too) {
        builder_.Clear();
        flatbuffers::Offset<flatbuffers::Vector<const wire::Node*>> nodes = 0;
        if (nodes_too)
            nodes = builder_.CreateVectorOfStructs(
                flatten(static_cast<const Structure*>(object.body)->first));
        const auto body =
            builder_.CreateVector(static_cast<const std::uint8_t*>(object.body), object.bytes);
        builder_.FinishSizePrefixed(wire::CreateParcel(builder_, body, nodes));
        return {builder_.GetBufferPointer(), builder_.GetSize()};
    }

  private:
    flatbuffers::FlatBufferBuilder builder_;
};

/// Pointers instead of numbers.
inline void restore(CopiedObject& object, const flatbuffers::Vector<const wire::Node*>& nodes) {
    object.structure = true;
    object.received.resize(nodes.size());
    const auto link = [&object](std::uint32_t number) -> Node* {
        verify(number <= object.received.size(), "a message's link leads out of it");
        return number == 0 ? nullptr : &object.received[number - 1];
    };
    for (std::uint32_t i = 0; i < nodes.size(); ++i) {
        const wire::Node& node = *nodes.Get(i);
        Node& here = object.received[i];
        here.value = node.value();
        here.left = link(node.left());
        here.right = link(node.right());
        std::memcpy(here.payload, node.payload()->data(), sizeof here.payload);
    }
    verify(object.bytes >= sizeof(Structure), "a structure's body is too small");
    static_cast<Structure*>(object.body)->first = link(nodes.size() == 0 ? 0 : 1);
}

/// The object whose parcel, `length` bytes behind its own length, has been received into its memory.
inline void unpack(CopiedObject& object, std::size_t length) {
    flatbuffers::Verifier verifier(object.memory.get(), length);
    verify(wire::VerifyParcelBuffer(verifier), "a message is no parcel");
    wire::Parcel* parcel = flatbuffers::GetMutableRoot<wire::Parcel>(object.memory.get());
    flatbuffers::Vector<std::uint8_t>* body = parcel->mutable_body();
    verify(body != nullptr, "a message has no body");
    object.body = body->data();
    object.bytes = body->size();
    if (parcel->nodes() != nullptr) restore(object, *parcel->nodes());
}

}  // namespace aep::apps
