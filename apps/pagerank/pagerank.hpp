// Purpose: PageRank as a workflow of functions: the graph is made, divided, worked on in steps between which the ranks are
//          merged, and the result compared with what one alone reckons.
// Who calls it: main.cpp, and bench/apps/pagerank.cpp over the flat baseline.
// Crash rule: functions.hpp.
#pragma once

#include "apps/common/options.hpp"
#include "apps/pagerank/functions.hpp"

namespace aep::apps::pagerank {

/// Who sends to whom.
inline Links links_of(const Options& options) {
    Links links{{LEADER, DIVIDER}, {LEADER, MERGER}};
    for (unsigned i = 0; i < options.workers; ++i) {
        links.emplace_back(DIVIDER, FIRST_WORKER + i);
        links.emplace_back(MERGER, FIRST_WORKER + i);
    }
    return links;
}

inline Plan plan_of(const Options& options, const Shape& shape) {
    Plan plan;
    plan.members = FIRST_WORKER + options.workers;
    plan.links = links_of(options);
    plan.largest = sizeof(Letter) + shape.per_piece * sizeof(double);
    plan.objects_each = 2 * most_nodes(shape) + 4 * shape.pieces() + 256;
    plan.bytes_each = 2 * most_nodes(shape) * sizeof(Node) + 4 * shape.pieces() * plan.largest;
    return plan;
}

template <Transport T>
Figures run(const Launch& launch, const Options& options) {
    const Shape shape = shape_of(options.vertices, options.degree, options.piece, options.workers);
    Team<T> team(launch, plan_of(options, shape), [&](T& transport, Board& board, unsigned me) {
        if (me == LEADER) {
            std::vector<double> jobs = Leader<T>(transport, board, options, shape, me).run();
            board.seats[me].done = jobs.size();
            board.seats[me].figures[TOTAL] = quantile(jobs, 0.5);
        } else if (me == DIVIDER) {
            Divider<T>(transport, board, options, shape, me).run();
        } else if (me == MERGER) {
            Merger<T>(transport, board, options, shape, me).run();
        } else {
            Worker<T>(transport, board, options, shape, me).run();
        }
    });
    if (!team.run()) return {};
    const Board& board = team.board();
    const auto jobs = static_cast<double>(board.seats[LEADER].done.load());
    const auto each_job = [&](Figure figure) {  // of all functions, ms
        double sum = 0;
        for (unsigned i = 0; i < team.members(); ++i) sum += board.seats[i].figures[figure];
        return sum / jobs / 1e6;
    };
    return {{"jobs", jobs},
            {"job_ms", board.seats[LEADER].figures[TOTAL] / 1e6},
            {"memory_ms", each_job(MEMORY)},
            {"reckoning_ms", each_job(RECKONING)},
            {"sending_ms", each_job(SENDING)},
            {"under_way_us", board.seats[FIRST_WORKER].figures[UNDER_WAY] / 1e3}};
}

/// The program, over these transports.
template <Transport... Ts>
int main_over(int count, char** words) {
    Options options;
    Launch launch;
    launch.program = "pagerank";
    CLI::App app{
        "pagerank - a workflow that ranks the vertices of a graph\n\nA leader makes a graph of "
        "many "
        "small blocks; a divider copies it into a part for each worker; workers do a step of "
        "PageRank, a merger hands the pieces of one step on to the next. The leader compares the "
        "result, number by number, with what it reckons alone. Prints the median time of a job; of "
        "all functions together, for each job, the time that goes into making objects, reckoning "
        "and "
        "sending (with what serialises); and how long a worker's letters are under way."};
    add_options(app, launch, names<Ts...>());
    add_number(app, "--vertices", options.vertices, 8u, 4u << 20, "of the graph");
    add_number(app, "--degree", options.degree, 1u, 1000u, "links to a vertex, on average");
    add_number(app, "--workers", options.workers, 1u, MOST_MEMBERS - FIRST_WORKER, "processes");
    add_number(app, "--steps", options.steps, 1u, 1000u, "of PageRank");
    add_number(app, "--jobs", options.jobs, 1, 1'000'000, "one after the other");
    add_number(app, "--piece", options.piece, 64, 1 << 20, "bytes of ranks in an object at most");
    add_waiting(app, options.waiting);
    app.footer(
        "EXAMPLES\n  aep run --context shop -- pagerank --vertices 100000\n  pagerank --nodes "
        "A/socket,B/socket --kills 5\n\n"
        "EXIT STATUS\n  0: every rank is right; 1: one is not; 2: bad usage");
    return main_of(app, launch, count, words, [&] {
        return over<Ts...>(launch.over, [&]<class T>(T*) { return run<T>(launch, options); });
    });
}

}  // namespace aep::apps::pagerank
