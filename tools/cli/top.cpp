// Purpose: see top.hpp.
// Who calls it: see top.hpp.
// Crash rule: see top.hpp.
#include "tools/cli/top.hpp"

#include <errno.h>
#include <fmt/format.h>
#include <ncurses.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <sstream>

#include "node/node_error.hpp"
#include "tools/cli/client_order.hpp"
#include "tools/cli/rates.hpp"
#include "tools/cli/show.hpp"

namespace aep {
namespace {

constexpr int KEY_ESCAPE = 27;

/// What one look at the daemon shows: its answer, and what happened a second since the look before.
struct Frame {
    Json answer, rates;
    bool is_first = false;  // nothing to compare with: no rates
    const Json& status() const { return answer.at("status"); }
    const Json& clients() const { return answer.at("clients"); }
};

/// `before`: the answer of the look before, or an empty object. Throws NodeError: the daemon has ended, or refuses.
Frame look(const Target& target, const Json& before) {
    const std::optional<Json> answered =
        ask_daemon(target.paths, {{"command", "top"}}, target.patience_ms);
    if (!answered)
        throw NodeError(ESRCH, "the daemon of context " + target.paths.name +
                                   " has ended: aep up starts the next one");
    if (!answered->value("ok", false))
        throw NodeError(EIO, answered->value("error",
                                             "the daemon gave no answer: is it of "
                                             "another version than aep?"));
    Frame frame{*answered, {}, before.empty()};
    add_client_rates(before, frame.answer);
    frame.rates = rates_between(before.value("status", Json::object()), frame.status());
    return frame;
}

std::string text_of_rates(const Frame& frame) {
    return frame.is_first ? "a second  from the second look on\n" : rates_text(frame.rates);
}

void wait(double seconds) {
    timespec time{static_cast<time_t>(seconds), 0};
    time.tv_nsec = static_cast<long>((seconds - static_cast<double>(time.tv_sec)) * 1e9);
    nanosleep(&time, nullptr);
}

/// Where nobody presses keys: a file, a pipe.
int print_frames(const Target& target, const TopOptions& options, const ClientOrder& order) {
    Json before = Json::object();
    for (unsigned i = 0; options.count == 0 || i < options.count; ++i) {
        if (i != 0) wait(options.interval_s);
        const Frame frame = look(target, before);
        const Json shown = chosen_clients(frame.clients(), order, false, options.filter);
        std::string text;
        if (target.json) {
            text = json_text(
                {{"status", frame.status()}, {"rates", frame.rates}, {"clients", shown}}, -1);
        } else {
            text = fmt::format("{}{}{}\n{}", i == 0 ? "" : "\n", status_text(frame.status()),
                               text_of_rates(frame), clients_text(shown));
        }
        std::fputs(text.c_str(), stdout);
        std::fflush(stdout);
        before = frame.answer;
    }
    return 0;
}

/// The terminal as ncurses wants it, for a scope.
class Terminal {
  public:
    Terminal() {
        initscr();
        cbreak();
        noecho();
        curs_set(0);
        keypad(stdscr, TRUE);
        set_escdelay(25);
        const char* const plain = std::getenv("NO_COLOR");
        if (has_colors() && (plain == nullptr || *plain == '\0')) {
            start_color();
            use_default_colors();
            init_pair(BAD, COLOR_RED, -1);
            init_pair(HEAD, COLOR_CYAN, -1);
        }
    }
    ~Terminal() { endwin(); }
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;

    enum Pair : short { PLAIN = 0, BAD = 1, HEAD = 2 };
};

class Screen {
  public:
    Screen(const Target& target, const TopOptions& options, const ClientOrder& order)
        : target_(target), options_(options), order_(&order), filter_(options.filter) {}

    int run() {
        for (unsigned i = 0; (options_.count == 0 || i < options_.count) && !ends_; ++i) {
            frame_ = look(target_, frame_.answer);
            draw();
            take_keys(i + 1 == options_.count ? 0 : options_.interval_s);
        }
        return 0;
    }

  private:
    void draw() {
        erase();
        row_ = 0;
        const bool live = frame_.status().at("state") == "live";
        lines(status_text(frame_.status()), live ? Terminal::PLAIN : Terminal::BAD, !live);
        lines(text_of_rates(frame_), Terminal::PLAIN, false);
        line("", A_NORMAL);
        if (typing_ || !filter_.empty())
            line(fmt::format("names with: {}{}", filter_, typing_ ? "_" : ""), A_BOLD);
        const Json shown = chosen_clients(frame_.clients(), *order_, reversed_, filter_);
        lines(clients_text(shown), Terminal::HEAD, true);
        draw_foot();
        refresh();
    }

    /// `strong_first`: the first of them in those colours.
    void lines(const std::string& text, Terminal::Pair pair, bool strong_first) {
        std::istringstream all(text);
        bool first = true;
        for (std::string one; std::getline(all, one); first = false)
            line(one, strong_first && first ? COLOR_PAIR(pair) | A_BOLD : A_NORMAL);
    }

    /// A line that fits, the last row left free.
    void line(const std::string& text, unsigned long attributes) {
        if (row_ >= LINES - 1) return;
        attrset(static_cast<int>(attributes));
        mvaddnstr(row_++, 0, text.c_str(), COLS);
    }

    void draw_foot() {
        std::string keys = "q quit  / filter  r reverse  sort:";
        for (const ClientOrder& order : client_orders())
            keys += &order == order_ ? fmt::format(" [{} {}]", order.key, order.name)
                                     : fmt::format(" {} {}", order.key, order.name);
        attrset(A_REVERSE);
        mvaddnstr(LINES - 1, 0, fmt::format("{:<{}}", keys, COLS).c_str(), COLS);
    }

    /// Keys until the next frame is due.
    void take_keys(double seconds) {
        timespec now{};
        clock_gettime(CLOCK_MONOTONIC, &now);
        const auto ms = [](const timespec& t) { return t.tv_sec * 1000 + t.tv_nsec / 1'000'000; };
        const long due = ms(now) + static_cast<long>(seconds * 1000);
        for (long left = due - ms(now); !ends_ && left > 0; left = due - ms(now)) {
            timeout(static_cast<int>(left));
            if (const int key = getch(); key != ERR) {
                typing_ ? type(key) : press(key);
                draw();
            }
            clock_gettime(CLOCK_MONOTONIC, &now);
        }
    }

    void press(int key) {
        const auto& orders = client_orders();
        const auto chosen = std::find_if(orders.begin(), orders.end(),
                                         [&](const ClientOrder& o) { return o.key == key; });
        if (chosen != orders.end()) {
            order_ = &*chosen;
        } else if (key == 'q' || key == 'Q') {
            ends_ = true;
        } else if (key == 'r') {
            reversed_ = !reversed_;
        } else if (key == '/') {
            typing_ = true;
            filter_.clear();
        } else if (key == KEY_ESCAPE) {
            filter_.clear();
        }
    }

    void type(int key) {
        if (key == '\n' || key == KEY_ENTER) {
            typing_ = false;
        } else if (key == KEY_ESCAPE) {
            typing_ = false;
            filter_.clear();
        } else if (key == KEY_BACKSPACE || key == '\b' || key == 127) {
            if (!filter_.empty()) filter_.pop_back();
        } else if (key >= ' ' && key <= '~') {
            filter_ += static_cast<char>(key);
        }
    }

    const Target& target_;
    const TopOptions& options_;
    const ClientOrder* order_;
    std::string filter_;
    Frame frame_{Json::object(), {}, true};
    int row_ = 0;
    bool reversed_ = false, typing_ = false, ends_ = false;
};

}  // namespace

int show_top(const Target& target, const TopOptions& options) {
    const ClientOrder& order = *order_by_name(options.sort);
    must_ask(target, {{"command", "ping"}});  // exits, and says why, if there is no daemon
    if (target.json || isatty(STDOUT_FILENO) == 0 || isatty(STDIN_FILENO) == 0)
        return print_frames(target, options, order);
    // What goes wrong later is said when the screen has been put right: by main, behind this scope.
    const Terminal terminal;
    return Screen(target, options, order).run();
}

}  // namespace aep
