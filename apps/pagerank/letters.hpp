// Purpose: what the functions of the workflow hand to each other, and what each of them needs to do so: letters in objects, the
//          peers' present lives, and the time that goes into memory and sending.
// Who calls it: functions.hpp.
// Crash rule: a letter to somebody who has died is sent to the successor.
#pragma once

#include "apps/common/board.hpp"
#include "apps/common/clock.hpp"
#include "apps/common/transport.hpp"
#include "apps/pagerank/graph.hpp"

namespace aep::apps::pagerank {

struct Options {
    std::uint32_t vertices = 10'000;
    std::uint32_t degree = 8;
    std::uint32_t workers = 2;
    std::uint32_t steps = 10;
    std::uint64_t jobs = 5;
    std::size_t piece = 64 << 10;  // bytes of ranks in an object at most
    Waiting waiting = Waiting::blocking;
};

/// Who is who; the workers follow.
inline constexpr unsigned LEADER = 0;
inline constexpr unsigned DIVIDER = 1;
inline constexpr unsigned MERGER = 2;
inline constexpr unsigned FIRST_WORKER = 3;

enum class Kind : std::uint32_t {
    hello,  // of one who has come, perhaps in the place of a dead one: tell it what it has to know
    graph,  // leader to divider: the nodes are the graph
    job,    // leader to merger: begin
    part,   // divider to worker: the nodes are its vertices
    step,   // merger to worker: do that step; all pieces of the one before follow
    piece,  // worker to merger, merger to workers, and in the end to the leader
};

/// What each object's body begins with. A piece's numbers follow.
struct Letter {
    Structure nodes;
    Kind kind;
    std::uint32_t member;  // of the team, who wrote it
    std::uint32_t job;
    std::uint32_t step;
    std::uint64_t life;  // of the merger that began the steps anew
    std::uint32_t piece;
    std::uint32_t count;  // numbers
    double stranded;
    double sent;  // when, ns
    double* numbers() { return reinterpret_cast<double*>(this + 1); }
};

/// What a member's seat says at its end, ns.
enum Figure { MEMORY, RECKONING, SENDING, UNDER_WAY, TOTAL };

/// Where the time of a function goes, ns.
struct Spent {
    double memory = 0;  // making objects and what fills them first
    double reckoning = 0;
    double sending = 0;
    std::vector<double> under_way;  // of each letter
};

/// A function, as far as all are alike.
template <Transport T>
class Member {
  public:
    using Object = typename T::Object;

    Member(T& transport, Board& board, const Options& options, const Shape& shape, unsigned me)
        : transport_(transport), board_(board), options_(options), shape_(shape), me_(me) {
        peers_.resize(FIRST_WORKER + options.workers);
    }
    Member(const Member&) = delete;
    Member& operator=(const Member&) = delete;

  protected:
    /// A letter that this member owns, until it is dropped.
    class Held {
      public:
        Held() = default;
        Held(Member& member, Object object) : member_(&member), object_(object) {}
        Held(Held&& from) noexcept
            : member_(std::exchange(from.member_, nullptr)), object_(from.object_) {}
        Held& operator=(Held&& from) noexcept {
            std::swap(member_, from.member_);
            std::swap(object_, from.object_);
            return *this;
        }
        ~Held() {
            if (member_ == nullptr) return;
            try {
                member_->transport_.drop(object_);
            } catch (const std::exception&) {
                // What the next operation says, too: there is no context any more.
            }
        }
        explicit operator bool() const { return member_ != nullptr; }
        Letter* operator->() const {
            return static_cast<Letter*>(member_->transport_.body(object_));
        }
        Object& object() { return object_; }

      private:
        Member* member_ = nullptr;
        Object object_{};
    };

    Held write(Kind kind, std::uint32_t numbers = 0) {
        const double begin = now_ns();
        Held letter =
            filled(transport_.make(sizeof(Letter) + numbers * sizeof(double)), kind, numbers);
        spent_.memory += now_ns() - begin;
        return letter;
    }
    /// build(make) makes the nodes, `count` of them, and gives the first one.
    template <class Build>
    Held write_nodes(Kind kind, std::size_t count, Build&& build) {
        const double begin = now_ns();
        Held letter = filled(transport_.make_structure(sizeof(Letter), count), kind, 0);
        letter->nodes.first = build([&] { return transport_.add(letter.object()); });
        spent_.memory += now_ns() - begin;
        return letter;
    }
    /// To whoever is that member now; to nobody when it is over.
    void send(unsigned to, Held& letter) {
        const double begin = now_ns();
        const auto over = [this] { return board_.over.load() != 0; };
        if (!peers_[to]) peers_[to] = wait_for_peer(transport_, to, over);
        while (peers_[to] && !transport_.send(*peers_[to], letter.object())) {
            verify(T::SURVIVES, "pagerank: a function is dead");
            peers_[to] = wait_for_peer(transport_, to, over);
        }
        spent_.sending += now_ns() - begin;
    }
    /// The next letter; none: it is over.
    std::optional<Held> next() {
        auto message = wait_for_message(transport_, options_.waiting,
                                        [this] { return board_.over.load() != 0; });
        if (!message) return std::nullopt;
        verify(transport_.size(message->object) >= sizeof(Letter), "pagerank: no letter");
        Held letter(*this, message->object);
        verify(letter->member < peers_.size() &&
                   letter->count <=
                       (transport_.size(message->object) - sizeof(Letter)) / sizeof(double),
               "pagerank: a letter is not what it says");
        if (letter->kind != Kind::piece || me_ == MERGER)  // those that come from their writer
            spent_.under_way.push_back(now_ns() - letter->sent);
        from_ = message->from;
        return letter;
    }
    /// Whether the hello that has come last is of somebody who was not told anything so far: a new life of that member.
    bool is_new_life(const Held& hello) {
        return std::exchange(peers_[hello->member], from_) != from_;
    }
    /// The same of a letter that this member has just finished.
    void send_now(unsigned to, Held& letter) {
        letter->sent = now_ns();
        send(to, letter);
    }
    void report() {
        auto& figures = board_.seats[me_].figures;
        figures[MEMORY] = spent_.memory;
        figures[RECKONING] = spent_.reckoning;
        figures[SENDING] = spent_.sending;
        figures[UNDER_WAY] = quantile(spent_.under_way, 0.5);
    }
    void say_hello(unsigned to) {
        Held letter = write(Kind::hello);
        send_now(to, letter);
    }

    T& transport_;
    Board& board_;
    const Options& options_;
    const Shape& shape_;
    const unsigned me_;
    Spent spent_;

  private:
    Held filled(Object object, Kind kind, std::uint32_t numbers) {
        Held letter(*this, object);
        *letter.operator->() = {.nodes = {nullptr},
                                .kind = kind,
                                .member = me_,
                                .job = 0,
                                .step = 0,
                                .life = 0,
                                .piece = 0,
                                .count = numbers,
                                .stranded = 0,
                                .sent = 0};
        return letter;
    }

    std::vector<std::optional<typename T::Peer>> peers_;  // their lives that are known
    typename T::Peer from_{};                             // who sent the last letter
};

}  // namespace aep::apps::pagerank
