// Purpose: fuzz target: messages of any bytes, binary and JSON, get an answer or the end of their
//          connection; the daemon goes on.
// Who calls it: ci/fuzz.sh; build/fuzz/tests/fuzz/fuzz_protocol.
// Crash rule: what a finding leaves is in a folder that ci/fuzz.sh removes.
//
// An input is what one peer sends: messages of a kind (a byte: raw, a good ask with edits, or one of another length), a
// length (2 bytes) and bytes. The daemon's own loop serves it in another thread.
#include <poll.h>
#include <sys/socket.h>

#include <memory>
#include <thread>

#include "tests/fuzz/fuzz_host.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/node/attach.hpp"
#include "tools/daemon/background.hpp"
#include "tools/daemon/server.hpp"

namespace {

using namespace aep;

constexpr int PATIENCE_MS = 8000;

struct World {
    fuzz::Folder folder{"protocol"};
    NodeOptions options = folder.options("d");
    NoCompletion completion;
    NoCapture capture;
    NodeHost host{options, completion, fuzz::silent()};
    ServiceManager nobody;
    std::unique_ptr<Server> server =
        std::make_unique<Server>(host, capture, completion, fuzz::silent(), nobody, [] {});
    std::thread loop{[this] {
        server->run();
        server.reset();  // and its connections: who took it down learns that it is
    }};

    ~World() { loop.join(); }
};

/// The daemon; another one when the last has been taken down.
std::unique_ptr<World> world;

void send_message(int fd, const void* bytes, usize count) {
    send(fd, bytes, count, MSG_NOSIGNAL);  // the other end may have had enough
}

/// Reads, and closes what came along, until the daemon ends the connection. Whether it lets us in.
bool drain(int fd) {
    bool let_in = false;
    for (;;) {
        pollfd ready{fd, POLLIN, 0};
        if (poll(&ready, 1, PATIENCE_MS) == 0) fuzz::broken("no answer");
        u8 bytes[4096];
        UniqueFd fds[ATTACH_FDS];
        const ssize_t got = test::receive(fd, bytes, sizeof bytes, fds);
        if (got <= 0) return let_in;
        AnswerMessage answer{};
        if (got != sizeof answer || bytes[0] != 0) continue;
        std::memcpy(&answer, bytes, sizeof answer);
        let_in = let_in || (answer.error == 0 && answer.client != 0);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t bytes) {
    static const int at_exit = std::atexit([] {
        if (world == nullptr) return;
        const UniqueFd fd = test::connect_to(world->options.paths.socket);
        const char down[] = "{\"command\":\"down\",\"force\":true}";
        send_message(fd.get(), down, sizeof down - 1);
        world.reset();
    });
    (void)at_exit;
    const fuzz::Quiet quiet;
    UniqueFd fd;
    if (world != nullptr) fd = test::connect_to(world->options.paths.socket);
    if (!fd) {
        world.reset();
        world = std::make_unique<World>();
        fd = test::connect_to(world->options.paths.socket);
    }
    fuzz::Input input(data, bytes);
    bool whole = false;  // something that has an ask's length was sent
    for (u32 i = 0; i < 16 && !input.empty(); ++i) {
        const u8 kind = input.take<u8>();
        const u16 said = input.take<u16>();
        usize length = std::min<usize>(said, input.left());
        const AskMessage good = test::good_ask((kind & 4) != 0 ? Ask::attach : Ask::complete_slot);
        if (kind % 4 == 0) {
            AskMessage ask = good;
            fuzz::Input edits(input.at(), length);
            for (u32 e = 0; e < kind / 64u && !edits.empty(); ++e)
                fuzz::edit(edits, reinterpret_cast<u8*>(&ask), sizeof ask);
            send_message(fd.get(), &ask, sizeof ask);
            whole = true;
        } else if (kind % 4 == 2) {
            u8 more[2 * sizeof good] = {};
            std::memcpy(more, &good, sizeof good);
            const usize other = said % sizeof more;
            send_message(fd.get(), more, other);
            whole = whole || other == sizeof good;
            length = 0;
        } else {
            whole = whole || length == sizeof good;
            send_message(fd.get(), input.at(), length);
        }
        input.skip(length);
    }
    shutdown(fd.get(), SHUT_WR);
    if (drain(fd.get()) && !whole) fuzz::broken("let in by what is no message of ours");
    return 0;
}
