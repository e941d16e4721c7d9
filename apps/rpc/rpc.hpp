// Purpose: requests and replies by reference: clients send an object, a list or a tree to one server, which reads all of
//          it, writes the result into it and sends it back.
// Who calls it: main.cpp, and bench/apps/rpc.cpp over the flat baseline.
// Crash rule: a client that is killed costs the server nothing: what it sent is served, and the reply goes nowhere.
#pragma once

#include "apps/common/clock.hpp"
#include "apps/common/options.hpp"

namespace aep::apps::rpc {

enum class Shape : std::uint32_t { object, list, tree };

struct Options {
    Shape shape = Shape::object;
    Waiting waiting = Waiting::polling;
    unsigned clients = 1;
    std::uint64_t calls = 20'000;
    std::size_t bytes = 64;       // of an object
    std::uint64_t length = 1000;  // of a list
    unsigned height = 10;         // of a tree
    bool reuse = false;

    std::uint64_t nodes() const {
        return shape == Shape::object ? 0
               : shape == Shape::list ? length
                                      : (std::uint64_t{2} << height) - 1;
    }
};

/// What is sent. The client writes all but the last two members.
struct Request {
    Structure nodes;
    Shape shape;
    std::uint64_t number;
    std::uint64_t result;  // of an object: number + 1; of nodes: the sum of their values
    double walk_ns;
};

template <Transport T>
void serve(T& transport, Board& board, const Options& options) {
    const auto over = [&board] { return board.over.load() != 0; };
    while (auto message = wait_for_message(transport, options.waiting, over)) {
        verify(transport.size(message->object) >= sizeof(Request), "a request is too small");
        auto* request = static_cast<Request*>(transport.body(message->object));
        if (request->shape == Shape::object) {
            request->result = request->number + 1;
        } else {
            const double begin = now_ns();
            request->result = request->shape == Shape::list ? walk_list(request->nodes.first)
                                                            : walk_tree(request->nodes.first);
            request->walk_ns = now_ns() - begin;
        }
        transport.answer(message->from, message->object);
        transport.drop(message->object);
    }
}

/// What a client's calls took, ns.
struct Times {
    std::vector<double> build, call, walk, drop;
};

template <Transport T>
class Client {
  public:
    Client(T& transport, Board& board, const Options& options)
        : transport_(transport),
          board_(board),
          options_(options),
          server_(wait_for_peer(transport, 0)) {}

    /// As many as were asked for, and more while others are still to be killed.
    void run(unsigned me) {
        Board::Seat& seat = board_.seats[me];
        seat.done = 0;
        const double begin = now_ns();
        std::optional<typename T::Object> kept;
        for (std::uint64_t i = 0;
             i < options_.calls || board_.kills.load(std::memory_order_relaxed) != 0; ++i) {
            const double start = now_ns();
            typename T::Object object = kept ? *kept : build();
            const double built = now_ns();
            const double walk = call(object, i);
            const double answered = now_ns();
            if (options_.reuse)
                kept = object;
            else
                transport_.drop(object);
            if (times_.call.size() < SAMPLES) {
                times_.build.push_back(built - start);
                times_.call.push_back(answered - built);
                times_.walk.push_back(walk);
                times_.drop.push_back(now_ns() - answered);
            }
            seat.done.store(i + 1, std::memory_order_relaxed);
        }
        if (kept) transport_.drop(*kept);
        const double figures[] = {now_ns() - begin,           quantile(times_.build, 0.5),
                                  quantile(times_.call, 0.5), quantile(times_.call, 0.99),
                                  quantile(times_.walk, 0.5), quantile(times_.drop, 0.5)};
        std::copy(std::begin(figures), std::end(figures), seat.figures);
    }

  private:
    static constexpr std::size_t SAMPLES = 1'000'000;

    typename T::Object build() {
        if (options_.shape == Shape::object)
            return initialised(transport_.make(std::max(options_.bytes, sizeof(Request))));
        typename T::Object object =
            initialised(transport_.make_structure(sizeof(Request), options_.nodes()));
        const auto make = [&] { return transport_.add(object); };
        std::uint64_t number = 0;
        static_cast<Request*>(transport_.body(object))->nodes.first =
            options_.shape == Shape::list ? build_list(options_.length, make)
                                          : build_tree(options_.height, number, make);
        return object;
    }
    typename T::Object initialised(typename T::Object object) {
        *static_cast<Request*>(transport_.body(object)) = {
            .nodes = {nullptr}, .shape = options_.shape, .number = 0, .result = 0, .walk_ns = 0};
        return object;
    }

    /// Sends it and waits until it is back; what the server's walk took.
    double call(typename T::Object& object, std::uint64_t number) {
        static_cast<Request*>(transport_.body(object))->number = number;
        verify(transport_.send(server_, object), "the server is dead");
        const auto over = [this] { return board_.over.load() != 0; };
        auto reply = wait_for_message(transport_, options_.waiting, over);
        verify(reply.has_value(), "no reply");
        const Request request = *static_cast<const Request*>(transport_.body(reply->object));
        transport_.drop(reply->object);
        const std::uint64_t nodes = options_.nodes();
        verify(request.number == number, "a reply to another request");
        verify(request.result == (nodes == 0 ? number + 1 : nodes * (nodes - 1) / 2),
               "a wrong result");
        return request.walk_ns;
    }

    T& transport_;
    Board& board_;
    const Options& options_;
    typename T::Peer server_;
    Times times_;
};

template <Transport T>
Figures run(const Launch& launch, const Options& options) {
    Plan plan;
    plan.members = options.clients + 1;
    plan.links = star(plan.members);
    plan.objects_each = options.nodes() + 64;
    plan.largest = std::max(options.bytes, sizeof(Request));
    plan.bytes_each = (options.nodes() + 64) * sizeof(Node) + 64 * plan.largest;
    Team<T> team(launch, plan, [&options](T& transport, Board& board, unsigned me) {
        if (options.clients == 1) bind_to_processor(me);
        if (me == 0)
            serve(transport, board, options);
        else
            Client<T>(transport, board, options).run(me);
    });
    if (!team.run()) return {};
    double calls = 0;
    double longest = 0;
    std::vector<double> columns[5];
    for (unsigned i = 1; i <= options.clients; ++i) {
        const Board::Seat& seat = team.board().seats[i];
        calls += static_cast<double>(seat.done.load());
        longest = std::max(longest, seat.figures[0]);
        for (unsigned k = 0; k < 5; ++k) columns[k].push_back(seat.figures[k + 1]);
    }
    const auto middle = [&columns](unsigned k) { return quantile(columns[k], 0.5) / 1e3; };
    return {{"calls", calls},           {"calls_per_second", calls / longest * 1e9},
            {"build_us", middle(0)},    {"call_us", middle(1)},
            {"call_p99_us", middle(2)}, {"walk_us", middle(3)},
            {"drop_us", middle(4)}};
}

/// The program, over these transports.
template <Transport... Ts>
int main_over(int count, char** words) {
    Options options;
    Launch launch;
    launch.program = "rpc";
    CLI::App app{
        "rpc - requests and replies by reference\n\nOne server and some clients, each a process. A "
        "client makes an object, a "
        "list or a tree, sends a reference to it, waits until the server has read all of it and "
        "sent it back with the "
        "result, checks that and drops it. Prints medians: build, call (there and back, with the "
        "walk), walk (by the "
        "server), drop; and the calls of all clients per second."};
    add_options(app, launch, names<Ts...>());
    add_choice<Shape>(app, "--shape", options.shape,
                      {{"object", Shape::object}, {"list", Shape::list}, {"tree", Shape::tree}},
                      "what is sent (default: object)");
    add_waiting(app, options.waiting);
    add_number(app, "--clients", options.clients, 1u, 32u, "processes that call");
    add_number(app, "--calls", options.calls, 1, 1'000'000'000, "of each client");
    add_number(app, "--bytes", options.bytes, 1, 16 << 20, "of an object");
    add_number(app, "--length", options.length, 1, 1 << 22, "nodes of a list");
    add_number(app, "--height", options.height, 0u, 20u, "of a tree; 0: one node");
    app.add_flag("--reuse", options.reuse,
                 "send one object again and again instead of a new one for each call");
    app.footer(
        "EXAMPLES\n  aep run --context shop -- rpc --shape tree --height 15\n  rpc --over unix "
        "--clients 4 --wait blocking\n\n"
        "EXIT STATUS\n  0: all calls were answered rightly; 1: not; 2: bad usage");
    return main_of(app, launch, count, words, [&] {
        return over<Ts...>(launch.over, [&]<class T>(T*) { return run<T>(launch, options); });
    });
}

}  // namespace aep::apps::rpc
