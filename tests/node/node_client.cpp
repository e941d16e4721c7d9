// Purpose: a client for the tests of the daemon and the command line: attaches to a socket and does
//          what it reads from fd 0, a line a command; answers each with a line.
// Who calls it: tests/node/node_test.py and the tests of the daemon.
// Crash rule: it is there to be killed.
#include <sys/wait.h>

#include <iostream>
#include <sstream>

#include "dsm-core/sharing/share_ops.hpp"
#include "tests/node/client.hpp"

namespace {

using namespace aep;

int attach_and_work(const char* path) {
    const UniqueFd socket = test::connect_to(path);
    test::must(bool(socket), "connect");
    const AskMessage ask = test::good_ask();
    test::must(send(socket.get(), &ask, sizeof ask, 0) == sizeof ask, "send");
    AnswerMessage answer{};
    UniqueFd fds[ATTACH_FDS];
    test::must(test::receive_answer(socket.get(), answer, fds), "answer");
    if (answer.error != 0) {
        std::cout << "refused " << answer.error << " " << answer.text << std::endl;
        return 3;
    }
    test::Client client(answer, fds);
    for (UniqueFd& fd : fds) fd.reset();
    std::cout << "client " << client.index() << std::endl;
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream words(line);
        std::string command;
        u64 a = 0, b = 0;
        words >> command >> a >> b;
        if (command == "fill") {  // pages, bytes
            std::cout << client.fill(static_cast<u32>(a), b) << std::endl;
        } else if (command == "claim") {  // chunks
            std::cout << client.claim(static_cast<u32>(a)) << std::endl;
        } else if (command == "large") {  // slices
            std::cout << client.large(static_cast<u32>(a)) << std::endl;
        } else if (command == "inside") {  // operation
            client.pretend_inside(static_cast<u32>(a));
            std::cout << client.slot() << std::endl;
        } else if (command == "complete") {  // slot
            AskMessage complete = test::good_ask(Ask::complete_slot);
            complete.slot = static_cast<u32>(a);
            test::must(send(socket.get(), &complete, sizeof complete, 0) == sizeof complete,
                       "send");
            if (!test::receive_answer(socket.get(), answer, fds)) break;
            std::cout << answer.error << " " << answer.text << std::endl;
        } else if (command == "share") {
            const Reply reply = client.ask(static_cast<u32>(ShareOp::open), {});
            std::cout << static_cast<u32>(reply.status) << std::endl;
        } else if (command == "stuck") {  // inside, behind a lock that nobody will free
            sharing().lock.lock(client.slot());
            std::cout << "going" << std::endl;
            client.ask(static_cast<u32>(ShareOp::open), {});
        } else if (command == "churn") {  // until the end, nearly always inside the image
            std::cout << "going" << std::endl;
            client.churn();
        } else if (command == "exit") {
            break;
        }
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return argc == 2 ? attach_and_work(argv[1]) : 2;
    } catch (const std::exception& error) {
        std::cout << "failed " << error.what() << std::endl;
        return 1;
    }
}
