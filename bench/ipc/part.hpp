// Purpose: what the processes of a run do, whatever carries their messages.
// Who calls it: launcher.hpp.
// Crash rule: a measuring program.
#pragma once

#include <vector>

#include "bench/ipc/payload.hpp"
#include "bench/ipc/plan.hpp"

namespace aep::bench::ipc {

/// Messages that have come: of each sender all, in order, and as many as it says.
class Arrivals {
  public:
    void take(Stamp stamp) {
        const unsigned sender = stamp.sender();
        expect(sender < MANY, "a message of nobody");
        expect(stamp.number() == _next[sender], "a message is lost, comes twice or out of order");
        if (stamp.is_last()) {
            ++_ended;
        } else {
            ++_next[sender];
            ++_count;
        }
    }
    std::uint64_t count() const { return _count; }
    unsigned ended() const { return _ended; }

  private:
    std::uint64_t _next[MANY] = {}, _count = 0;
    unsigned _ended = 0;
};

/// How many messages in how long, from when the launcher says until the first sender has ended.
class Rate {
  public:
    /// `since_ns`: when the launcher said so; what passed until this process was there counts.
    void step(std::uint32_t phase, double since_ns, const Arrivals& arrivals) {
        if (_begin_ns == 0 && phase != WARM) [[unlikely]] {
            _begin_ns = since_ns;
            _begin_count = arrivals.count();
        }
        if (_end_ns == 0 && arrivals.ended() != 0) [[unlikely]] {
            _end_ns = now_ns();
            _end_count = arrivals.count();
        }
    }
    std::uint64_t counted(const Arrivals& arrivals) const {
        return _begin_ns == 0 ? 0 : arrivals.count() - _begin_count;
    }
    Result result(const Arrivals& arrivals) const {
        return {.messages = arrivals.count(),
                .samples = _end_count - _begin_count,
                .seconds = (_end_ns - _begin_ns) / 1e9,
                .p50_ns = 0,
                .p99_ns = 0};
    }

  private:
    double _begin_ns = 0, _end_ns = 0;
    std::uint64_t _begin_count = 0, _end_count = 0;
};

/// Times of single exchanges, by the time stamp counter, whose pace is measured meanwhile.
class Times {
  public:
    void begin() {
        _begin_ns = now_ns();
        _begin = _last = ticks();
        _samples.clear();
    }
    void step() {
        const std::uint64_t now = ticks();
        _samples.push_back(static_cast<double>(now - _last));
        _last = now;
    }
    std::uint64_t count() const { return _samples.size(); }
    Result result(std::uint64_t messages) {
        const double seconds = (now_ns() - _begin_ns) / 1e9;
        const double ns = seconds * 1e9 / static_cast<double>(ticks() - _begin);
        std::sort(_samples.begin(), _samples.end());
        const auto at = [&](double share) {
            return _samples.empty() ? 0
                                    : _samples[static_cast<std::size_t>(
                                          share * static_cast<double>(_samples.size() - 1))] *
                                          ns;
        };
        return {.messages = messages,
                .samples = _samples.size(),
                .seconds = seconds,
                .p50_ns = at(0.5),
                .p99_ns = at(0.99)};
    }
    explicit Times(std::size_t room) { _samples.reserve(room); }

  private:
    std::vector<double> _samples;
    double _begin_ns = 0;
    std::uint64_t _begin = 0, _last = 0;
};

/// One process's part in a run. Its ends are made when it is: all that a system must connect is connected when `meet()` of each
/// has returned.
template <class System>
class Part {
    using Sender = typename System::Sender;
    using Receiver = typename System::Receiver;
    using Shared = typename System::Shared;
    static constexpr std::size_t SAMPLES = 1 << 20;  // room that is there before time counts

  public:
    Part(Board<Shared>& board, unsigned number)
        : _board(board), _plan(board.plan), _number(number) {}

    void run() {
        const bool sends = _number < _plan.senders();
        const unsigned self = sends ? _number : _number - _plan.senders();
        if (sends) {
            Sender to(_plan, _board.shared, Path::FORWARD, self);
            if (_plan.back()) {
                Receiver from(_plan, _board.shared, Path::BACK, 0);
                meet(to, from);
                _plan.pattern == Pattern::REPLY ? ask(to, from) : send_windows(to, from);
                leave();
            } else {
                meet(to);
                send_all(to, self);
                leave();
            }
        } else {
            Receiver from(_plan, _board.shared, Path::FORWARD, self);
            if (_plan.back()) {
                Sender to(_plan, _board.shared, Path::BACK, 0);
                meet(from, to);
                _plan.pattern == Pattern::REPLY ? answer(from, to) : receive_windows(from, to);
                leave();
            } else {
                meet(from);
                receive_all(from);
                leave();
            }
        }
    }

  private:
    std::uint32_t phase() const { return _board.phase.load(std::memory_order_acquire); }
    bool enough(std::uint64_t sent) const {
        return _plan.messages != 0 ? sent == _plan.messages : phase() >= STOP;
    }
    Result& result() { return _board.results[_number]; }

    /// The launcher waits for that, however slow the machine is.
    void progress(std::uint64_t messages, std::uint64_t counted) {
        if (!_begun && messages != 0) [[unlikely]] {
            _begun = true;
            _board.begun.fetch_add(1);
        }
        if (!_measured && counted >= 2) [[unlikely]] {
            _measured = true;
            _board.measured.fetch_add(1);
        }
    }
    static void nap() { usleep(200); }
    void meet(auto&... ends) {
        (ends.meet(), ...);
        _board.ready.fetch_add(1);
        while (_board.ready.load() < _plan.parts()) nap();
    }
    /// Nobody takes its end away while others may still need it.
    void leave() {
        _board.done.fetch_add(1);
        while (phase() < LEAVE) nap();
    }

    void send(Sender& to, Path path, Stamp stamp) {
        const std::size_t size = _plan.size_of(path);
        to.send([=](void* message) { fill(message, size, stamp); });
    }
    Stamp receive(Receiver& from, Path path) {
        const std::size_t size = _plan.size_of(path);
        Stamp stamp{};
        from.receive([&](const void* message) { stamp = read(message, size); });
        return stamp;
    }

    void send_all(Sender& to, unsigned self) {
        std::uint64_t sent = 0;
        for (; !enough(sent); ++sent) send(to, Path::FORWARD, Stamp::of(self, sent));
        send(to, Path::FORWARD, Stamp::last(self, sent));
        if constexpr (requires { to.flush(); }) to.flush();  // of one that waits for more
    }
    void receive_all(Receiver& from) {
        Arrivals arrivals;
        Rate rate;
        while (arrivals.ended() < _plan.senders()) {
            arrivals.take(receive(from, Path::FORWARD));
            rate.step(phase(), _board.measure_ns, arrivals);
            progress(arrivals.count(), rate.counted(arrivals));
        }
        result() = rate.result(arrivals);
    }

    void send_windows(Sender& to, Receiver& from) {
        std::uint64_t sent = 0;
        while (!enough(sent)) {
            send(to, Path::FORWARD, Stamp::of(0, sent++));
            if (sent % _plan.window() == 0)
                expect(receive(from, Path::BACK).number() == sent, "a false acknowledgement");
        }
        send(to, Path::FORWARD, Stamp::last(0, sent));
    }
    void receive_windows(Receiver& from, Sender& to) {
        Arrivals arrivals;
        Rate rate;
        while (arrivals.ended() == 0) {
            arrivals.take(receive(from, Path::FORWARD));
            rate.step(phase(), _board.measure_ns, arrivals);
            progress(arrivals.count(), rate.counted(arrivals));
            if (arrivals.ended() == 0 && arrivals.count() % _plan.window() == 0)
                send(to, Path::BACK, Stamp::of(0, arrivals.count()));
        }
        result() = rate.result(arrivals);
    }

    void ask(Sender& to, Receiver& from) {
        Times times(SAMPLES);
        bool counts = false;
        std::uint64_t sent = 0;
        for (; !enough(sent); ++sent) {
            if (!counts && phase() != WARM) {
                counts = true;
                times.begin();
            }
            send(to, Path::FORWARD, Stamp::of(0, sent));
            expect(receive(from, Path::BACK).number() == sent, "the answer to another message");
            if (counts) times.step();
            progress(sent + 1, times.count());
        }
        result() = times.result(sent);
        send(to, Path::FORWARD, Stamp::last(0, sent));
    }
    void answer(Receiver& from, Sender& to) {
        Arrivals arrivals;
        for (;;) {
            const Stamp stamp = receive(from, Path::FORWARD);
            arrivals.take(stamp);
            if (stamp.is_last()) break;
            send(to, Path::BACK, Stamp::of(0, stamp.number()));
        }
        result() = {
            .messages = arrivals.count(), .samples = 0, .seconds = 0, .p50_ns = 0, .p99_ns = 0};
    }

    Board<Shared>& _board;
    const Plan _plan;  // a copy: nobody writes beside it
    const unsigned _number;
    bool _begun = false, _measured = false;
};

}  // namespace aep::bench::ipc
