// Purpose: a key-value store under load: each member writes a partition of its own and reads everybody's; every value
//          that is read is checked, and whoever takes a killed writer's partition over finds all that it had written.
// Who calls it: main.cpp, and the programs of bench/apps.
// Crash rule: that of the store.
#pragma once

#include <cmath>

#include "apps/common/clock.hpp"
#include "apps/common/options.hpp"
#include "apps/kv/partition.hpp"

namespace aep::apps::kv {

struct Options {
    unsigned clients = 2;
    std::uint64_t operations = 100'000;
    std::uint64_t keys = 10'000;  // of each partition
    std::size_t bytes = 64;       // of a value
    unsigned reads = 95;          // percent
    double zipf = 0;              // exponent; 0: uniform
    bool in_place = false;
    bool churn = false;
};

/// Numbers below `count`, by Zipf's law or uniform.
class Choice {
  public:
    Choice(std::uint64_t count, double exponent) : count_(count) {
        double sum = 0;
        for (std::uint64_t i = 0; exponent > 0 && i < count; ++i) {
            sum += 1 / std::pow(static_cast<double>(i + 1), exponent);
            sums_.push_back(sum);
        }
    }
    template <class Random>
    std::uint64_t operator()(Random& random) const {
        if (sums_.empty()) return random() % count_;
        const double at = static_cast<double>(random() >> 11) * 0x1p-53 * sums_.back();
        return static_cast<std::uint64_t>(std::lower_bound(sums_.begin(), sums_.end(), at) -
                                          sums_.begin()) %
               count_;
    }

  private:
    std::uint64_t count_;
    std::vector<double> sums_;
};

/// What a value begins with; its last byte is the operation's lowest.
struct Stamp {
    std::uint64_t operation;
    std::uint64_t check;
};

template <class Store>
class Member {
  public:
    Member(Store& store, Board& board, const Options& options, unsigned me)
        : store_(store),
          board_(board),
          seat_(board.seats[me]),
          options_(options),
          me_(me),
          random_(board.ready.load() * 7919 + me),
          choice_(options.keys, options.zipf) {}

    void run() {
        store_.open(options_.keys * (options_.bytes * (options_.in_place ? 2 : 1) + 256));
        take_over({seat_.done.load()}, {seat_.begun.load()});
        operation_ = Change{seat_.begun.load()}.operation();
        seat_.settled = 1;
        for (std::uint64_t key = 0; key < options_.keys; ++key) put(key);
        const double begin = now_ns();
        std::uint64_t done = 0;
        for (; done < options_.operations || board_.kills.load(std::memory_order_relaxed) != 0;
             ++done) {
            if (done % BETWEEN_LOOKS == 0) store_.look();
            if (random_() % 100 < options_.reads)
                get();
            else
                change();
        }
        seat_.figures[0] = static_cast<double>(done);
        seat_.figures[1] = now_ns() - begin;
        seat_.figures[2] = static_cast<double>(found_);
        // Others may still ask, and read.
        board_.finished.fetch_add(1);
        while (board_.finished.load() < options_.clients) {
            store_.look();
            sched_yield();
        }
    }

  private:
    static constexpr unsigned BETWEEN_LOOKS = 64;

    /// A change of a key, as a word: which of all changes, and what it does.
    struct Change {
        std::uint64_t bits;
        static Change make(std::uint64_t operation, std::uint64_t key, bool removes) {
            return {operation << 25 | key << 1 | (removes ? 1 : 0)};
        }
        std::uint64_t operation() const { return bits >> 25; }
        std::uint64_t key() const { return bits >> 1 & 0xff'ffff; }
        bool removes() const { return (bits & 1) != 0; }
        /// Whether the key is as this left it. `written`: by which operation its value was; 0: there is none.
        bool is_seen(std::uint64_t written) const {
            return written == (removes() ? 0 : operation());
        }
    };

    /// All that a predecessor has acknowledged is there: its last change is the key's, unless the one that it had begun
    /// afterwards is.
    void take_over(Change acknowledged, Change begun) {
        char text[40];
        const std::string_view name = key_of(me_, acknowledged.key(), text);
        std::uint64_t newest = 0;
        std::uint64_t written = 0;
        store_.scan(me_, [&](std::string_view key, const std::string& value) {
            const std::uint64_t operation = check(key, value);
            newest = std::max(newest, operation);
            if (key == name) written = operation;
        });
        verify(newest <= begun.operation(), "kv: a partition has a value that nobody has written");
        if (acknowledged.bits == 0) return;
        verify(acknowledged.is_seen(written) ||
                   (begun.key() == acknowledged.key() && begun.is_seen(written)),
               "kv: a partition was taken over without its last change");
    }

    /// Does what changes the key, between two notes: that it has begun, and that it is done.
    template <class Do>
    void acknowledged(std::uint64_t key, bool removes, Do&& change) {
        const Change made = Change::make(++operation_, key, removes);
        seat_.begun.store(made.bits);
        change();
        seat_.done.store(made.bits);
    }

    static std::string_view key_of(unsigned partition, std::uint64_t key, char (&text)[40]) {
        return {text, fmt::format_to_n(text, sizeof text, "user{}:{:010}", partition, key).size};
    }
    static std::uint64_t check_of(std::string_view key, std::uint64_t operation, std::size_t size) {
        return hash_of(key) ^ (operation * 0x9E3779B97F4A7C15u) ^ size;
    }
    void put(std::uint64_t key) {
        char text[40];
        const std::string_view name = key_of(me_, key, text);
        acknowledged(key, false, [&] { put(name, operation_); });
    }
    void put(std::string_view name, std::uint64_t operation) {
        value_.assign(std::max(options_.bytes, sizeof(Stamp)), static_cast<char>(operation));
        const Stamp stamp{operation, check_of(name, operation, value_.size())};
        std::memcpy(value_.data(), &stamp, sizeof stamp);
        if (value_.size() > sizeof stamp) value_.back() = static_cast<char>(operation);
        store_.put(name, value_, options_.in_place);
    }
    /// Its operation.
    static std::uint64_t check(std::string_view key, const std::string& value) {
        Stamp stamp{};
        verify(value.size() >= sizeof stamp, "kv: a value is too short");
        std::memcpy(&stamp, value.data(), sizeof stamp);
        verify(stamp.check == check_of(key, stamp.operation, value.size()) &&
                   (value.size() == sizeof stamp ||
                    value.back() == static_cast<char>(stamp.operation)),
               "kv: a value is torn, or another key's");
        return stamp.operation;
    }
    void change() {
        const std::uint64_t key = choice_(random_);
        char text[40];
        if (options_.churn && random_() % 2 == 0)
            acknowledged(key, true, [&] { store_.remove(key_of(me_, key, text)); });
        else
            put(key);
    }
    void get() {
        const auto partition = static_cast<unsigned>(random_() % options_.clients);
        char text[40];
        const std::string_view name = key_of(partition, choice_(random_), text);
        if (!store_.get(partition, name, read_)) return;
        ++found_;
        check(name, read_);
    }

    Store& store_;
    Board& board_;
    Board::Seat& seat_;
    const Options& options_;
    unsigned me_;
    std::mt19937_64 random_;
    Choice choice_;
    std::uint64_t operation_ = 0;
    std::uint64_t found_ = 0;
    std::string value_;
    std::string read_;
};

template <class Store>
Figures run(const Launch& launch, const Options& options) {
    Plan plan;
    plan.members = options.clients;
    plan.all_are_mortal = options.clients > 2;  // what one holds another does, too
    plan.objects_each = options.keys * 6 + 65536;
    plan.largest = std::max(options.bytes * 2, Table::SEGMENT * sizeof(Table::Bucket)) + 256;
    plan.bytes_each = plan.objects_each * (options.bytes * 2 + 256) + 4 * plan.largest;
    for (unsigned i = 0; i < plan.members; ++i)
        for (unsigned k = 0; k < i; ++k) plan.links.emplace_back(k, i);
    Team<Store> team(launch, plan, [&options](Store& store, Board& board, unsigned me) {
        if (options.clients <= 2) bind_to_processor(me);
        Member<Store>(store, board, options, me).run();
    });
    if (!team.run()) return {};
    double operations = 0;
    double longest = 0;
    double found = 0;
    double writes = 0;
    for (unsigned i = 0; i < options.clients; ++i) {
        const Board::Seat& seat = team.board().seats[i];
        operations += seat.figures[0];
        longest = std::max(longest, seat.figures[1]);
        found += seat.figures[2];
        writes += static_cast<double>(seat.done.load() >> 25);
    }
    return {{"operations", operations},
            {"operations_per_second", operations / longest * 1e9},
            {"found", found},
            {"writes", writes}};
}

/// The program, over these stores.
template <class... Stores>
int main_over(int count, char** words) {
    Options options;
    Launch launch;
    launch.program = "kv";
    CLI::App app{
        "kv - a key-value store whose readers need nobody\n\nEach process writes a partition of "
        "its own and reads those of all, "
        "where they are, without asking their writers. Every value that is read is checked. Prints "
        "the operations of all per "
        "second, how many reads found their key, and how many values were written."};
    add_options(app, launch, names<Stores...>());
    add_number(app, "--clients", options.clients, 1u, 32u, "processes, each with a partition");
    add_number(app, "--operations", options.operations, 1, 1'000'000'000, "of each process");
    add_number(app, "--keys", options.keys, 1, 1 << 24, "of each partition");
    add_number(app, "--bytes", options.bytes, 1, 16 << 20, "of a value; at least 16");
    add_number(app, "--reads", options.reads, 0u, 100u, "percent of the operations");
    add_number(app, "--zipf", options.zipf, 0.0, 3.0,
               "keys are chosen by Zipf's law with this exponent; 0: all alike");
    app.add_flag("--in-place", options.in_place,
                 "change values in place instead of replacing them");
    app.add_flag("--churn", options.churn, "half of the changes remove the key");
    app.footer(
        "EXAMPLES\n  aep run --context shop -- kv --clients 4 --reads 50 --zipf 0.99\n  aep run "
        "--context shop -- kv --clients 3 --kills "
        "20\n\nEXIT STATUS\n  0: no value was lost or torn; 1: one was, or a process failed; 2: "
        "bad usage");
    return main_of(app, launch, count, words, [&] {
        return over<Stores...>(launch.over, [&]<class S>(S*) { return run<S>(launch, options); });
    });
}

}  // namespace aep::apps::kv
