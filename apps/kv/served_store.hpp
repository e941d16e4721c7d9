// Purpose: the store over transports that copy (`unix`, `tcp`): each member has its partition in memory of its own and answers
//          what others ask of it, between its own operations and while it waits for an answer.
// Who calls it: kv.hpp.
// Crash rule: none: a member that is killed takes its partition with it, and the team ends.
#pragma once

#include <vector>

#include "apps/common/transport.hpp"
#include "apps/kv/partition.hpp"

namespace aep::apps::kv {

template <Transport T>
class ServedStore {
  public:
    static constexpr const char* NAME = T::NAME;
    static constexpr bool SURVIVES = false;
    using World = typename T::World;

    ServedStore(const Plan& plan, World* world, unsigned me)
        : transport_(plan, world, me), me_(me), own_(*this, me, nullptr) {}

    /// The partition's memory, which nobody else reads.
    void* allocate(std::size_t bytes) { return ::operator new(bytes); }
    void free(void* block) { ::operator delete(block); }

    void open(std::size_t) {}
    void put(std::string_view key, std::string_view value, bool in_place) {
        own_.put(key, value, in_place);
    }
    bool remove(std::string_view key) { return own_.remove(key); }
    bool get(unsigned partition, std::string_view key, std::string& found) {
        if (partition == me_) return own_.get(key, found);
        send(wait_for_peer(transport_, partition), Kind::question, key);
        for (;;) {
            auto message = transport_.receive(LOOK_MS);
            if (!message) continue;
            if (letter_of(message->object).kind == Kind::question) {
                asked_.push_back(std::move(*message));
                // Of two who ask each other one listens first: neither waits for the other to listen, however long the
                // answers are. And of more: who answers has asked one that comes after it, so there is no circle.
                if (partition > me_) answer_all();
                continue;
            }
            const Letter& letter = letter_of(message->object);
            const bool there = letter.kind == Kind::value;
            found = letter.bytes();
            transport_.drop(message->object);
            answer_all();
            return there;
        }
    }
    /// The member's own partition: nobody else has looked into one.
    template <class Use>
    void scan(unsigned partition, Use&& use) {
        verify(partition == me_, "kv: a partition can be scanned by its writer alone");
        own_.scan(use);
    }
    /// Answers who has asked meanwhile.
    void look() {
        while (auto message = transport_.receive(0)) {
            verify(letter_of(message->object).kind == Kind::question,
                   "kv: an answer that nobody waits for");
            asked_.push_back(std::move(*message));
            answer_all();
        }
    }

  private:
    static constexpr int LOOK_MS = 1000;
    enum class Kind : std::uint64_t { question, value, none };

    /// Followed by a key, or a value.
    struct Letter {
        Kind kind;
        std::uint64_t size;
        std::string_view bytes() const { return {reinterpret_cast<const char*>(this + 1), size}; }
    };
    const Letter& letter_of(const typename T::Object& object) {
        const auto* letter = static_cast<const Letter*>(transport_.body(object));
        verify(transport_.size(object) >= sizeof(Letter) &&
                   letter->size == transport_.size(object) - sizeof(Letter),
               "kv: a letter is not what it says");
        return *letter;
    }
    void send(typename T::Peer to, Kind kind, std::string_view bytes) {
        const typename T::Object object = transport_.make(sizeof(Letter) + bytes.size());
        auto* letter = new (transport_.body(object)) Letter{kind, bytes.size()};
        std::memcpy(reinterpret_cast<char*>(letter + 1), bytes.data(), bytes.size());
        verify(transport_.send(to, object), "kv: a member is dead");
        transport_.drop(object);
    }
    void answer_all() {
        for (const Message<T>& question : asked_) {
            const bool there = own_.get(letter_of(question.object).bytes(), answered_);
            send(question.from, there ? Kind::value : Kind::none,
                 there ? std::string_view(answered_) : std::string_view());
            transport_.drop(question.object);
        }
        asked_.clear();
    }

    T transport_;
    unsigned me_;
    Writer<ServedStore> own_;
    std::vector<Message<T>> asked_;  // and not answered yet
    std::string answered_;
};

}  // namespace aep::apps::kv
