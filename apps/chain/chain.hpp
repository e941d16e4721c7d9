// Purpose: a chain of functions, each a process that is there before it is called: each reads all of a state, adds to
//          it and passes it on; the first one begins and measures a round.
// Who calls it: main.cpp, and bench/apps/chain.cpp over the flat baseline.
// Crash rule: a function that is killed takes the state with it that it was working on: the first one, which sees that
//             somebody died, begins that round again.
#pragma once

#include "apps/common/clock.hpp"
#include "apps/common/options.hpp"

namespace aep::apps::chain {

struct Options {
    unsigned functions = 40;
    std::size_t bytes = 64 << 10;
    std::uint64_t rounds = 200;
    Waiting waiting = Waiting::blocking;
};

/// Followed by words, each of which every function adds 1 to.
struct State {
    std::uint64_t round;
    std::uint64_t steps;  // functions that have had it
    std::uint64_t words;
    std::uint64_t* word() { return reinterpret_cast<std::uint64_t*>(this + 1); }
};

/// What a function does: all of the state is read, checked and changed.
inline void work(State& state) {
    std::uint64_t* word = state.word();
    std::uint64_t differences = 0;
    for (std::uint64_t i = 0; i < state.words; ++i) {
        differences |= word[i] ^ state.steps;
        word[i] += 1;
    }
    verify(differences == 0, "chain: a state is not what the functions before made of it");
    ++state.steps;
}

template <Transport T>
class Function {
  public:
    Function(T& transport, Board& board, const Options& options, unsigned me)
        : transport_(transport),
          board_(board),
          options_(options),
          next_((me + 1) % options.functions),
          peer_(wait_for_peer(transport, next_)) {}

    /// Any but the first.
    void serve() {
        const auto over = [this] { return board_.over.load() != 0; };
        while (auto message = wait_for_message(transport_, options_.waiting, over)) {
            work(state_of(message->object));
            pass_on(message->object);
        }
    }

    /// The first: medians of a round and of making its state, ns.
    void lead(Board::Seat& seat) {
        std::vector<double> rounds;
        std::vector<double> makes;
        std::uint64_t again = 0;
        for (std::uint64_t done = 0; done < options_.rounds || board_.kills.load() != 0;) {
            const std::uint32_t deaths = board_.kills.load();
            const double begin = now_ns();
            typename T::Object object = make(++round_);
            makes.push_back(now_ns() - begin);
            work(state_of(object));
            pass_on(object);
            if (!comes_back(deaths)) {
                ++again;
                continue;
            }
            rounds.push_back(now_ns() - begin);
            seat.done.store(++done, std::memory_order_relaxed);
        }
        board_.over = 1;
        seat.figures[0] = quantile(rounds, 0.5);
        seat.figures[1] = quantile(rounds, 0.99);
        seat.figures[2] = quantile(makes, 0.5);
        seat.figures[3] = static_cast<double>(again);
    }

  private:
    State& state_of(const typename T::Object& object) {
        auto* state = static_cast<State*>(transport_.body(object));
        const std::size_t bytes = transport_.size(object);
        verify(bytes >= sizeof(State) &&
                   state->words <= (bytes - sizeof(State)) / sizeof(std::uint64_t),
               "chain: a state is too small");
        return *state;
    }
    typename T::Object make(std::uint64_t round) {
        const std::size_t words =
            std::max(options_.bytes, sizeof(State) + 8) / 8 - sizeof(State) / 8;
        const typename T::Object object = transport_.make(sizeof(State) + words * 8);
        auto* state = static_cast<State*>(transport_.body(object));
        *state = {.round = round, .steps = 0, .words = words};
        std::fill_n(state->word(), words, 0);
        return object;
    }
    /// To the next one, or to whoever follows it when it is dead.
    void pass_on(const typename T::Object& object) {
        while (!transport_.send(peer_, object)) {
            verify(T::SURVIVES, "chain: the next function is dead");
            const auto successor =
                wait_for_peer(transport_, next_, [this] { return board_.over.load() != 0; });
            if (!successor) break;  // nobody waits for this state any more
            peer_ = *successor;
        }
        transport_.drop(object);
    }
    /// Whether this round's state comes; not when nothing does after a death.
    bool comes_back(std::uint32_t deaths) {
        constexpr double PATIENCE_NS = 100e6;
        for (;;) {
            const double begin = now_ns();
            const auto lost = [&] {
                return board_.kills.load() != deaths && now_ns() - begin > PATIENCE_NS;
            };
            auto message = wait_for_message(transport_, options_.waiting, lost);
            if (!message) return false;
            const State state = state_of(message->object);
            transport_.drop(message->object);
            if (state.round != round_) continue;  // of a round that was begun again
            verify(state.steps == options_.functions, "chain: a state has left functions out");
            return true;
        }
    }

    T& transport_;
    Board& board_;
    const Options& options_;
    unsigned next_;
    typename T::Peer peer_;
    std::uint64_t round_ = 0;
};

template <Transport T>
Figures run(const Launch& launch, const Options& options) {
    Plan plan;
    plan.members = options.functions;
    plan.links = ring(plan.members);
    plan.objects_each = 64;
    plan.largest = options.bytes + sizeof(State);
    plan.bytes_each = 8 * plan.largest;
    Team<T> team(launch, plan, [&options](T& transport, Board& board, unsigned me) {
        Function<T> function(transport, board, options, me);
        if (me == 0)
            function.lead(board.seats[0]);
        else
            function.serve();
    });
    if (!team.run()) return {};
    const Board::Seat& seat = team.board().seats[0];
    return {{"rounds", static_cast<double>(seat.done.load())},
            {"round_us", seat.figures[0] / 1e3},
            {"round_p99_us", seat.figures[1] / 1e3},
            {"make_us", seat.figures[2] / 1e3},
            {"step_us", seat.figures[0] / 1e3 / options.functions},
            {"begun_again", seat.figures[3]}};
}

/// The program, over these transports.
template <Transport... Ts>
int main_over(int count, char** words) {
    Options options;
    Launch launch;
    launch.program = "chain";
    CLI::App app{
        "chain - a workflow of functions that pass a state on\n\nEach function is a process that "
        "waits. It reads all of the state, "
        "checks it, adds to each word and passes it on. Prints medians of a round through all of "
        "them, of making its state, "
        "and of a step; and how many rounds were begun again because a function was killed."};
    add_options(app, launch, names<Ts...>());
    add_number(app, "--functions", options.functions, 3u, MOST_MEMBERS, "processes");
    add_number(app, "--bytes", options.bytes, 32, 16 << 20, "of the state");
    add_number(app, "--rounds", options.rounds, 1, 1'000'000'000, "through all functions");
    add_waiting(app, options.waiting);
    app.footer(
        "EXAMPLES\n  aep run --context shop -- chain --bytes 1048576\n  chain --nodes "
        "A/socket,B/socket --stay 2\n\n"
        "EXIT STATUS\n  0: each round came back as it must; 1: one did not; 2: bad usage");
    return main_of(app, launch, count, words, [&] {
        return over<Ts...>(launch.over, [&]<class T>(T*) { return run<T>(launch, options); });
    });
}

}  // namespace aep::apps::chain
