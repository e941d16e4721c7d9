// Purpose: what pipes and sockets have in common: a pair of descriptors for each pair of processes, of which many may be waited for.
// Who calls it: pipe.cpp, socket.cpp.
// Crash rule: nothing outlives the descriptors.
#pragma once

#include <fcntl.h>
#include <immintrin.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "bench/ipc/launcher.hpp"

namespace aep::bench::ipc {

/// Of each lane: what its sender writes to, and what its receiver reads from.
struct Descriptors {
    int ends[Plan::LANES][2];

    void make(const Plan& plan, auto&& connect) {
        for (unsigned i = 0; i < plan.lane_count(Path::FORWARD); ++i) connect(ends[i]);
        if (plan.back()) connect(ends[Plan::lane(Path::BACK, 0)]);
        if (!plan.polls()) return;
        for (const auto& lane : ends)
            for (const int fd : lane)
                if (fd != 0) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    }
};

/// The lanes that one process sends to, or receives from.
class LaneEnd {
  public:
    unsigned lanes() const { return _lanes; }
    std::size_t size() const { return _size; }
    int fd(unsigned lane) const { return _fds[lane].fd; }
    void meet() {}
    /// What a call has moved; 0: nothing yet, and this process polls.
    static std::size_t moved(ssize_t result) {
        if (result > 0) return static_cast<std::size_t>(result);
        expect(result < 0 && (errno == EAGAIN || errno == EWOULDBLOCK), "the other side is gone");
        _mm_pause();
        return 0;
    }

  protected:
    LaneEnd(const Plan& plan, const Descriptors& shared, Path path, unsigned self, bool sends)
        : _polls(plan.polls()), _size(plan.size_of(path)) {
        const unsigned own = sends ? plan.senders() : plan.receivers();
        const unsigned all = plan.lane_count(path);
        // Who is alone on a side has all the lanes.
        const unsigned first = own == 1 ? 0 : self;
        _lanes = own == 1 ? all : 1;
        for (unsigned i = 0; i < _lanes; ++i)
            _fds[i] = {.fd = shared.ends[Plan::lane(path, first + i)][sends ? 0 : 1],
                       .events = POLLIN,
                       .revents = 0};
    }

    const bool _polls;
    const std::size_t _size;
    unsigned _lanes;
    pollfd _fds[MANY];
};

class SendingEnd : public LaneEnd {
  public:
    SendingEnd(const Plan& plan, const Descriptors& shared, Path path, unsigned self)
        : LaneEnd(plan, shared, path, self, true), _message(size()) {}
    char* message() { return _message.data(); }

  private:
    std::vector<char> _message;
};

class ReceivingEnd : public LaneEnd {
  public:
    ReceivingEnd(const Plan& plan, const Descriptors& shared, Path path, unsigned self)
        : LaneEnd(plan, shared, path, self, false) {}

  protected:
    /// The next lane, from the one after `last`, that is worth a read: of several that may sleep, one in which something is.
    unsigned readable(unsigned last) {
        if (_lanes == 1) return 0;
        if (_polls) return (last + 1) % _lanes;
        for (;;) {
            for (unsigned i = 1; i <= _lanes; ++i) {
                pollfd& lane = _fds[(last + i) % _lanes];
                if ((lane.revents & POLLIN) == 0) continue;
                lane.revents = 0;
                return (last + i) % _lanes;
            }
            expect(poll(_fds, _lanes, -1) > 0, "nothing can be waited for");
        }
    }
};

}  // namespace aep::bench::ipc
